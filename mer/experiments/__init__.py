"""From a request to a recorded and tested run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "estimate": ["Estimate"],
        "experiment": ["Experiment"],
        "prepared": ["Material", "Spec", "prepare"],
    },
)
