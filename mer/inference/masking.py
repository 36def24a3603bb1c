"""Divides a sound in two by a mask over its spectrogram, so that a map can be heard.

The mask is multiplied with the short-time Fourier transform. The inverse transform (Griffin and Lim, 1984) is
linear, so the two parts add up to the original.
"""

import io

import numpy as np
import soundfile
import torch

from mer.audio.mel import mel_frequencies
from mer.audio.waveforms import as_rate, as_samples
from mer.config.sections import MelConfig
from mer.utils.errors import ConfigError

__all__ = ["as_wav", "divide"]

SPECTRUM_SECONDS = 0.064  # long enough to separate voices, short enough to separate beats


def divide(
    waveform: np.ndarray, mask: np.ndarray, *, sample_rate: int, config: MelConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Divide a sound into the part that a mask selects, and the rest.

    Parameters
    ----------
    waveform
        Samples; see `mer.audio.waveforms.as_samples`.
    mask
        Values in [0, 1] over the log-mel spectrogram of the waveform, shape (n_mels, frames). It is
        interpolated between the centres of bands and frames.
    sample_rate
        Samples per second, Hz.
    config
        Settings of the spectrogram. Frequencies outside `f_min` to `f_max` belong to the rest, since the
        spectrogram does not contain them.

    Returns
    -------
    tuple of np.ndarray
        The selected part and the rest, each float32 of shape (samples,).

    Raises
    ------
    AudioError
        If the sound is shorter than half a spectrum (0.023 to 0.046 s), or `as_samples` refuses it.
    ConfigError
        If the shape or the values of the mask, or the sample rate, cannot be used.

    References
    ----------
    Griffin and Lim, "Signal estimation from modified short-time Fourier transform", IEEE Trans. Acoust.
    Speech Signal Process., 1984.
    """
    sample_rate = as_rate(sample_rate)
    n_fft = 2 ** round(np.log2(SPECTRUM_SECONDS * sample_rate))
    samples = as_samples(waveform, least=n_fft // 2 + 1)
    _check_mask(mask, config)
    window, sound = torch.hann_window(n_fft), torch.from_numpy(samples)
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


def _check_mask(mask: np.ndarray, config: MelConfig) -> None:
    shape = getattr(mask, "shape", ())
    if len(shape) != 2 or shape[0] != config.n_mels or not shape[1]:
        raise ConfigError(f"a mask of shape {shape} does not fit; give an array ({config.n_mels}, frames)")
    if not (np.min(mask) >= 0 and np.max(mask) <= 1):  # NaN is refused too
        raise ConfigError("the mask has values out of range; use 0 to 1")


def _on_spectrum(
    mask: np.ndarray, shape: tuple[int, int], n_fft: int, *, sample_rate: int, config: MelConfig
) -> np.ndarray:
    """Interpolate the mask to the bins and frames of a spectrum of `shape` with hop n_fft / 4."""
    from scipy.ndimage import map_coordinates

    hertz = np.arange(shape[0]) * sample_rate / n_fft
    rows = np.interp(hertz, mel_frequencies(config), np.arange(len(mask)))
    columns = np.arange(shape[1]) * (n_fft // 4) / config.hop_length
    grid = np.meshgrid(rows, columns, indexing="ij")
    found = map_coordinates(mask.astype(np.float32), grid, order=1, mode="nearest")
    known = (hertz >= config.f_min) & (hertz <= config.f_max)
    return np.clip(found, 0, 1) * known[:, None].astype(np.float32)


def as_wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file as bytes. Its samples are float32, so no value is rounded or clipped.

    Parameters
    ----------
    samples
        Samples; see `mer.audio.waveforms.as_samples`.
    rate
        Samples per second, Hz.

    Raises
    ------
    AudioError
        If `as_samples` refuses the samples.
    ConfigError
        If the rate cannot be used.
    """
    file = io.BytesIO()
    soundfile.write(file, as_samples(samples), as_rate(rate, "rate"), format="WAV", subtype="FLOAT")
    return file.getvalue()
