"""The command line: `python -m mer ...` or `mer ...`.

Standard output carries only results; progress and messages go to standard error, as JSON lines where
`MER_PROGRESS=json` is set. Exit status: 0 on success, 1 if a check found something (`controls`), 2 on bad
input (one line, "error: ..."), 130 if stopped.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence

from mer.cli.output import STOPPED, error_line, print_anything
from mer.cli.parser import build_parser
from mer.utils.errors import MerError, Stop
from mer.utils.machine import wait_briefly

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    print_anything()
    _stop_cleanly_on_signals()
    wait_briefly()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = build_parser().parse_args(words)
    arguments.words = words
    try:
        return arguments.run(arguments) or 0
    except MerError as error:
        print(error_line(error), file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, Stop):
        print("stopped", file=sys.stderr)
        return STOPPED


def _stop_cleanly_on_signals() -> None:
    """Make SIGTERM, and SIGINT in a background job, stop a run as Ctrl-C does: recorded and resumable."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
