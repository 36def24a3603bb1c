"""All settings of a run, in frozen dataclasses that convert to JSON and back without loss.

Each setting holds its help text and its range, so that command line, pages and error messages agree. Callers
apply the precedence: command line > preset > default.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, Self

from mer.config.checks import require_input, require_solvable
from mer.config.inputs import DESCRIPTORS, PRETRAINED, networks_of, pretrained, required_input
from mer.config.settings import Section, setting
from mer.utils.errors import ConfigError

__all__ = [
    "AudioConfig",
    "AugmentConfig",
    "Config",
    "MelConfig",
    "SplitConfig",
    "TrainConfig",
]

MAX_SEED = 2**32 - 1
STEPS_ONLY = (  # settings of a head that is trained in steps; they have no effect on a solved head
    "optimizer", "lr", "backbone_lr", "weight_decay", "schedule", "warmup", "batch_size", "epochs",
    "patience", "keep", "dropout",
)  # fmt: skip
_FIRST_RESAMPLER = ("resampler", "sinc")
# Images had no other form before these settings; keys of stored images from that time must stay valid.
_FIRST_IMAGES = {"compression": "db", "padding": "reflect", "shape": "square"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioConfig(Section):
    """Audio: sample rate and windows."""

    sample_rate: int = setting(16000, "Samples per second after resampling, Hz.", low=4000, high=48000)
    window_seconds: float = setting(10.0, "Length of a window, s.", low=0.5, high=60)
    hop_seconds: float = setting(5.0, "Step from one window to the next, s.", low=0.1, high=60)
    pad: Literal["zero", "repeat"] = setting("zero", "How a clip shorter than a window is padded.")
    only_first: bool = setting(False, "Use only the first window of each clip.")
    resampler: Literal["soxr", "sinc"] = setting(
        "soxr", "Resampling method: soxr, or sinc as in older runs, which lets aliasing through."
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.hop_seconds > self.window_seconds:
            raise ConfigError(
                f"hop_seconds={self.hop_seconds} would skip audio; "
                f"it must not exceed window_seconds={self.window_seconds}"
            )

    def to_key(self) -> dict[str, Any]:
        """The settings that form the key of stored results.

        "sinc" is left out: it predates the setting, and keys from that time must stay valid.
        """
        return {name: value for name, value in self.to_dict().items() if (name, value) != _FIRST_RESAMPLER}

    @classmethod
    def from_key(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_key`. Raises ConfigError."""
        return cls.from_dict(dict([_FIRST_RESAMPLER]) | data)


