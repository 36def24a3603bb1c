"""All settings with their ranges and defaults, and the presets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "presets": ["PRESETS", "preset"],
        "sections": ["AudioConfig", "AugmentConfig", "Config", "MelConfig", "SplitConfig", "TrainConfig"],
        "settings": ["Section", "setting"],
    },
)
