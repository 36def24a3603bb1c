"""What a map over a spectrogram sounds like: sound divided in two by a mask on its spectrum.

The mask multiplies the short-time Fourier transform; its inverse (Griffin and Lim, 1984) is linear, so what
the mask lets through and what it holds back add up to the original.
"""

import io

import numpy as np
import soundfile
import torch

from mer.audio.mel import mel_frequencies
from mer.config.sections import MelConfig

__all__ = ["as_wav", "divide"]

SPECTRUM_SECONDS = 0.064  # fine enough to part voices, short enough to keep beats


def divide(
    waveform: np.ndarray, mask: np.ndarray, *, sample_rate: int, config: MelConfig
) -> tuple[np.ndarray, np.ndarray]:
    """What a mask lets through of a sound, and the rest: both float32 (samples,) like `waveform`.

    `mask` is (n_mels, frames) in [0, 1] over the log-mel spectrogram that `config` makes of the waveform. It
    is interpolated between the centres of bands and frames; frequencies outside of `f_min` to `f_max`, of
    which the spectrogram knows nothing, belong to the rest.
    """
    n_fft = 2 ** round(np.log2(SPECTRUM_SECONDS * sample_rate))
    window, sound = torch.hann_window(n_fft), torch.from_numpy(np.ascontiguousarray(waveform))
    settings = {"n_fft": n_fft, "hop_length": n_fft // 4, "window": window}
    with torch.inference_mode():
        spectrum = torch.stft(sound, **settings, return_complex=True)
        through = torch.from_numpy(
            _on_spectrum(mask, spectrum.shape, n_fft, sample_rate=sample_rate, config=config)
        )
        heard, rest = (
            torch.istft(spectrum * part, **settings, length=len(sound)).numpy()
            for part in (through, 1 - through)
        )
    return heard, rest


def _on_spectrum(
    mask: np.ndarray, shape: tuple[int, int], n_fft: int, *, sample_rate: int, config: MelConfig
) -> np.ndarray:
    """The mask at the bins and frames of a spectrum of `shape`, hop n_fft / 4: float32 in [0, 1]."""
    from scipy.ndimage import map_coordinates

    hertz = np.arange(shape[0]) * sample_rate / n_fft
    rows = np.interp(hertz, mel_frequencies(config), np.arange(len(mask)))
    columns = np.arange(shape[1]) * (n_fft // 4) / config.hop_length
    grid = np.meshgrid(rows, columns, indexing="ij")
    found = map_coordinates(mask.astype(np.float32), grid, order=1, mode="nearest")
    known = (hertz >= config.f_min) & (hertz <= config.f_max)
    return np.clip(found, 0, 1) * known[:, None].astype(np.float32)


def as_wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of float32 samples (samples,): no value is rounded or clipped."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()