@dataclass(frozen=True, slots=True, kw_only=True)
class MelConfig(Section):
    """Log-mel images of windows."""

    n_fft: int = setting(
        1024, "Samples per Fourier transform: more give finer frequency resolution.", low=128, high=8192
    )
    hop_length: int = setting(
        256, "Samples from one spectrum to the next: fewer give finer time resolution.", low=32, high=8192
    )
    n_mels: int = setting(128, "Number of mel bands.", low=16, high=256)
    f_min: float = setting(20.0, "Lowest frequency, Hz.", low=0)
    f_max: float = setting(8000.0, "Highest frequency, Hz; at most half the sample rate.", low=100)
    scale: Literal["slaney", "htk"] = setting("slaney", "Formula of the mel scale.")
    reference: Literal["max", "absolute"] = setting(
        "max", "Level in dB relative to the window's loudest point, or absolute (loudness is kept)."
    )
    top_db: float = setting(80.0, "Dynamic range kept below the reference, dB.", low=20, high=120)
    compression: Literal["db", "log"] = setting(
        "db", "dB, or log10(1 + 10000 x) of the power x in each band, without reference and top_db."
    )
    padding: Literal["reflect", "zero"] = setting("reflect", "How the ends of a window are continued.")
    shape: Literal["square", "spectrogram", "waveform"] = setting(
        "square",
        "Input of the network: a square of image_size, the spectrogram as it is, or the waveform, of which "
        "joined networks make their own spectrograms.",
    )
    image_size: int = setting(224, "Height and width of a square input, pixels.", low=32, high=512)

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.f_min >= self.f_max:
            raise ConfigError(f"f_min={self.f_min} must be below f_max={self.f_max}")

    @property
    def in_decibels(self) -> Self:
        """The same bands in dB, for people to look at."""
        return self if self.compression == "db" else self.replace(compression="db", reference="max")

    def image_shape(self, audio: AudioConfig) -> tuple[int, int]:
        """Rows and columns of the image of a window."""
        samples = round(audio.window_seconds * audio.sample_rate)
        if self.shape == "waveform":
            return 1, samples
        if self.shape == "square":
            return self.image_size, self.image_size
        return self.n_mels, 1 + samples // self.hop_length

    def to_key(self) -> dict[str, Any]:
        """The settings that form the key of stored results, without those that have their first value."""
        return {name: value for name, value in self.to_dict().items() if _FIRST_IMAGES.get(name) != value}

    @classmethod
    def from_key(cls, data: dict[str, Any]) -> Self:
        """Inverse of `to_key`. Raises ConfigError."""
        return cls.from_dict(_FIRST_IMAGES | data)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig(Section):
    """Training, validation and test parts, and the baseline."""

    test: float = setting(0.2, "Share of all clips held out for the final test.", low=0.05, high=0.5)
    validation: float = setting(
        0.15, "Share of the rest that is the validation part; 0 for none.", low=0, high=0.5
    )
    group_by_song: bool = setting(True, "Keep all clips of a song in one part.")
    folds: int = setting(0, "Number of cross-validation folds; 0 for one hold-out.", low=0, high=20)
    fold: int = setting(0, "Which of the folds is the test part.", low=0, high=19)
    validation_from: Literal["next", "rest"] = setting(
        "next",
        "With folds, the source of the validation part: the test songs of the next fold (validation parts of "
        "folds then do not overlap, if their shares allow it), or all songs outside the test part, as in "
        "older runs.",
    )
    seed: int = setting(0, "Seed of the split.", low=0, high=MAX_SEED)
    baseline: bool = setting(True, "Also test an SVM on statistics of the sound.")
    control: Literal["none", "labels", "silence", "noise"] = setting(
        "none", "A control run: labels shuffled over songs, or silence or noise for each clip."
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.folds == 1:
            raise ConfigError("folds=1 leaves nothing to train on; use 0 for a hold-out, or at least 2")
        if self.folds and self.fold >= self.folds:
            raise ConfigError(f"fold={self.fold} is out of range: 0 <= fold < folds={self.folds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig(Section):
    """Augmentation: random changes to training images only."""

    time_masks: int = setting(0, "SpecAugment: number of time masks.", low=0, high=8)
    time_mask_share: float = setting(0.15, "Longest time mask, share of the window.", low=0, high=0.5)
    frequency_masks: int = setting(0, "SpecAugment: number of frequency masks.", low=0, high=8)
    frequency_mask_share: float = setting(0.15, "Widest frequency mask, share of all bands.", low=0, high=0.5)
    time_shift: float = setting(0.0, "Largest circular shift, share of the window.", low=0, high=1)
    mixup: float = setting(0.0, "Mixup's alpha; 0 for none.", low=0, high=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(Section):
    """Network and training."""

    backbone: str = setting(
        "efficientnet_lite0", "Name of the pretrained network; several frozen ones are joined by +."
    )
    weights: str = setting(
        "imagenet",
        "imagenet, music or audioset (what the network was pretrained on), own (what each of the joined "
        "networks was pretrained on), none (random start), or a file.",
    )
    head: Literal["avg", "bands", "attention", "gru"] = setting(
        "avg",
        "How the feature map is reduced: by the network's own pooling, by the mean over time of each row "
        "(frequency band), or by attention or a GRU over time.",
    )
    depth: Literal["full", "short"] = setting(
        "full", "The whole network, or without its last stage, which is the most specific to photographs."
    )
    outputs: Literal["classes", "imagenet"] = setting(
        "classes",
        "One output for each class, or ImageNet's output layer with its dropout; the first of its 1000 "
        "outputs then stand for the classes.",
    )
    pool: Literal["mean", "attention"] = setting(
        "mean", "How a clip's windows become one answer: their mean, or a mean with learned weights."
    )
    freeze: Literal["head", "classifier", "last", "none"] = setting(
        "none",
        "Trained part: the head alone, with the linear layers before it, with the last stage, or everything.",
    )
    solver: Literal["steps", "ridge", "logistic", "kernel"] = setting(
        "steps",
        "How the head is trained: by steps of the optimizer, or solved at once for a frozen network, by "
        "ridge regression, logistic regression or kernel ridge regression (radial basis functions).",
    )
    always_training: bool = setting(
        False,
        "Never switch to evaluation mode: dropout is active and batch-norm uses the statistics of the batch, "
        "also in frozen parts and in tests.",
    )
    standardize: Literal["training", "window", "none"] = setting(
        "training",
        "Standardise images by the statistics of the training part, of each window, or not at all.",
    )
    dropout: float = setting(0.2, "Share of features dropped before the last layer.", low=0, high=0.9)
    loss: Literal["ce", "bce"] = setting("ce", "Cross-entropy, or binary cross-entropy on one-hot labels.")
    label_smoothing: float = setting(0.0, "Share of each label spread over all classes.", low=0, high=0.5)
    class_weights: bool = setting(False, "Weight classes by the inverse of their frequency.")
    optimizer: Literal["adam", "adamw"] = setting("adamw", "Optimizer.")
    lr: float = setting(1e-3, "Learning rate of the head.", low=1e-7, high=1)
    backbone_lr: float = setting(1.0, "Learning rate of the backbone, as a factor of lr.", low=0, high=1)
    weight_decay: float = setting(0.0, "Weight decay.", low=0, high=100)
    schedule: Literal["constant", "cosine"] = setting("constant", "Learning rate over the steps.")
    warmup: float = setting(0.0, "Share of all steps over which the rate rises from zero.", low=0, high=0.9)
    batch_size: int = setting(64, "Windows per step.", low=1, high=4096)
    epochs: int = setting(5, "Passes over the training part.", low=1, high=1000)
    patience: int = setting(0, "Stop after this many epochs without improvement; 0 never stops.", low=0)
    keep: Literal["best", "last"] = setting("last", "Which epoch's weights are tested and saved.")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Where to compute.")
    amp: bool = setting(True, "bfloat16 mixed precision on CUDA.")
    seed: int = setting(0, "Seed of everything random in training.", low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.depth == "short" and (self.head == "avg" or self.freeze not in ("head", "none")):
            raise ConfigError(
                "depth='short' leaves out the last stage, and needs a head that reads the map before it: "
                f"head={self.head!r} with freeze={self.freeze!r} needs depth='full'"
            )
        names = networks_of(self.backbone)
        if len(names) > 1 and (self.freeze, self.head) != ("head", "avg"):
            raise ConfigError(
                f"backbone {self.backbone!r}: joined networks are frozen; instead of "
                f"freeze={self.freeze!r} with head={self.head!r} use freeze='head' with head='avg', or a "
                "single network"
            )
        if len(set(names)) < len(names):
            raise ConfigError(f"backbone {self.backbone!r} names a network twice; name each once")
        if self.outputs == "imagenet" and self.head != "avg":
            raise ConfigError(
                f"outputs='imagenet' keeps the network's output layer instead of head={self.head!r}; "
                "use outputs='classes' or head='avg'"
            )

    @property
    def frozen_at_random(self) -> bool:
        """True if only a head is trained, on a network with random weights, which rarely learns anything."""
        random = self.weights == "none" and DESCRIPTORS not in networks_of(self.backbone)
        return random and self.freeze in ("head", "classifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Section):
    """All settings of one run."""

    audio: AudioConfig = AudioConfig()
    mel: MelConfig = MelConfig()
    split: SplitConfig = SplitConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.mel.f_max > self.audio.sample_rate / 2:
            raise ConfigError(
                f"f_max={self.mel.f_max} is above half the sample rate; "
                f"with sample_rate={self.audio.sample_rate} it can be at most {self.audio.sample_rate / 2:g}"
            )
        samples = int(self.audio.window_seconds * self.audio.sample_rate)
        if self.mel.n_fft > samples:
            raise ConfigError(
                f"n_fft={self.mel.n_fft} is longer than a window; with {self.audio.window_seconds} s "
                f"at {self.audio.sample_rate} Hz it can be at most {samples}"
            )
        settings = self.by_name()
        require_input(settings)
        if self.train.keep == "best" and self.split.validation == 0:
            raise ConfigError("keep='best' needs a validation part; set validation above 0 or keep='last'")
        if self.train.pool == "attention":
            wanted = {"loss": "ce", "outputs": "classes", "always_training": False}
            for name, value in wanted.items():
                if getattr(self.train, name) != value:
                    raise ConfigError(f"pool='attention' needs {name}={value!r}")
            if self.augment.mixup:
                raise ConfigError("pool='attention' learns from whole clips, so it needs mixup=0")
        if self.train.solver != "steps":
            require_solvable(settings)

    def _changes_of_input(self, backbone: str) -> dict[str, Any]:
        """Settings that must change together with the backbone: those of its input, and `weights`."""
        old, new = required_input(self.train.backbone), required_input(backbone)
        if old == new:
            return {}
        usual = Config()
        changes = {name: getattr(usual._section(name), name) for name in old} | new
        if self.train.weights in PRETRAINED:
            changes["weights"] = pretrained(backbone)
        if new:
            changes |= {"head": "avg", "depth": "full"}
        return changes

    def by_name(self) -> dict[str, Any]:
        """The value of each setting by its name without section; `seed` is that of the training."""
        parts = (getattr(self, field.name).to_dict() for field in dataclasses.fields(self))
        return {name: value for part in parts for name, value in part.items()}

    def _section(self, name: str) -> Section:
        """The section that has a setting of this name."""
        sections = (getattr(self, field.name) for field in dataclasses.fields(self))
        return next(part for part in sections if name in part.__dataclass_fields__)

    @property
    def input_shape(self) -> tuple[int, int]:
        """Rows and columns of the network's input."""
        return self.mel.image_shape(self.audio)

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of settings that have no effect: those of training in steps, if the head is solved."""
        return () if self.train.solver == "steps" else STEPS_ONLY

    def to_json(self) -> str:
        """One line of JSON with sorted keys, so that equal configs give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`. Raises ConfigError."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:  # also too long a number or too deep nesting
            raise ConfigError(f"config is not JSON: {error}") from error
        return cls.from_dict(data)

    def updated(self, **changes: Any) -> Self:
        """Copy with some settings changed, named without their section.

        `seed` changes the seeds of split and training. `backbone` also changes the settings of its input, if
        the old or the new network needs a certain one. Raises ConfigError for an unknown name or a bad
        value.
        """
        changes = self._changes_of_input(changes.get("backbone", self.train.backbone)) | changes
        sections = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        names = {name: [f.name for f in dataclasses.fields(part)] for name, part in sections.items()}
        known = sorted(set().union(*names.values()))
        for key in changes:
            if key not in known:
                raise ConfigError(f"unknown setting {key!r}; there are: {', '.join(known)}")
        return type(self)(
            **{
                name: part.replace(**{key: value for key, value in changes.items() if key in names[name]})
                for name, part in sections.items()
            }
        )
