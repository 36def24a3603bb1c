"""Errors, files, processes and progress, used by all other parts of the package."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "errors": ["MerError"],
        "files": ["atomic_path", "home", "write_atomic"],
        "parallel": ["process_map"],
        "progress": ["ProgressMeter", "ProgressReport"],
    },
)
