"""`mer serve`."""

import sys
from argparse import Namespace
from contextlib import suppress

from mer.cli.output import emit


def serve(arguments: Namespace) -> None:
    """Serve a checkpoint over HTTP until stopped."""
    from mer.inference.ensemble import open_predictor
    from mer.inference.serve import Limits, application, bound, server
    from mer.utils.machine import cores

    listener = open_predictor(arguments.checkpoint)
    limits = Limits(
        inside=arguments.max_inside,
        workers=cores() if arguments.workers is None else arguments.workers,
        batch_window=arguments.batch_window / 1000,
    )
    web = server(application(listener, limits), limits)
    with bound(arguments.host, arguments.port) as place:
        url = f"http://{arguments.host}:{place.getsockname()[1]}"
        data = {"url": url, "model": listener.card.title, "classes": list(listener.card.classes)}
        emit(data, as_json=arguments.json, text=f"{listener.card.title}: {url}/predict, {url}/docs")
        sys.stdout.flush()  # the reader may be a pipe
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal that ended it again
            web.run(sockets=[place])
