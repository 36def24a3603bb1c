"""The errors that `mer` raises on purpose. Each message is one line with the bad value and the remedy.

Command line and pages show the text of a :class:`MerError` unchanged, so each message must make sense to
someone who has never read this code. Any other exception is a bug.
"""

from mer.utils.text import visible


def reason_of(error: BaseException, longest: int = 160) -> str:
    """First line of an error's text, cut to `longest` characters; its class's name if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:longest]


class MerError(Exception):
    """Base of all errors that a user can act on. Its text is always one line, whatever it quotes."""

    def __str__(self) -> str:
        return visible(super().__str__())


class ConfigError(MerError, ValueError):
    """A setting is unknown, or its value is invalid."""


class AudioError(MerError, ValueError):
    """A clip cannot be used: unreadable, empty, silent, too short, or not audio."""


class DataError(MerError, ValueError):
    """A data set cannot be used: missing, with only one class, or with paths outside its folder."""


class SplitError(MerError, ValueError):
    """Clips cannot be split into the requested parts."""


class BackboneError(MerError, ValueError):
    """A backbone is unknown or does not support the request."""


class WeightsError(MerError, OSError):
    """Pretrained weights are not available or do not fit the network."""


class CheckpointError(MerError, ValueError):
    """A checkpoint is missing or incomplete, or its card and its tensors disagree."""


class Stop(Exception):  # noqa: N818 - a request, not an error
    """Raised to stop a run at the user's request. The state of the last complete epoch stays valid."""


class RunError(MerError, RuntimeError):
    """A run does not exist, or its state does not allow the request."""


class LostError(RunError):
    """Another process of the same training has ended unexpectedly."""


class AccessError(MerError, PermissionError):
    """A visitor of the dashboard is not allowed to do this, or not at this time."""


class StorageError(MerError, OSError):
    """MER_HOME or an output folder cannot be written: full, read-only, or missing."""
