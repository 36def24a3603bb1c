"""Errors, files, processes and progress: what every other part of the package uses."""

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
