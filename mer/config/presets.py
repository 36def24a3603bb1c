"""Presets: named configs."""

from typing import Any

from mer.config.inputs import networks_of, required_input
from mer.config.sections import AudioConfig, AugmentConfig, Config, MelConfig, SplitConfig, TrainConfig
from mer.utils.errors import ConfigError

__all__ = ["IMAGES", "MUSIC", "PRESETS", "preset"]

# The usual backbone for music and for images.
MUSIC = "musicnn_msd+musicnn_mtt+vgg_msd+vgg_mtt"
IMAGES = Config().train.backbone

# The 2022 report: Adam, binary cross-entropy, batch 64, 5 epochs, 80-20, only the new head trained.
# Spectrogram settings that the report does not state are from its released code. Windows are standardised one
# by one, so they are the same in every fold, and all folds share the embeddings of a frozen network.
_PAPER = Config(
    mel=MelConfig(n_mels=224, n_fft=2048, hop_length=512),
    train=TrainConfig(
        loss="bce",
        optimizer="adam",
        freeze="head",
        standardize="window",
        dropout=0.0,
        batch_size=64,
        epochs=5,
    ),
)
# Works best on real music, by the measurements in docs/results.md: frozen networks that were trained on
# music, and a solved head. The solver calibrates on inner folds, so no clips are set aside for validation.
_DEFAULT = Config().updated(
    backbone=MUSIC, freeze="head", solver="logistic", standardize="none", validation=0.0
)
# The same for a network for images. With few songs, a frozen network, a head that keeps the frequency bands
# apart, and strong weight decay work best.
_IMAGES = Config(
    split=SplitConfig(validation=0.1),
    train=TrainConfig(
        head="bands",
        depth="short",
        freeze="head",
        standardize="window",
        dropout=0.5,
        weight_decay=10.0,
        schedule="cosine",
        batch_size=32,
        epochs=20,
    ),
)
# Trains the whole network.
_FULL = Config(
    split=SplitConfig(validation=0.1),
    augment=AugmentConfig(time_masks=2, frequency_masks=2, time_shift=1.0, mixup=0.3),
    train=TrainConfig(
        label_smoothing=0.1,
        backbone_lr=0.4,
        weight_decay=0.01,
        schedule="cosine",
        warmup=0.1,
        batch_size=16,
        epochs=10,
    ),
)
_QUICK = Config(
    train=TrainConfig(freeze="head", standardize="window", epochs=20, batch_size=32, lr=2e-3, keep="best")
)
# The released code of the 2022 study, which differs from its report: see `mer.experiments.study2022`.
_AS_RELEASED = Config(
    audio=AudioConfig(sample_rate=22050, window_seconds=5.2, hop_seconds=5.2, only_first=True),
    mel=MelConfig(n_mels=224, n_fft=2048, hop_length=512, f_min=0.0),
    split=SplitConfig(validation=0.0, group_by_song=False),
    train=TrainConfig(
        outputs="imagenet",
        freeze="classifier",
        always_training=True,
        standardize="none",
        optimizer="adam",
        dropout=0.0,
        batch_size=64,
        epochs=5,
    ),
)

PRESETS: dict[str, Config] = {
    "default": _DEFAULT,
    "full": _FULL,
    "paper": _PAPER,
    "quick": _QUICK,
    "as-released": _AS_RELEASED,
}


def preset(name: str, **changes: Any) -> Config:
    """Return the preset of that name, with some settings changed.

    Parameters
    ----------
    name
        One of `PRESETS`.
    **changes
        See `Config.updated`. With another `backbone`, preset `default` starts from the settings that work
        best for its kind: networks for images need other settings than networks for music.

    Raises
    ------
    ConfigError
        For an unknown name; the message lists the valid ones. And for changes that `Config.updated` refuses.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; there are: {', '.join(PRESETS)}")
    found = PRESETS[name]
    if not changes:
        return found
    if name == "default" and not required_input(backbone := changes.get("backbone", MUSIC)):
        if len(networks_of(backbone)) > 1:
            return found.updated(**{"standardize": "window"} | changes)
        found = _IMAGES
    return found.updated(**changes)
