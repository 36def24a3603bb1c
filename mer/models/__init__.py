"""The networks, their heads and weights, and the checkpoints they are kept in."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "card": ["Card", "load_card"],
        "checkpoint": ["load_checkpoint", "save_checkpoint"],
        "heads": ["HEADS"],
        "zoo": ["Backbone", "Classifier", "ZOO", "build_classifier", "get_backbone"],
    },
)
