"""From window to the image that the network sees.

waveform (samples,) -> log-mel (n_mels, frames) in dB -> image (size, size), kept as float16
-> standardised (3, size, size). The mel scale is Slaney's (Auditory Toolbox, 1998) or HTK's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio

from mer.audio.decode import windows
from mer.audio.signal import Band, bands, times
from mer.config.sections import AudioConfig, MelConfig

__all__ = ["Standardizer", "analysis", "as_input", "images", "log_mel", "mel_frequencies"]

LEAST_SPREAD = 1.0  # dB: a window of less, near silence, is not blown up
POWER_FLOOR = 1e-10  # -100 dB: below the noise of 16-bit audio, keeps the logarithm finite


def analysis(sample_rate: int, config: MelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Hann window (n_fft,) and mel filters (n_mels, n_fft // 2 + 1)."""
    filters = torchaudio.functional.melscale_fbanks(
        n_freqs=config.n_fft // 2 + 1,
        f_min=config.f_min,
        f_max=config.f_max,
        n_mels=config.n_mels,
        sample_rate=sample_rate,
        norm="slaney" if config.scale == "slaney" else None,
        mel_scale=config.scale,
    )
    return torch.hann_window(config.n_fft), filters.T.contiguous()


@lru_cache(maxsize=8)
def _banded_analysis(sample_rate: int, config: MelConfig) -> tuple[torch.Tensor, tuple[Band, ...]]:
    window, filters = analysis(sample_rate, config)
    return window, bands(filters)


def log_mel(waveform: np.ndarray, *, sample_rate: int, config: MelConfig) -> torch.Tensor:
    """Log-mel spectrogram in dB, float32 of shape (n_mels, 1 + samples // hop_length).

    With `reference="max"` 0 dB is the loudest point of this waveform; with "absolute" it is a power
    of 1. Either way no value is more than `top_db` below 0 dB. Silence is all at that lower end.
    """
    with torch.inference_mode():
        window, filters = _banded_analysis(sample_rate, config)
        samples = torch.from_numpy(np.ascontiguousarray(waveform))
        short = config.n_fft // 2 + 1 - len(samples)  # reflection at the ends needs more samples than that
        spectrum = torch.stft(
            F.pad(samples, (0, short)) if short > 0 else samples,
            config.n_fft,
            config.hop_length,
            window=window,
            pad_mode="reflect",
            return_complex=True,
        )[:, : 1 + len(samples) // config.hop_length]
        # Of |spectrum|^2 torch's `abs` would take the root first, which costs four times as much.
        power = times(filters, torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag))
        level = 10.0 * torch.log10(power.clamp_min(POWER_FLOOR))
        if config.reference == "max" and power.max() > POWER_FLOOR:
            level = level - level.max()
        return level.clamp_min(-config.top_db)


def images(waveform: np.ndarray, *, audio: AudioConfig, mel: MelConfig) -> np.ndarray:
    """Log-mel images of all windows of a clip: float16 dB of shape (windows, size, size).

    Row 0 is the lowest band. float16 resolves 1/16 dB at -80 dB, far below what is audible.
    """
    size = (mel.image_size, mel.image_size)
    levels = torch.stack(
        [log_mel(w, sample_rate=audio.sample_rate, config=mel) for w in windows(waveform, audio)]
    )
    with torch.inference_mode():
        resized = F.interpolate(levels[:, None], size=size, mode="bilinear", antialias=True)
    return resized[:, 0].to(torch.float16).numpy()


def mel_frequencies(config: MelConfig) -> np.ndarray:
    """Centre frequency of each mel band, Hz, shape (n_mels,)."""
    if config.scale == "htk":
        low, high = (2595 * np.log10(1 + f / 700) for f in (config.f_min, config.f_max))
        mels = np.linspace(low, high, config.n_mels + 2)
        return (700 * (10 ** (mels / 2595) - 1))[1:-1]
    low, high = (_slaney_mel(f) for f in (config.f_min, config.f_max))
    mels = np.linspace(low, high, config.n_mels + 2)[1:-1]
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))


def _slaney_mel(hertz: float) -> float:
    """Slaney's mel scale: linear to 1 kHz, logarithmic above."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * float(np.log(hertz / 1000) / np.log(6.4))


@dataclass(frozen=True, slots=True)
class Standardizer:
    """Zero mean and unit variance: by the statistics of the training part alone, or window by window.

    `mean` and `std` are in dB. With `per_window` each image has its own, known as cepstral mean and variance
    normalisation where speech is recognised (Viikki and Laurila, 1998), and these two are not used.
    """

    mean: float = 0.0
    std: float = 1.0
    per_window: bool = False

    @classmethod
    def fit(cls, batches: Iterable[np.ndarray]) -> "Standardizer":
        """Statistics over all values of the float16 images given, accumulated in float64."""
        count, total, squares = 0, 0.0, 0.0
        for batch in batches:
            values = np.asarray(batch, dtype=np.float32)
            count += values.size
            total += float(values.sum(dtype=np.float64))
            squares += float(np.square(values).sum(dtype=np.float64))
        mean = total / count
        return cls(mean=mean, std=max((squares / count - mean**2) ** 0.5, 1e-6))

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Images in dB (..., size, size) -> standardised float32 of the same shape."""
        values = batch.to(torch.float32, copy=True)
        if not self.per_window:
            return values.sub_(self.mean).div_(self.std)
        std, mean = torch.std_mean(values, dim=(-2, -1), correction=0, keepdim=True)
        return values.sub_(mean).div_(std.clamp_min_(LEAST_SPREAD))

    def to_dict(self) -> dict[str, float]:
        """What a card keeps of it."""
        return {"mean": self.mean, "std": self.std}


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Images (n, size, size) -> network input (n, 3, size, size), a view: all channels are the one."""
    return images[:, None].expand(-1, 3, -1, -1)
