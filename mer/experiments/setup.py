"""The start of a training: a checked request, and from it the network, its windows and their transform."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from mer.audio.mel import Standardizer
from mer.audio.transforms import TrainTransform
from mer.config.sections import Config
from mer.data.check import one_class
from mer.data.splits import Split
from mer.data.windows import Windows
from mer.experiments.prepared import PreparedData, Spec, prepare
from mer.models.build import configured_classifier, require_classifier
from mer.models.classifier import Classifier
from mer.models.forward import choose_device
from mer.training.distributed import ALONE, Ranks
from mer.training.embeddings import KeptEmbeddings, embed, trains_head_alone
from mer.training.loop import Callback, State, fit
from mer.training.solved import fit_solved
from mer.utils.progress import Notify

__all__ = ["PreparedRun", "Setup"]


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A request with its prepared data and their split; for a cross-validation, that of its first fold."""

    spec: Spec
    data: PreparedData
    split: Split

    @classmethod
    def checked(cls, spec: Spec, *, notify: Notify | None = None) -> "PreparedRun":
        """Prepare the data of a request, and check all that a run of it needs.

        Raises DataError, SplitError, ConfigError, BackboneError, and WeightsError, which names weights that
        are missing.
        """
        data = prepare(spec, notify=notify)
        split = data.split(spec.config)
        tested = data.classes_of(split.test)
        if notify and len(tested) == 1:
            notify(f"note: {one_class(tested.pop())}", 0, 0)
        require_classifier(spec.config.train, classes=len(data.classes), shape=spec.config.input_shape)
        return cls(spec, data, split)

    def fold(self, number: int) -> "PreparedRun":
        """The run of one fold of a cross-validation, counted from 0."""
        config = self.spec.config.updated(fold=number)
        split = self.split if config == self.spec.config else self.data.split(config)
        return PreparedRun(replace(self.spec, config=config), self.data, split)


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a training starts from. The same request gives the same setup in every process."""

    config: Config
    model: Classifier
    train: Windows
    validation: Windows | None
    transform: TrainTransform
    kept: KeptEmbeddings | None
    songs: Sequence[str] = ()  # of the training clips, for a solved head

    @classmethod
    def of(cls, run: PreparedRun) -> "Setup":
        """Build the setup of a run. Raises BackboneError and WeightsError."""
        config, data, split = run.spec.config, run.data, run.split
        model = _new_model(config, classes=len(data.classes))
        train = data.windows(split.train)
        transform = TrainTransform(_standardizer(config, train), config.augment)
        validation = data.windows(split.validation) if len(split.validation) else None
        kept = data.embeddings(model, transform) if trains_head_alone(model, transform) else None
        songs = data.groups(split.train) if config.train.solver != "steps" else ()
        return cls(config, model, train, validation, transform, kept, songs)

    def fit(
        self, callbacks: Sequence[Callback] = (), *, resume: State | None = None, ranks: Ranks = ALONE
    ) -> State:
        """Train the network.

        Parameters
        ----------
        callbacks, resume, ranks
            See `mer.training.loop.fit` and, for a solved head, `mer.training.solved.fit_solved`.

        Returns
        -------
        State
            The state after training.
        """
        method = fit if self.config.train.solver == "steps" else partial(fit_solved, songs=self.songs)
        return method(
            self.model, self.train, self.validation, transform=self.transform, config=self.config.train,
            callbacks=callbacks, resume=resume, embed=self.kept or embed, ranks=ranks,
        )  # fmt: skip


def _new_model(config: Config, *, classes: int) -> Classifier:
    """A classifier on its device. The seed alone decides its random weights."""
    train = config.train
    torch.manual_seed(train.seed)
    model = configured_classifier(train, classes=classes)
    return model.to(choose_device(train.device), memory_format=torch.channels_last)


def _standardizer(config: Config, train: Windows) -> Standardizer:
    """Brings images to zero mean and unit variance. It sees no clip outside the training part."""
    if config.train.standardize == "training":
        return Standardizer.fit(train.batches())
    return Standardizer(per_window=config.train.standardize == "window")
