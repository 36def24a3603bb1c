"""The cache on disk of everything that is computed once per clip."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "arrays": ["ArrayFile", "Shelf", "read_array", "write_array"],
        "pruning": ["prune"],
        "store": ["Facts", "FeatureStore"],
    },
)
