"""What a decoder found in a file."""

from dataclasses import dataclass

import numpy as np

from mer.audio.ends import UNKNOWN_SHARE

__all__ = ["LOST", "Sound"]

LOST = 0.25  # s of its stated length that may be missing, since encoders pad to whole frames


@dataclass(frozen=True, slots=True)
class Sound:
    """The samples of a file, and what they leave open.

    Parameters
    ----------
    waveform
        Mono samples, float32 of shape (samples,), full scale at 1.
    rate
        Sample rate, Hz.
    channels
        Number of channels in the file.
    stated
        Length that the file states, s; 0 if it states none.
    broken
        True if the decoder found that the file breaks off.
    channel
        The only channel that was used, since the channels are in opposite phase; None for their mean.
    fresh
        True if earlier versions heard something else in this file, or nothing.
    """

    waveform: np.ndarray
    rate: int
    channels: int
    stated: float = 0.0
    broken: bool = False
    channel: int | None = None
    fresh: bool = False

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.rate

    def remarks(self, share: float) -> tuple[str, ...]:
        """Sentences on why it may not be the sound that was recorded.

        `share` of the file is there; see `mer.audio.ends.share_present`.
        """
        found = []
        whole = max(self.stated, self.seconds / share if share else 0.0)
        if self.seconds < whole - LOST:
            found.append(f"It is cut: {self.seconds:.1f} of its {whole:.1f} s can be read.")
        elif self.broken or share == UNKNOWN_SHARE:
            found.append(f"It is cut: it breaks off after {self.seconds:.1f} s.")
        if self.channel is not None:
            found.append(
                f"Its channels are in opposite phase and cancel each other; only channel {self.channel + 1} "
                "was used."
            )
        return tuple(found)
