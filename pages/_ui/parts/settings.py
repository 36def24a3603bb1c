"""All settings of a run as widgets, generated from the config: help, range, the preset's value."""

import dataclasses
import typing
from typing import Any, Literal

import streamlit as st

from mer.config.sections import Config

__all__ = ["NAMES", "ask_settings"]

TITLES = {
    "audio": "Sound", "mel": "Spectrogram", "split": "Split", "augment": "Augmentation", "train": "Training",
}  # fmt: skip
NAMES = {  # of the settings, as the page shows them; the command line has the keys
    "sample_rate": "Sample rate (Hz)",
    "window_seconds": "Length of a window (s)",
    "hop_seconds": "Step between windows (s)",
    "pad": "Padding of short clips",
    "only_first": "First window only",
    "resampler": "Resampling method",
    "n_fft": "Length of a Fourier transform (samples)",
    "hop_length": "Step between spectra (samples)",
    "n_mels": "Mel bands",
    "f_min": "Lowest frequency (Hz)",
    "f_max": "Highest frequency (Hz)",
    "scale": "Mel scale",
    "reference": "Reference of the level",
    "top_db": "Dynamic range (dB)",
    "compression": "Scale of the level",
    "padding": "Ends of a window",
    "shape": "Input of the network",
    "image_size": "Size of a square input (pixels)",
    "test": "Share of the test part",
    "validation": "Share of the validation part",
    "group_by_song": "Keep songs in one part",
    "folds": "Folds of a cross-validation",
    "validation_from": "Source of the validation part",
    "seed": "Seed of the random numbers",
    "baseline": "Test an SVM too",
    "control": "Control run",
    "time_masks": "Time masks",
    "time_mask_share": "Longest time mask (share)",
    "frequency_masks": "Frequency masks",
    "frequency_mask_share": "Widest frequency mask (share)",
    "time_shift": "Largest shift in time (share)",
    "mixup": "Mixup (alpha)",
    "weights": "Weights to start from",
    "head": "Head",
    "depth": "Depth of the network",
    "outputs": "Outputs",
    "pool": "From windows to a clip",
    "freeze": "Trained part",
    "solver": "Training of the head",
    "always_training": "Always in training mode",
    "standardize": "Standardise images by",
    "dropout": "Dropout (share)",
    "loss": "Loss",
    "label_smoothing": "Label smoothing (share)",
    "class_weights": "Weight classes by frequency",
    "optimizer": "Optimizer",
    "lr": "Learning rate",
    "backbone_lr": "Learning rate of the backbone (factor)",
    "weight_decay": "Weight decay",
    "schedule": "Schedule of the learning rate",
    "warmup": "Warm-up (share of steps)",
    "batch_size": "Batch size (windows)",
    "epochs": "Epochs",
    "patience": "Patience (epochs)",
    "keep": "Epoch to keep",
    "device": "Device",
    "amp": "Mixed precision on CUDA",
}
ELSEWHERE = ("backbone", "fold")  # chosen elsewhere on the page, or set by the run itself


def ask_settings(base: Config, key: str) -> dict[str, Any]:
    """Show a widget for each setting. Returns the settings that differ from `base`, by name.

    Changed settings are in the address, so they outlive a visit to another page and a reload.

    Parameters
    ----------
    base
        The preset.
    key
        Prefix of the widgets' keys, different for each preset.
    """
    changes = {}
    parts = dataclasses.fields(base)
    for tab, part in zip(st.tabs([TITLES[part.name] for part in parts]), parts, strict=True):
        section = getattr(base, part.name)
        hints = typing.get_type_hints(type(section))
        columns = tab.columns(3)
        fields = [field for field in dataclasses.fields(section) if field.name not in ELSEWHERE]
        if part.name == "train":  # one seed for split and training; it is chosen with the split
            fields = [field for field in fields if field.name != "seed"]
        for number, field in enumerate(fields):
            with columns[number % 3]:
                before = getattr(section, field.name)
                value = _ask(field, hints[field.name], before, f"{key} {part.name}.{field.name}")
                if value != before:
                    changes[field.name] = value
    return changes


def _ask(field: dataclasses.Field, hint: Any, before: Any, key: str) -> Any:
    """Show the widget of one setting, which has the value `before`; returns its value."""
    label, option = NAMES[field.name], field.name.replace("_", "-")
    about = f"{field.metadata['help']} The preset has {before}. On the command line: `--{option}`."
    words = {"key": key, "help": about, "bind": "query-params"}
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        return st.selectbox(label, choices, index=choices.index(before), **words)
    if hint is bool:
        return st.toggle(label, before, **words)
    if hint is str:
        return st.text_input(label, before, **words)
    low, high = field.metadata["low"], field.metadata["high"]
    bounds = {
        "min_value": None if low is None else hint(low),
        "max_value": None if high is None else hint(high),
    }
    shape = {"step": 1} if hint is int else {"format": "%g", "step": _step(before)}
    value = st.number_input(label, value=before, **bounds, **shape, **words)
    return before if value is None else value


def _step(value: float) -> float:
    """A step that fits the size of a value: about a tenth of it, to one digit; 0.05 for zero."""
    return 0.05 if not value else float(f"{abs(value) / 10:.0e}")
