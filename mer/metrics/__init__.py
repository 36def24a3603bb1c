"""Pure functions that turn predictions into scores, intervals and comparisons."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": ["fit_temperature", "tempered"],
        "comparison": ["Comparison", "compare"],
        "scores": ["bootstrap_interval", "evaluate", "wilson_interval"],
        "verdict": ["Verdict", "against", "paired", "unpaired"],
    },
)
