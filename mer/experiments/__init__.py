"""From a request to a recorded, tested run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "estimate": ["Estimate"],
        "experiment": ["Experiment"],
        "prepared": ["PreparedClips", "PreparedData", "Spec", "prepare"],
    },
)
