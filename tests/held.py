"""`python -m tests.held EPOCH WORDS...` is `mer WORDS...`, but training pauses after that epoch.

By then the state and the metrics of the epoch are saved. A test that kills the process afterwards finds a run
with epochs left, however fast or slow the machine is.
"""

import sys
import time

from mer.cli import main
from mer.cli.epochs import EpochBar
from mer.experiments.callbacks import LogMetrics

__all__ = ["pause_after"]

LONGER_THAN_ANY_TEST = 3600  # s


def pause_after(epoch: int) -> None:
    """Make training in this process pause after that epoch."""
    note, tell = LogMetrics.on_epoch, EpochBar.on_epoch

    def log(self, state):
        note(self, state)
        self.flush()

    def pause(self, state):
        tell(self, state)
        if state.epoch == epoch:
            time.sleep(LONGER_THAN_ANY_TEST)

    LogMetrics.on_epoch, EpochBar.on_epoch = log, pause


if __name__ == "__main__":
    pause_after(int(sys.argv.pop(1)))
    sys.exit(main())
