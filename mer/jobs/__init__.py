"""Runs in the background: a queue on this machine, and Ray clusters."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "queue": ["cancel", "delete", "launch", "prune", "relaunch", "submit"],
        "ray_cluster": ["Needs"],
        "ray_driver": ["Driver"],
    },
)
