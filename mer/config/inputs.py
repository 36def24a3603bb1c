"""Input settings of networks that were trained on music or on AudioSet.

Such a network needs the spectrogram that it was trained on. Choosing the network chooses these settings.
While its pretrained weights are used, other settings are an error. Joined networks that need different
spectrograms are given waveforms, of which each makes its own (`mer.models.front_end`).
"""

from pathlib import Path
from typing import Any

import mer
from mer.utils.errors import ConfigError

__all__ = [
    "DESCRIPTORS",
    "MUSIC_NETWORKS",
    "PRETRAINED",
    "REQUIRED_INPUTS",
    "WEIGHTS_FOLDER",
    "networks_of",
    "pretrained",
    "required_input",
]

PRETRAINED = ("imagenet", "music", "audioset", "own")  # weights that come with networks
WEIGHTS_FOLDER = Path(mer.__file__).parents[1] / "checkpoints" / "pretrained"  # not in a wheel

# Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019.
_MUSICNN = {
    "sample_rate": 16_000,
    "n_fft": 512,
    "hop_length": 256,
    "n_mels": 96,
    "f_min": 0.0,
    "f_max": 8000.0,
    "scale": "slaney",
    "reference": "absolute",
    "compression": "log",
    "padding": "zero",
    "shape": "spectrogram",
    "standardize": "none",
}

# Kong et al., "PANNs", 2020, arXiv:1912.10211. Their lowest level is that of a power of 1e-10, -100 dB.
_CNN14 = _MUSICNN | {
    "hop_length": 160,
    "n_mels": 64,
    "f_min": 50.0,
    "compression": "db",
    "top_db": 100.0,
    "padding": "reflect",
}
_MOBILENET = _CNN14 | {"sample_rate": 32_000, "n_fft": 1024, "hop_length": 320, "f_max": 14_000.0}

MUSIC_NETWORKS = ("musicnn_msd", "musicnn_mtt", "vgg_msd", "vgg_mtt")
REQUIRED_INPUTS: dict[str, dict[str, Any]] = dict.fromkeys(MUSIC_NETWORKS, _MUSICNN) | {
    "panns_cnn14": _CNN14,
    "panns_mobilenet": _MOBILENET,
}


DESCRIPTORS = "classical"  # the descriptors of `mer.data.cache.descriptors`, joined to networks like one
_WAVEFORM = {"sample_rate": 16_000, "shape": "waveform", "standardize": "none"}


def required_input(backbone: str) -> dict[str, Any]:
    """The settings that a backbone requires, by name; empty for networks that take any image.

    Raises ConfigError if joined networks require different sample rates.
    """
    names = networks_of(str(backbone))
    inputs = [REQUIRED_INPUTS.get(name, {}) for name in names]
    if DESCRIPTORS not in names and all(own == inputs[0] for own in inputs):
        return inputs[0]
    for name, own in zip(names, inputs, strict=True):
        if own.get("sample_rate", _WAVEFORM["sample_rate"]) != _WAVEFORM["sample_rate"]:
            raise ConfigError(
                f"backbone {backbone!r}: {name} takes {own['sample_rate']} Hz, and networks with different "
                f"inputs are joined at {_WAVEFORM['sample_rate']} Hz; leave it out"
            )
    return _WAVEFORM


def pretrained(backbone: str) -> str:
    """The name of the weights that come with a backbone."""
    kinds = {_pretrained(name) for name in networks_of(backbone) if name != DESCRIPTORS}
    return kinds.pop() if len(kinds) == 1 else "own"


def _pretrained(network: str) -> str:
    """The name of the weights that come with one network."""
    if network in MUSIC_NETWORKS:
        return "music"
    return "audioset" if network in REQUIRED_INPUTS else "imagenet"


def networks_of(backbone: str) -> list[str]:
    """The names of the networks in a backbone: two for "musicnn_msd+vgg_msd"."""
    return backbone.split("+")
