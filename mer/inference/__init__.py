"""Uses of a checkpoint: predict, evaluate, explain, export and serve."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ensemble": ["open_predictor"],
        "evaluate": ["evaluate_checkpoint"],
        "explain": ["Explanation"],
        "predictor": ["Listener", "Prediction", "Predictor", "Window"],
    },
)
