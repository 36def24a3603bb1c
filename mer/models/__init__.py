"""Networks, their heads and weights, and checkpoints."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "build": ["build_classifier"],
        "card": ["Card", "load_card"],
        "checkpoint": ["load_checkpoint", "save_checkpoint"],
        "classifier": ["Classifier"],
        "heads": ["HEADS"],
        "zoo": ["Backbone", "ZOO", "get_backbone"],
    },
)
