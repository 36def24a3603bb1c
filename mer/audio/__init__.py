"""Decodes audio files and turns them into the log-mel images that a network takes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "decode": ["Audio", "load", "resample"],
        "formats": ["AUDIO_NAMES", "AUDIO_SUFFIXES"],
        "mel": ["Standardizer", "images", "log_mel"],
        "quality": ["remarks"],
        "transforms": ["EvalTransform", "TrainTransform"],
    },
)
