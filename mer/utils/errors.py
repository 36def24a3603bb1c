"""The errors that `mer` raises on purpose: one line that gives the bad value and the remedy.

Command line and pages show the text of a :class:`MerError` as it stands, so each message must make
sense to someone who has never read this code. Anything else that is raised is a bug.
"""

from mer.utils.text import visible


class MerError(Exception):
    """Root of all errors that a user can do something about; its text is one line, whatever it quotes."""

    def __str__(self) -> str:
        return visible(super().__str__())


class ConfigError(MerError, ValueError):
    """A setting has a value outside its range, or there is no such setting."""


class AudioError(MerError, ValueError):
    """A clip cannot be used: unreadable, empty, silent, too short, or not audio."""


class DataError(MerError, ValueError):
    """A data set cannot be used as a whole: missing, one class only, pointing outside its folder."""


class SplitError(MerError, ValueError):
    """Clips cannot be divided into the parts asked for."""


class BackboneError(MerError, ValueError):
    """There is no such backbone, or it cannot do what was asked of it."""


class WeightsError(MerError, OSError):
    """Pretrained weights cannot be had or do not fit."""


class CheckpointError(MerError, ValueError):
    """A checkpoint is missing, incomplete, or its card disagrees with its tensors."""


class Stop(Exception):  # noqa: N818 - a request, not an error
    """Raised to stop a run at the user's request. The state of the last whole epoch stays valid."""


class RunError(MerError, RuntimeError):
    """There is no such run, or its state does not allow what was asked."""


class LostError(RunError):
    """Another process of the same training has ended unexpectedly."""


class AccessError(MerError, PermissionError):
    """A visitor of the dashboard may not do that, or not now."""


class StorageError(MerError, OSError):
    """MER_HOME or an output folder cannot be written: full, read-only, or missing."""
