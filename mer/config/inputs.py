"""Input settings of networks that were trained on music or on AudioSet.

Such a network needs the spectrogram that it was trained on. Choosing the network chooses these settings.
While its pretrained weights are used, other settings are an error.
"""

from pathlib import Path
from typing import Any

import mer
from mer.utils.errors import ConfigError

__all__ = ["MUSIC_NETWORKS", "REQUIRED_INPUTS", "WEIGHTS_FOLDER", "networks_of", "required_input"]

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


def required_input(backbone: str) -> dict[str, Any]:
    """The settings that a backbone requires, by name; empty for networks that take any image.

    Raises ConfigError if joined networks require different settings.
    """
    first, *others = networks_of(str(backbone))
    for other in others:
        if REQUIRED_INPUTS.get(other) != REQUIRED_INPUTS.get(first):
            raise ConfigError(
                f"backbone {backbone!r}: {first} and {other} need different spectrograms; "
                "join networks that take the same input"
            )
    return REQUIRED_INPUTS.get(first, {})


def networks_of(backbone: str) -> list[str]:
    """The names of the networks in a backbone: two for "musicnn_msd+vgg_msd"."""
    return backbone.split("+")
