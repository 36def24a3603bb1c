"""Trains a tiny network in one process and in all that torchrun starts, and prints the differences.

`python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.two_ranks` prints one JSON object.
"""

import json
import sys
from contextlib import nullcontext

import torch
from torch.nn.functional import cross_entropy

from mer.audio.transforms import TrainTransform
from mer.config import Config
from mer.config.sections import AugmentConfig
from mer.models.build import configured_classifier
from mer.training.distributed import ALONE, Ranks, together
from mer.training.loop import Callback, fit
from mer.training.norms import joined_norms
from mer.training.solved import fit_solved
from mer.utils.errors import Stop
from tests.tiny_backbone import STANDARDIZER, tiny_config, tiny_model, tiny_zoo, tones_or_beats

# 22 windows in batches of 8; the last has 6, three for each of two processes.
VARIANTS = {
    "the whole network": {},
    "three for two": {"batch_size": 3},
    "bands of a frozen body": {"head": "bands", "freeze": "head"},
    "attention over windows": {"pool": "attention"},
    "weights and bce": {"loss": "bce", "class_weights": True, "freeze": "last"},
    "no evaluation mode": {"always_training": True},
    "momentum of the best": {"keep": "best", "optimizer": "adamw", "weight_decay": 0.1},
}


def trained(ranks: Ranks, **settings) -> tuple[dict, list]:
    """Weights and history of a run whose only random choice is the order of windows."""
    config = tiny_config(**{"dropout": 0.0, "epochs": 3} | settings)
    model = tiny_model(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    transform = TrainTransform(
        STANDARDIZER, AugmentConfig(time_masks=0, frequency_masks=0, time_shift=0, mixup=0)
    )
    train, held_out = tones_or_beats(11), tones_or_beats(9, seed=1)
    state = fit(model, train, held_out, transform=transform, config=config, ranks=ranks)
    return model.state_dict(), state.history


# The batch-norm after these biases cancels them: their gradient is rounding error, which Adam scales up.
WITHOUT_EFFECT = ("body.features.0.bias", "body.features.4.bias", "running_mean", "num_batches_tracked")


def difference(one: dict, other: dict) -> float:
    """The largest difference between two sets of tensors, without those that have no effect."""
    assert one.keys() == other.keys()
    names = [name for name in one if not name.endswith(WITHOUT_EFFECT)]
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in names)


def solved(ranks: Ranks, solver: str) -> dict:
    """Weights of a solved head."""
    config = tiny_config(solver=solver, freeze="head")
    model = tiny_model(config)
    songs = [str(number) for number in range(12)]
    fit_solved(
        model, tones_or_beats(12), tones_or_beats(9, seed=1),
        transform=TrainTransform(STANDARDIZER, AugmentConfig()), config=config, songs=songs, ranks=ranks,
    )  # fmt: skip
    return model.state_dict()


def gradients(ranks: Ranks) -> torch.Tensor:
    """Gradients of one step of the default network, EfficientNet-Lite0 with its ImageNet weights.

    In double precision, because 49 batch-norms in a row amplify the rounding of single precision.
    """
    torch.manual_seed(0)
    model = configured_classifier(Config().train.replace(dropout=0.0), classes=5).double().train()
    images, labels = torch.randn(6, 3, 64, 64, dtype=torch.float64), torch.arange(6) % 5
    own, share = ranks.share(torch.arange(6))
    with joined_norms(model) if ranks.size > 1 else nullcontext():
        (cross_entropy(model(images[own]), labels[own]) * share).backward()
    ranks.sum_gradients(model.parameters())
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


class StopInSecondEpoch(Callback):
    """Requests a stop in the second epoch, as a user does, in the first process only."""

    def on_step(self, step):
        if step.epoch == 2:
            raise Stop("enough")


def stopped(ranks: Ranks) -> bool:
    """True if a stop in the first process also stops this one."""
    config = tiny_config(epochs=50)
    transform = TrainTransform(STANDARDIZER, AugmentConfig())
    callbacks = [StopInSecondEpoch()] if ranks.first else []
    try:
        fit(
            tiny_model(config), tones_or_beats(11), None, transform=transform, config=config,
            callbacks=callbacks, ranks=ranks,
        )  # fmt: skip
    except Stop:
        return True
    return False


def main() -> None:
    """Compare, and print from the first process."""
    torch.set_num_threads(1)
    found = {}
    with tiny_zoo(), together() as ranks:
        for name, settings in VARIANTS.items():
            weights, history = trained(ranks, **settings)
            own = torch.tensor([value.double().sum() for value in weights.values()])
            alike = bool((ranks.sum(own.clone()) - ranks.size * own).abs().max() < 1e-9)
            alone, lone_history = trained(ALONE, **settings)
            losses, checks = (
                [abs(a[name] - b[name]) for a, b in zip(history, lone_history, strict=True)]
                for name in ("train_loss", "validation_loss")
            )
            found[name] = {
                "weights": difference(weights, alone),
                "moved": difference(weights, tiny_model(tiny_config(**settings)).state_dict()),
                "loss": max(losses),
                "validation": max(checks),
                "alike": alike,
            }
        found["solved"] = max(
            difference(solved(ranks, solver), solved(ALONE, solver)) for solver in ("ridge", "kernel")
        )
        both, one = gradients(ranks), gradients(ALONE)
        found["default_network"] = float((both - one).norm() / one.norm())
        found["stopped"] = bool(ranks.sum(torch.tensor([float(stopped(ranks))])) == ranks.size)
        found["size"] = ranks.size
        if ranks.first:
            sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
