"""The 2022 study: its published results, and the steps from its released code to preset `default`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ladder": ["Rung", "rungs"],
        "published": ["PublishedResult", "RESULTS"],
    },
)
