"""From an audio file to the image that a network sees."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "decode": ["Audio", "load", "resample"],
        "mel": ["Standardizer", "images", "log_mel"],
        "quality": ["remarks"],
        "transforms": ["EvalTransform", "TrainTransform"],
    },
)
