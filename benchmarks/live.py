"""Measure the CPU time of the server for one viewer of Live, with three active runs of 200 points.

    python -m benchmarks.live

Starts a server in a temporary home, three runs that log twice a second from here, and a headless Chromium
that looks on. Prints the share of one core that the server used, with the viewer and without.
"""

import os
import tempfile
import threading
import time
from pathlib import Path

import psutil

from mer.config.presets import IMAGES, preset
from mer.runs.store import RunStore

RUNS, POINTS, STEPS, SECONDS = 3, 200, 2000, 30.0


def begin(store: RunStore, number: int) -> str:
    """Create a run of this process with 200 logged steps and five epochs."""
    run_id = store.create(
        f"net{number} songs",
        {"data": "songs", "config": preset("default", backbone=IMAGES).to_dict()},
    )
    store.start(run_id)
    store.tag(run_id, {"mer.steps": str(STEPS), "mer.classes": "5", "mer.validation_clips": "40"})
    store.log(run_id, [(step, figures(step)) for step in range(1, POINTS + 1)])
    epochs = [(epoch, epoch_figures(epoch)) for epoch in range(1, 6)]
    store.log(run_id, epochs)
    return run_id


def figures(step: int) -> dict[str, float]:
    """The metrics that training logs after a step."""
    loss = 1.5 * 0.995**step
    return {"step_loss": loss, "step_accuracy": 1 - loss / 2, "progress": step / STEPS, "seconds_left": 60.0}


def epoch_figures(epoch: int) -> dict[str, float]:
    """The metrics that training logs after an epoch."""
    loss = 1.5 * 0.8**epoch
    kinds = {"train": loss, "validation": 1.1 * loss}
    figures = {f"{kind}_loss": value for kind, value in kinds.items()}
    figures |= {f"{kind}_accuracy": 1 - value / 2 for kind, value in kinds.items()}
    return figures | {"best_epoch": float(epoch), "epoch_seconds": 3.0}


def keep_logging(store: RunStore, runs: list[str], stop: threading.Event) -> None:
    """Log two steps per second for each run, as fast training does."""
    for step in range(POINTS + 1, STEPS):
        if stop.wait(0.5):
            return
        for run_id in runs:
            store.log(run_id, [(step, figures(step))])


def share_of_a_core(process: psutil.Process, seconds: float) -> float:
    """CPU time per second of a process from now on."""
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.monotonic() - began)


def measure(server: object, page: object, seconds: float = SECONDS) -> tuple[float, float]:
    """Shares of a core without a viewer and with one; `page` is a new Playwright page.

    The runs are kept in the home that MER_HOME names, which must be the server's.
    """
    store, stop = RunStore.open(), threading.Event()
    runs = [begin(store, number) for number in range(RUNS)]
    logging = threading.Thread(target=keep_logging, args=(store, runs, stop))
    logging.start()
    try:
        process = psutil.Process(server.process.pid)
        page.goto(f"{server.url}/live")
        page.locator("[data-testid=stVegaLiteChart]").nth(1).wait_for()
        page.wait_for_timeout(5000)
        with_viewer = share_of_a_core(process, seconds)
        page.goto("about:blank")
        page.wait_for_timeout(2000)
        return share_of_a_core(process, seconds / 3), with_viewer
    finally:
        stop.set()
        logging.join()
        for run_id in runs:
            store.finish(run_id, "stopped")


def main() -> None:
    """Measure in a temporary home and print the figures."""
    from benchmarks.browser import ROOT, Server, chromium

    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        os.environ["MER_HOME"] = folder
        with Server(ROOT / "streamlit_app.py", Path(folder)) as server:
            alone, watched = measure(server, browser.new_page())
    print(f"server without a viewer: {alone:.1%} of a core; with one viewer of Live: {watched:.1%}")  # noqa: T201


if __name__ == "__main__":
    main()
