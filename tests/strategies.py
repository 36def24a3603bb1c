"""Hypothesis strategies that several test files use."""

import dataclasses
import typing

from hypothesis import strategies as st

from mer.config.sections import AudioConfig, AugmentConfig, Config, MelConfig, SplitConfig, TrainConfig


def values(section, field):
    """A strategy for the legal values of one setting."""
    hint = typing.get_type_hints(section)[field.name]
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    low, high = field.metadata["low"], field.metadata["high"]
    if hint is int:
        return st.integers(low, high)
    if hint is float:
        return st.floats(low, high, allow_nan=False, allow_infinity=False)
    return {bool: st.booleans(), str: st.text()}[hint]


@st.composite
def configs(draw):
    """Any legal Config, with each setting in its range and consistent with the others."""

    def section(kind, **narrowed):
        fields = dataclasses.fields(kind)
        return kind(**{f.name: draw(narrowed.get(f.name, values(kind, f))) for f in fields})

    window = draw(st.floats(0.5, 60))
    audio = section(AudioConfig, window_seconds=st.just(window), hop_seconds=st.floats(0.1, window))
    nyquist, longest = audio.sample_rate / 2, min(8192, int(window * audio.sample_rate))
    f_max = draw(st.floats(100, nyquist))
    f_min = st.floats(0, f_max, exclude_max=True)
    mel = section(
        MelConfig,
        f_max=st.just(f_max),
        f_min=f_min,
        n_fft=st.integers(128, longest),
        shape=st.sampled_from(["square", "spectrogram"]),
    )
    folds = draw(st.integers(2, 20) | st.just(0))
    split = section(SplitConfig, folds=st.just(folds), fold=st.integers(0, max(folds, 1) - 1))
    keep = st.sampled_from(["best", "last"] if split.validation else ["last"])
    pool = draw(st.sampled_from(["mean", "attention"]))
    whole = {"loss": "ce", "outputs": "classes", "always_training": False} if pool == "attention" else {}
    fixed = {name: st.just(value) for name, value in (whole | {"pool": pool}).items()}
    if pool == "mean" and draw(st.booleans()):
        fixed |= {"outputs": st.just("imagenet"), "head": st.just("avg")}
    else:
        fixed |= {"outputs": st.just("classes")}
        if draw(st.booleans()):
            short = {"depth": "short", "head": "bands", "freeze": draw(st.sampled_from(["head", "none"]))}
            fixed |= {name: st.just(value) for name, value in short.items()}
    fixed = {"depth": st.just("full")} | fixed
    mixup = {"mixup": st.just(0.0)} if pool == "attention" else {}
    solver = draw(st.sampled_from(["steps", "steps", "ridge", "logistic", "kernel"]))
    fixed |= {"solver": st.just(solver), "backbone": st.text(st.characters(exclude_characters="+"))}
    if solver != "steps":
        needed = {"pool": "mean", "loss": "ce", "outputs": "classes", "always_training": False}
        needed |= {"freeze": "head", "label_smoothing": 0.0, "class_weights": False}
        fixed |= {name: st.just(value) for name, value in needed.items()}
        fixed |= {} if "head" in fixed else {"head": st.sampled_from(["avg", "bands"])}
        names = ("time_masks", "frequency_masks", "time_shift", "mixup")
        mixup = {name: st.just(type(getattr(AugmentConfig(), name))(0)) for name in names}
    return Config(
        audio=audio,
        mel=mel,
        split=split,
        augment=section(AugmentConfig, **mixup),
        train=section(TrainConfig, keep=keep, **fixed),
    )
