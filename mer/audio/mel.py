"""Turns windows into log-mel images, the input of the network.

waveform (samples,) -> log-mel (n_mels, frames) -> image (rows, columns), stored as float16
-> standardised (3, rows, columns). Networks trained on images get square images in dB, networks trained on
music the log-mel they were trained on (`mer.config.inputs`). The mel scale is Slaney's (Auditory Toolbox,
1998) or HTK's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from torch import nn

from mer.audio.signal import bands, times
from mer.audio.waveforms import as_rate, as_samples
from mer.audio.windows import windows
from mer.config.sections import AudioConfig, MelConfig

__all__ = ["LogMel", "Standardizer", "as_input", "images", "log_mel", "mel_frequencies"]

LEAST_SPREAD = 1.0  # dB; lower limit of a window's divisor, so that near-silence is not amplified
POWER_FLOOR = 1e-10  # -100 dB, below the noise of 16-bit audio; keeps the logarithm finite
LOG_GAIN = 10_000.0  # of `compression="log"`: log10(1 + 10000 x), as in musicnn
SILENCE = float(10.0 * torch.log10(torch.tensor(POWER_FLOOR)))  # level of POWER_FLOOR, dB


class LogMel(nn.Module):
    """Turns windows of sound into log-mel images in dB.

    The feature store, predictions and exported models all use this module, so their images are the same.

    Parameters
    ----------
    sample_rate
        Samples per second of the windows, Hz.
    config
        Settings of the Fourier transform, the mel bands and the image.

    References
    ----------
    Slaney, "Auditory Toolbox", 1998: the mel scale. The HTK book: the scale of `scale="htk"`.
    """

    def __init__(self, sample_rate: int, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        filters = torchaudio.functional.melscale_fbanks(
            n_freqs=config.n_fft // 2 + 1,
            f_min=config.f_min,
            f_max=config.f_max,
            n_mels=config.n_mels,
            sample_rate=as_rate(sample_rate),
            norm="slaney" if config.scale == "slaney" else None,
            mel_scale=config.scale,
        )
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.starts = []
        for number, (first, band) in enumerate(bands(filters.T.contiguous())):
            self.starts.append(first)
            self.register_buffer(f"band_{number}", band, persistent=False)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Waveforms, float32 (n, samples), to images, float16 (n, rows, columns).

        With `shape="waveform"`, an image is the waveform itself, float32 in one row.
        """
        if self.config.shape == "waveform":
            return windows[:, None]
        return self.images(self.levels(windows))

    def levels(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms (..., samples) to log-mel spectrograms (..., n_mels, 1 + samples // hop_length)."""
        config, power = self.config, self._mel_power(waveforms)
        if config.compression == "log":
            return torch.log10(1.0 + LOG_GAIN * power)
        level = 10.0 * torch.log10(power.clamp_min(POWER_FLOOR))
        if config.reference == "max":
            loudest = level.amax(dim=(-2, -1), keepdim=True)
            level = level - torch.where(loudest > SILENCE, loudest, 0.0)
        return level.clamp_min(-config.top_db)

    def _mel_power(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Power in each mel band, (..., n_mels, frames)."""
        config, samples = self.config, waveforms.shape[-1]
        short = config.n_fft // 2 + 1 - samples  # reflection padding needs more than n_fft // 2 samples
        spectrum = torch.stft(
            F.pad(waveforms, (0, short)) if short > 0 else waveforms,
            config.n_fft,
            config.hop_length,
            window=self.window,
            pad_mode="reflect" if config.padding == "reflect" else "constant",
            return_complex=True,
        )
        # `abs` followed by a square would take a needless square root, at four times the cost.
        power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
        parts = [(first, getattr(self, f"band_{number}")) for number, first in enumerate(self.starts)]
        frames = 1 + samples // config.hop_length
        return times(parts, power[..., :frames])

    def images(self, levels: torch.Tensor) -> torch.Tensor:
        """Spectrograms (n, n_mels, frames) to images, float16 (n, rows, columns). Row 0 is the lowest band.

        float16 resolves 1/16 dB at -80 dB, much less than is audible.
        """
        if self.config.shape == "spectrogram":
            return levels.to(torch.float16)
        size = (self.config.image_size, self.config.image_size)
        resized = F.interpolate(levels[:, None], size=size, mode="bilinear", antialias=True)
        return resized[:, 0].to(torch.float16)


@lru_cache(maxsize=8)
def _log_mel(sample_rate: int, config: MelConfig) -> LogMel:
    return LogMel(sample_rate, config)


def log_mel(
    waveform: np.ndarray, *, sample_rate: int, config: MelConfig, checked: bool = False
) -> torch.Tensor:
    """Log-mel spectrogram, in dB or as `compression` says.

    Parameters
    ----------
    waveform
        Samples; see `mer.audio.waveforms.as_samples`.
    sample_rate
        Samples per second, Hz.
    config
        With `reference="max"`, 0 dB is the loudest point of this waveform; with "absolute", a power of 1.
        Values below -`top_db` dB are clipped to it. Silence is at -`top_db` or -100 dB, whichever is higher.
    checked
        True if `as_samples` has already been called.

    Returns
    -------
    torch.Tensor
        float32 of shape (n_mels, 1 + samples // hop_length).

    Raises
    ------
    AudioError, ConfigError
        If the waveform or the rate cannot be used.
    """
    if not checked:
        waveform, sample_rate = as_samples(waveform), as_rate(sample_rate)
    with torch.inference_mode():
        return _log_mel(sample_rate, config).levels(torch.from_numpy(np.ascontiguousarray(waveform)))


def images(waveform: np.ndarray, *, audio: AudioConfig, mel: MelConfig, checked: bool = False) -> np.ndarray:
    """Log-mel images of all windows of a clip.

    Parameters
    ----------
    waveform
        Samples at `audio.sample_rate`; see `mer.audio.waveforms.as_samples`.
    audio
        Sample rate and windows.
    mel
        Settings of the spectrogram and the image.
    checked
        True if `as_samples` has already been called.

    Returns
    -------
    np.ndarray
        float16 of shape (windows, rows, columns); waveforms are float32.

    Raises
    ------
    AudioError
        If the waveform cannot be used.
    """
    waveform = waveform if checked else as_samples(waveform)
    with torch.inference_mode():
        module = _log_mel(audio.sample_rate, mel)
        # One window at a time: the spectra of all windows of a long clip would not fit in memory.
        cuts = windows(waveform, audio, checked=True)
        return torch.cat([module(torch.from_numpy(window)[None]) for window in cuts]).numpy()


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
    """Scales images to zero mean and unit variance, over the training part or per window.

    Parameters
    ----------
    mean, std
        Mean and standard deviation over the training part, dB. Not used with `per_window`.
    per_window
        Use the mean and standard deviation of each image, like cepstral mean and variance normalisation in
        speech recognition.

    References
    ----------
    Viikki and Laurila, 1998: cepstral mean and variance normalisation.
    """

    mean: float = 0.0
    std: float = 1.0
    per_window: bool = False

    @classmethod
    def fit(cls, batches: Iterable[np.ndarray]) -> "Standardizer":
        """Mean and standard deviation over all values of the batches, accumulated in float64."""
        count, total, squares = 0, 0.0, 0.0
        for batch in batches:
            values = np.asarray(batch, dtype=np.float32)
            count += values.size
            total += float(values.sum(dtype=np.float64))
            squares += float(np.square(values).sum(dtype=np.float64))
        mean = total / count
        return cls(mean=mean, std=max((squares / count - mean**2) ** 0.5, 1e-6))

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Images in dB (..., rows, columns) -> standardised float32 of the same shape."""
        values = batch.to(torch.float32, copy=True)
        if not self.per_window:
            return values.sub_(self.mean).div_(self.std)
        std, mean = torch.std_mean(values, dim=(-2, -1), correction=0, keepdim=True)
        return values.sub_(mean).div_(std.clamp_min(LEAST_SPREAD))

    def to_dict(self) -> dict[str, float]:
        """The statistics, as a card stores them."""
        return {"mean": self.mean, "std": self.std}


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Images (n, rows, columns) -> network input (n, 3, rows, columns), three equal channels as a view."""
    return images[:, None].expand(-1, 3, -1, -1)
