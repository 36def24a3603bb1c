"""Checks of settings that depend on each other, across the sections of a config.

Each function takes all settings by name and raises ConfigError.
"""

from typing import Any

from mer.config.inputs import PRETRAINED, pretrained, required_input
from mer.utils.errors import ConfigError

__all__ = ["require_input", "require_solvable"]

AUGMENTATION = ("time_masks", "frequency_masks", "time_shift", "mixup")  # 0 for none


def require_input(settings: dict[str, Any]) -> None:
    """Check that a network gets the input that its weights were trained on."""
    backbone, weights = settings["backbone"], settings["weights"]
    if weights in PRETRAINED and weights != pretrained(backbone):
        raise ConfigError(
            f"backbone {backbone!r} has no weights={weights!r}; use weights={pretrained(backbone)!r}"
        )
    required = required_input(backbone)
    if required and settings["outputs"] == "imagenet":
        raise ConfigError(f"backbone {backbone!r} has no ImageNet outputs to keep; use outputs='classes'")
    if required.get("shape") == "waveform":
        _require_waveforms(settings, required)
    elif settings["shape"] == "waveform":
        raise ConfigError(
            f"shape='waveform' is for joined networks with different spectrograms, not for {backbone}; "
            "use shape='square' or shape='spectrogram'"
        )
    for name, value in required.items() if weights in PRETRAINED else ():
        if settings[name] != value:
            raise ConfigError(
                f"{name}={settings[name]!r}: the weights of {backbone} were trained with {name}={value!r}; "
                "leave it out, choose another backbone, or use weights='none'"
            )


def _require_waveforms(settings: dict[str, Any], required: dict[str, Any]) -> None:
    """Check that joined networks with different spectrograms get waveforms, without augmentation."""
    for name, value in (required | dict.fromkeys(AUGMENTATION, 0)).items():
        if settings[name] != value:
            raise ConfigError(
                f"{name}={settings[name]!r}: the networks of {settings['backbone']} make different "
                f"spectrograms from the same waveforms; use {name}={value!r}"
            )


def require_solvable(settings: dict[str, Any]) -> None:
    """Check settings that a solved head needs."""
    wanted = {"freeze": "head", "outputs": "classes", "pool": "mean", "always_training": False}
    wanted |= {"loss": "ce", "label_smoothing": 0.0, "class_weights": False}
    wanted |= dict.fromkeys(AUGMENTATION, 0)
    for name, value in wanted.items():
        if settings[name] != value:
            raise ConfigError(
                f"solver={settings['solver']!r} needs {name}={value!r}, not {settings[name]!r}; "
                "change it or use solver='steps'"
            )
    if settings["head"] not in ("avg", "bands"):
        raise ConfigError(
            f"solver={settings['solver']!r} needs head='avg' or head='bands', not {settings['head']!r}; "
            "change it or use solver='steps'"
        )
