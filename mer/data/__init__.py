"""Clips, labels, songs and splits, and the cached features of clips."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clips": ["Clip", "Dataset", "MER500_CLASSES"],
        "load": ["load_dataset"],
        "splits": ["Split", "split_clips"],
        "windows": ["WindowSet", "Windows"],
    },
)
