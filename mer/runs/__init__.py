"""The record of runs, kept in MLflow. Importing it does not load torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "deleted": ["deleted_runs", "restore"],
        "heartbeat": ["Heartbeat"],
        "results": ["read_predictions", "read_scores"],
        "run": ["Run"],
        "store": ["RunStore"],
    },
)
