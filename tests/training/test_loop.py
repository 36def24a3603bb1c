"""The training loop: it learns, repeats itself to the bit, and can be stopped and resumed anywhere."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mer.audio.transforms import EvalTransform, TrainTransform
from mer.config.sections import AugmentConfig
from mer.data.windows import WindowSet
from mer.models.forward import choose_device, pass_size
from mer.training.feed import Feed
from mer.training.loop import Callback, epoch_seed, fit, rate_factor
from mer.training.losses import class_weights
from mer.training.predict import predict_windows, window_probabilities
from mer.training.state import load_state, save_state
from mer.utils.errors import RunError, Stop
from tests.tiny_backbone import (
    SIZE,
    STANDARDIZER,
    tiny_config,
    tiny_fit,
    tiny_model,
    tiny_zoo,
    tones_or_beats,
)

AUGMENTED = AugmentConfig(time_masks=1, frequency_masks=1, time_shift=0.3)
MIXED = AugmentConfig(time_shift=0.3, mixup=0.4)


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@dataclass
class Recorder(Callback):
    """Remembers everything; stops where it is told to."""

    steps: list = field(default_factory=list)
    epochs: list = field(default_factory=list)
    path: object = None
    stop_at: int = 0
    stop_after: int = 0

    def on_step(self, step):
        self.steps.append(step)
        if step.done == self.stop_at:
            raise Stop("enough")

    def on_epoch(self, state):
        self.epochs.append((state.epoch, len(state.history), state.best_epoch))
        if self.path:
            save_state(self.path, state)
        if state.epoch == self.stop_after:
            raise Stop("enough")


def figures(state):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in state.history]


def same_weights(left, right):
    left, right = left.state_dict(), right.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def images_of(windows):
    """The images of each clip."""
    return [windows.images(windows.of_clips(np.array([clip]))) for clip in range(len(windows.counts))]


def flipped(windows):
    """The same windows with every label wrong."""
    return WindowSet(images_of(windows), 1 - windows.labels, classes=2)


def windows_of(labels, *, seed=0):
    """One noisy window for each label."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(-40, 10, (1, SIZE, SIZE)).astype(np.float16) for _ in labels]
    return WindowSet(arrays, labels, classes=2)


# --- learning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["ce", "bce"])
@pytest.mark.parametrize(("freeze", "head"), [("none", "avg"), ("last", "attention"), ("none", "gru")])
def test_the_loss_falls_and_held_out_clips_are_classified(loss, freeze, head):
    config = tiny_config(loss=loss, freeze=freeze, head=head, epochs=12)
    model, state = tiny_fit(config, train=tones_or_beats(16), validation=tones_or_beats(8, seed=1))
    assert state.history[-1]["train_loss"] < 0.6 * state.history[0]["train_loss"]
    assert state.history[-1]["validation_loss"] < 0.6 * state.history[0]["validation_loss"]
    assert state.history[-1]["validation_accuracy"] == 1
    test = tones_or_beats(8, seed=2)
    rows = test.pool(*window_probabilities(model, test, EvalTransform(STANDARDIZER), config))
    assert np.allclose(rows.sum(axis=1), 1)
    assert (rows.argmax(axis=1) == test.labels).all()


def test_random_labels_are_not_learned():
    config = tiny_config(epochs=12)
    train, held_out = windows_of([0, 1] * 8), windows_of([0, 1] * 20, seed=1)
    _, state = tiny_fit(config, train=train, validation=held_out)
    assert state.history[-1]["validation_accuracy"] < 0.75


def test_both_optimizers_shrink_weights_and_differ_in_how():
    decayed = {}
    for optimizer in ("adam", "adamw"):
        plain = tiny_fit(tiny_config(optimizer=optimizer))[0]
        decayed[optimizer] = tiny_fit(tiny_config(optimizer=optimizer, weight_decay=0.5))[0]
        assert decayed[optimizer].head.linear.weight.norm() < plain.head.linear.weight.norm()
    assert not same_weights(decayed["adam"], decayed["adamw"])


def test_frozen_weights_do_not_change():
    for freeze in ("head", "last"):
        config = tiny_config(freeze=freeze)
        before = tiny_model(config)
        after, _ = tiny_fit(config)
        moved = {n for n, t in after.state_dict().items() if not torch.equal(t, before.state_dict()[n])}
        assert moved == set(before.trainable_state())


def test_a_backbone_rate_of_zero_leaves_the_body_unchanged():
    config = tiny_config(backbone_lr=0.0)
    before, (after, _) = tiny_model(config), tiny_fit(config)
    pairs = zip(before.named_parameters(), after.named_parameters(), strict=True)
    moved = {name for (name, old), (_, new) in pairs if not torch.equal(old, new)}
    assert moved == {"head.linear.weight", "head.linear.bias"}


# --- figures ----------------------------------------------------------------------------------------


def test_history_is_one_row_of_plain_numbers_for_each_epoch():
    _, state = tiny_fit(tiny_config(epochs=3), validation=tones_or_beats(4, seed=1))
    assert [row["epoch"] for row in state.history] == [1, 2, 3]
    assert state.history[0].keys() == {
        "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds",
    }  # fmt: skip
    assert all(isinstance(value, (int, float)) for row in state.history for value in row.values())


def test_without_a_validation_part_there_are_no_validation_scores():
    _, state = tiny_fit(tiny_config(epochs=1))
    assert state.history[0].keys() == {"epoch", "train_loss", "train_accuracy", "seconds"}


def test_the_last_validation_figures_are_those_of_the_final_model():
    held_out = tones_or_beats(6, seed=1, noise=20)
    config = tiny_config(epochs=2)
    model, state = tiny_fit(config, validation=held_out)
    logits, _ = predict_windows(
        model, Feed(held_out, EvalTransform(STANDARDIZER), torch.device("cpu")), config
    )
    loss = F.cross_entropy(logits, torch.from_numpy(held_out.window_labels)).item()
    assert state.history[-1]["validation_loss"] == pytest.approx(loss, rel=1e-6)
    rows = held_out.pool(*window_probabilities(model, held_out, EvalTransform(STANDARDIZER), config))
    share = (rows.argmax(axis=1) == held_out.labels).mean()
    assert state.history[-1]["validation_accuracy"] == pytest.approx(share)


def test_class_weights_weigh_each_window_by_its_class():
    train = windows_of([0] * 9 + [1] * 3)
    config = tiny_config(freeze="head", dropout=0.0, lr=1e-7, epochs=1, class_weights=True)
    model = tiny_model(config)
    logits, _ = predict_windows(model, Feed(train, EvalTransform(STANDARDIZER), torch.device("cpu")), config)
    labels = torch.from_numpy(train.window_labels)
    weights = class_weights(train.window_labels, 2)
    by_hand = (weights[labels] * F.cross_entropy(logits, labels, reduction="none")).mean()
    _, state = tiny_fit(config, train=train)
    assert state.history[0]["train_loss"] == pytest.approx(by_hand.item(), rel=1e-4)
    _, plain = tiny_fit(config.replace(class_weights=False), train=train)
    assert plain.history[0]["train_loss"] != pytest.approx(by_hand.item(), rel=1e-3)


def test_class_weights_come_from_the_training_part_alone():
    config = tiny_config(freeze="head", dropout=0.0, lr=1e-7, epochs=1, class_weights=True)
    train, held_out = windows_of([0] * 9 + [1] * 3), windows_of([1] * 6, seed=1)
    logits, _ = predict_windows(
        tiny_model(config), Feed(held_out, EvalTransform(STANDARDIZER), torch.device("cpu")), config
    )
    by_hand = 2.0 * F.cross_entropy(logits, torch.ones(6, dtype=torch.long)).item()
    _, state = tiny_fit(config, train=train, validation=held_out)
    assert state.history[0]["validation_loss"] == pytest.approx(by_hand, rel=1e-4)


# --- steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "batch", "steps"), [(8, 4, 2), (9, 4, 2), (10, 4, 3), (3, 8, 1), (1, 4, 1)]
)
def test_a_last_batch_of_one_window_joins_the_batch_before(windows, batch, steps):
    seen = Recorder()
    tiny_fit(
        tiny_config(batch_size=batch, epochs=2),
        train=windows_of([0, 1, 0, 1, 0, 1, 0, 1, 0, 1][:windows]),
        callbacks=[seen],
    )
    assert [(step.done, step.total) for step in seen.steps] == [(k + 1, 2 * steps) for k in range(2 * steps)]
    assert [step.epoch for step in seen.steps] == [1] * steps + [2] * steps


def test_each_epoch_sees_every_window_once_in_an_order_of_its_own():
    train, seen = windows_of([0, 1] * 6), []

    class Spy(WindowSet):
        def images(self, indices):
            seen.append(indices.tolist())
            return super().images(indices)

    tiny_fit(tiny_config(epochs=3), train=Spy(images_of(train), train.labels, classes=2))
    epochs = [[*first, *second] for first, second in zip(seen[::2], seen[1::2], strict=True)]
    assert [sorted(order) for order in epochs] == [list(range(12))] * 3
    assert len({tuple(order) for order in epochs}) == 3


def test_callbacks_are_called_for_each_step_and_epoch():
    seen = Recorder()
    _, state = tiny_fit(tiny_config(epochs=3), callbacks=[seen])
    assert seen.epochs == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    assert len(seen.steps) == 9
    losses = [step.loss for step in seen.steps if step.epoch == 3]
    sizes = [8, 8, 4]
    assert state.history[2]["train_loss"] == pytest.approx(np.average(losses, weights=sizes))
    hits = sum(step.accuracy * size for step, size in zip(seen.steps[-3:], sizes, strict=True))
    assert state.history[2]["train_accuracy"] == pytest.approx(hits / 20)


# --- learning rate ----------------------------------------------------------------------------------


def test_a_constant_rate_is_constant():
    config = tiny_config(schedule="constant", warmup=0.0)
    assert {rate_factor(config, done, 50) for done in range(50)} == {1.0}


def test_warm_up_rises_in_equal_steps_to_the_full_rate():
    config = tiny_config(schedule="constant", warmup=0.4)
    assert [rate_factor(config, done, 10) for done in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_cosine_goes_from_1_through_a_half_to_nearly_0():
    config = tiny_config(schedule="cosine", warmup=0.2)
    factors = [rate_factor(config, done, 20) for done in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[12] == pytest.approx(0.5)
    assert factors[19] == pytest.approx(0.5 * (1 + math.cos(math.pi * 15 / 16)))
    assert all(later < earlier for earlier, later in pairwise(factors[4:]))


@given(
    warmup=st.floats(0, 0.9),
    total=st.integers(1, 200),
    schedule=st.sampled_from(["constant", "cosine"]),
    share=st.floats(0, 0.999),
)
def test_the_rate_is_always_above_0_and_at_most_1(warmup, total, schedule, share):
    config = tiny_config(schedule=schedule, warmup=warmup)
    assert 0 < rate_factor(config, int(share * total), total) <= 1


def test_the_optimizer_is_given_the_rates_that_the_schedule_says():
    config = tiny_config(schedule="cosine", warmup=0.25, lr=0.01, backbone_lr=0.1, epochs=2)
    _, state = tiny_fit(config)
    last = rate_factor(config, 5, 6)
    assert [group["lr"] for group in state.optimizer["param_groups"]] == pytest.approx(
        [0.01 * last, 0.001 * last]
    )


# --- repeatability ----------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", ["none", "head"])
def test_the_same_seed_gives_the_same_weights(freeze):
    config = tiny_config(freeze=freeze)
    first, one = tiny_fit(config)
    model = tiny_model(config)
    torch.rand(100)
    second, two = tiny_fit(config, model=model)
    assert same_weights(first, second)
    assert figures(one) == figures(two)


@pytest.mark.parametrize("freeze", ["none", "head"])
def test_another_seed_gives_other_weights_from_the_same_start(freeze):
    first, _ = tiny_fit(tiny_config(freeze=freeze, seed=0))
    second, _ = tiny_fit(tiny_config(freeze=freeze, seed=1))
    assert not same_weights(first, second)


def test_seeds_of_epochs_are_different_and_always_the_same():
    seeds = [epoch_seed(seed, epoch) for seed in range(20) for epoch in range(20)]
    assert len(set(seeds)) == 400
    assert [epoch_seed(0, 0), epoch_seed(0, 1), epoch_seed(1, 0)] == [*seeds[:2], seeds[20]]


@pytest.mark.parametrize("head", ["avg", "attention", "gru"])
@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_training_on_embeddings_equals_training_on_images(head, loss):
    config = tiny_config(freeze="head", head=head, loss=loss, dropout=0.5, epochs=5)
    held_out = tones_or_beats(6, seed=1)
    fast, one = tiny_fit(config, validation=held_out)
    transform = TrainTransform(STANDARDIZER, AugmentConfig())
    transform.is_random = True  # so it says
    slow = tiny_model(config)
    two = fit(slow, tones_or_beats(), held_out, transform=transform, config=config)
    for name, tensor in slow.state_dict().items():
        assert torch.allclose(tensor, fast.state_dict()[name], atol=1e-5), name
    for left, right in zip(figures(one), figures(two), strict=True):
        assert left == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize(
    ("freeze", "augment", "seen"),
    [
        ("head", AugmentConfig(), 2 * pass_size(torch.device("cpu"))),  # once: 20 windows, filled up
        ("head", AUGMENTED, 4 * 20),
        ("head", AugmentConfig(mixup=0.2), 4 * 20),
        ("last", AugmentConfig(), 4 * 20),
        ("none", AugmentConfig(), 4 * 20),
    ],
)
def test_only_a_frozen_body_without_random_input_computes_each_image_once(freeze, augment, seen):
    config = tiny_config(freeze=freeze, epochs=4)
    model, counts = tiny_model(config), []
    model.body.register_forward_hook(lambda module, inputs, output: counts.append(len(output)))
    tiny_fit(config, model=model, augment=augment)
    assert sum(counts) == seen


# --- augmentation -----------------------------------------------------------------------------------


def test_augmentation_is_for_training_windows_only():
    mark, seen = -7.0, []

    class Spy(TrainTransform):
        def __call__(self, images):
            seen.append(images)
            return super().__call__(images)

    held_out = WindowSet([np.full((2, SIZE, SIZE), mark, np.float16)] * 2, [0, 1], classes=2)
    config = tiny_config()
    transform = Spy(STANDARDIZER, AUGMENTED)
    fit(tiny_model(config), tones_or_beats(), held_out, transform=transform, config=config)
    assert len(seen) == 4 * 3
    assert not any((images == mark).all(dim=(1, 2)).any() for images in seen)


def test_validation_scores_do_not_depend_on_augmentation():
    held_out = tones_or_beats(6, seed=1)
    config = tiny_config(freeze="head", lr=1e-7, epochs=3)
    _, plain = tiny_fit(config, validation=held_out)
    _, augmented = tiny_fit(config, validation=held_out, augment=AUGMENTED)
    for left, right in zip(plain.history, augmented.history, strict=True):
        assert left["validation_loss"] == pytest.approx(right["validation_loss"], abs=1e-5)
        assert left["train_loss"] != pytest.approx(right["train_loss"], abs=1e-3)


def test_shares_of_votes_are_learned_in_place_of_the_label():
    shares = [[0.7, 0.3], [0.7, 0.3]] * 4
    plain = tones_or_beats(8)
    arrays = [plain.images(np.flatnonzero(plain.clip == clip)) for clip in range(8)]
    windows = WindowSet(arrays, [0] * 8, classes=2, votes=shares)
    config = tiny_config(freeze="head", dropout=0.0, epochs=40, lr=0.05)
    model, state = tiny_fit(config, train=windows, validation=windows)
    found = window_probabilities(model, windows, EvalTransform(STANDARDIZER), config)[0].mean(axis=0)
    assert found == pytest.approx([0.7, 0.3], abs=0.05)
    entropy = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3))
    assert state.history[-1]["validation_loss"] == pytest.approx(entropy, abs=0.05)


def test_predictions_repeat_despite_dropout():
    config = tiny_config(epochs=1, dropout=0.9)
    model, _ = tiny_fit(config)
    model.train()
    first, second = (
        window_probabilities(model, tones_or_beats(), EvalTransform(STANDARDIZER), config)[0]
        for _ in range(2)
    )
    assert (first == second).all()


# --- stopping and resuming --------------------------------------------------------------------------

RUNS = {
    "everything trains": ({}, None, False),
    "everything trains, augmented and mixed": ({}, MIXED, False),
    "channels last": ({}, None, True),
    "last stage": ({"freeze": "last"}, None, False),
    "last stage, masked": ({"freeze": "last"}, AUGMENTED, False),
    "frozen, from embeddings": ({"freeze": "head"}, None, False),
    "frozen, augmented": ({"freeze": "head"}, AUGMENTED, False),
    "attention": ({"head": "attention"}, None, False),
    "gru over a frozen body": ({"head": "gru", "freeze": "head"}, None, False),
    "adam with decay, warm-up and cosine": (
        {"optimizer": "adam", "weight_decay": 0.1, "warmup": 0.3, "schedule": "cosine"},
        None,
        False,
    ),
    "bce with class weights and smoothing": (
        {"loss": "bce", "class_weights": True, "label_smoothing": 0.1},
        None,
        False,
    ),
    "best epoch": ({"keep": "best"}, None, False),
    "best epoch, last stage, out of patience": (
        {"keep": "best", "patience": 2, "freeze": "last", "epochs": 12},
        MIXED,
        False,
    ),
}


STOPS = {"between epochs": {"stop_after": 2}, "within an epoch": {"stop_at": 8}}


@pytest.mark.parametrize("run", RUNS)
def test_stopped_and_resumed_equals_never_stopped_to_the_last_bit(run, tmp_path):
    changes, augment, channels_last = RUNS[run]
    config = tiny_config(**{"epochs": 4} | changes)
    held_out = flipped(tones_or_beats(6, seed=1)) if config.patience else tones_or_beats(6, seed=1, noise=20)

    def run_it(**options):
        model = tiny_model(config, channels_last=channels_last)
        return tiny_fit(config, model=model, validation=held_out, augment=augment, **options)

    whole, undisturbed = run_it()
    assert undisturbed.epoch > 2
    for when, stop in STOPS.items():
        path = tmp_path / when
        with pytest.raises(Stop):
            run_it(callbacks=[Recorder(path=path, **stop)])
        kept = load_state(path)
        assert kept.epoch == 2, when
        resumed, state = run_it(resume=kept)
        assert figures(state) == figures(undisturbed), when
        assert (state.epoch, state.best_epoch) == (undisturbed.epoch, undisturbed.best_epoch), when
        assert same_weights(resumed, whole), when


def test_a_run_stopped_many_times_ends_the_same(tmp_path):
    config = tiny_config(epochs=5)
    whole, undisturbed = tiny_fit(config, augment=MIXED)
    for epoch in range(1, 5):
        seen, kept = Recorder(path=tmp_path / "state", stop_after=epoch), load_state(tmp_path / "state")
        with pytest.raises(Stop):
            tiny_fit(config, augment=MIXED, callbacks=[seen], resume=kept)
        assert [number for number, _, _ in seen.epochs] == [epoch]
    resumed, state = tiny_fit(config, augment=MIXED, resume=load_state(tmp_path / "state"))
    assert same_weights(resumed, whole)
    assert figures(state) == figures(undisturbed)


def test_a_stop_within_an_epoch_leaves_the_state_of_the_last_whole_one_valid():
    config, given = tiny_config(epochs=4), []

    class Keep(Recorder):
        def on_epoch(self, state):
            given.append(state)

    whole, _ = tiny_fit(config)
    with pytest.raises(Stop):
        tiny_fit(config, callbacks=[Keep(stop_at=8)])
    assert given[-1].epoch == 2
    assert same_weights(tiny_fit(config, resume=given[-1])[0], whole)


def test_resuming_needs_the_saved_weights():
    """That the equality above is no accident: without the optimizer's moments it does not hold."""
    config = tiny_config(epochs=4)
    whole, _ = tiny_fit(config)
    _, half = tiny_fit(config.replace(epochs=2))
    resumed, _ = tiny_fit(config, resume=half)
    assert same_weights(resumed, whole)
    half.optimizer["state"] = {}
    assert not same_weights(tiny_fit(config, resume=half)[0], whole)


def test_resuming_does_not_change_the_given_state():
    _, half = tiny_fit(tiny_config(epochs=2))
    before = {name: tensor.clone() for name, tensor in half.model.items()}
    moments = half.optimizer["state"][0]["exp_avg"].clone()
    tiny_fit(tiny_config(epochs=4), resume=half)
    assert (half.epoch, len(half.history)) == (2, 2)
    assert all(torch.equal(half.model[name], before[name]) for name in before)
    assert torch.equal(half.optimizer["state"][0]["exp_avg"], moments)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_fully_trained_run_restores_its_weights(keep):
    config = tiny_config(epochs=4, keep=keep)
    held_out = tones_or_beats(6, seed=1, noise=20)
    seen = Recorder()
    whole, finished = tiny_fit(config, validation=held_out)
    resumed, _ = tiny_fit(config, validation=held_out, callbacks=[seen], resume=finished)
    assert seen.steps == []
    assert same_weights(resumed, whole)


# --- which epoch ------------------------------------------------------------------------------------


def test_patience_ends_training_that_no_longer_improves():
    config = tiny_config(epochs=50, patience=3)
    _, state = tiny_fit(config, validation=flipped(tones_or_beats(6, seed=1)))
    losses = [row["validation_loss"] for row in state.history]
    assert state.best_epoch == 1 + int(np.argmin(losses))
    assert state.epoch == state.best_epoch + 3 < 50


def test_without_patience_all_epochs_run():
    _, state = tiny_fit(tiny_config(epochs=9, patience=0), validation=flipped(tones_or_beats(6, seed=1)))
    assert state.best_epoch < 6
    assert state.epoch == 9


def test_patience_needs_a_validation_part():
    _, state = tiny_fit(tiny_config(epochs=6, patience=1))
    assert (state.epoch, state.best_epoch) == (6, 6)


def test_keep_best_brings_back_the_epoch_with_the_lowest_validation_loss():
    held_out = flipped(tones_or_beats(6, seed=1))
    config = tiny_config(epochs=6, keep="best")
    model, state = tiny_fit(config, validation=held_out)
    assert state.best_epoch < 6
    early, _ = tiny_fit(config.replace(epochs=state.best_epoch, keep="last"), validation=held_out)
    assert same_weights(model, early)


def test_keep_last_keeps_the_last_epoch_even_if_it_is_not_the_best():
    held_out = flipped(tones_or_beats(6, seed=1))
    last, state = tiny_fit(tiny_config(epochs=6, keep="last"), validation=held_out)
    assert state.best_epoch < 6
    assert all(torch.equal(tensor, last.state_dict()[name]) for name, tensor in state.model.items())
    assert not same_weights(last, tiny_fit(tiny_config(epochs=6, keep="best"), validation=held_out)[0])


# --- devices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_prefers_cuda_then_mps_then_the_cpu(monkeypatch, cuda, mps, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == torch.device(wanted)
    assert choose_device("cpu") == torch.device("cpu")


def test_two_threads_resume_to_the_last_bit_too(tmp_path):
    torch.set_num_threads(2)
    config, few = tiny_config(epochs=2), tones_or_beats(4)
    model = tiny_model(config, channels_last=True)
    whole, _ = tiny_fit(config, train=few, model=model)
    with pytest.raises(Stop):
        tiny_fit(
            config,
            train=few,
            model=tiny_model(config, channels_last=True),
            callbacks=[Recorder(path=tmp_path / "state", stop_after=1)],
        )
    again = tiny_model(config, channels_last=True)
    resumed, _ = tiny_fit(config, train=few, model=again, resume=load_state(tmp_path / "state"))
    assert same_weights(resumed, whole)


# --- what goes wrong --------------------------------------------------------------------------------


@dataclass
class Spoil(Callback):
    """Makes a weight NaN after a step or an epoch."""

    model: object
    step: int = 0
    epoch: int = 0

    def on_step(self, step):
        if step.done == self.step:
            torch.nn.init.constant_(self.model.head.linear.bias, math.nan)

    def on_epoch(self, state):
        if state.epoch == self.epoch:
            torch.nn.init.constant_(self.model.head.linear.bias, math.nan)


@pytest.mark.parametrize(
    ("when", "figure"),
    [({"epoch": 2}, "train_loss"), ({"step": 8}, "train_loss"), ({"step": 9}, "validation_loss")],
)
def test_diverging_training_ends_with_an_error(when, figure):
    config = tiny_config(epochs=5)
    model, seen = tiny_model(config), Recorder()
    with pytest.raises(RunError, match=rf"{figure} is nan in epoch 3; lower lr=0\.02"):
        tiny_fit(
            config, model=model, validation=tones_or_beats(4, seed=1), callbacks=[Spoil(model, **when), seen]
        )
    assert [epoch for epoch, _, _ in seen.epochs] == [1, 2]


def test_a_mixed_example_counts_for_its_larger_share(monkeypatch):
    """Examples that mixup exchanges altogether are learned, and counted, by the label they came with."""
    monkeypatch.setattr("mer.training.loop.mixup", lambda x, y, alpha: (x.flip(0), y.flip(0)))
    _, state = tiny_fit(tiny_config(epochs=12), augment=AugmentConfig(mixup=0.3))
    assert state.history[-1]["train_accuracy"] > 0.9


# --- clips as bags of windows -----------------------------------------------------------------------


def one_telling_window(clips=24, *, windows=5, seed=0):
    """Clips of which one window tells the class, by held tones or beats, and the others are noise."""
    rng = np.random.default_rng(seed)
    labels, arrays = np.arange(clips) % 2, []
    for label in labels:
        images = rng.normal(-40, 6, (windows, SIZE, SIZE))
        told = images[rng.integers(windows)]
        loud = told[::4] if label == 0 else told[:, ::4]
        loud += 40
        arrays.append(images.astype(np.float16))
    return WindowSet(arrays, labels, classes=2)


def test_informative_windows_get_larger_weights():
    train, held_out = one_telling_window(48), one_telling_window(24, seed=1)
    config = tiny_config(pool="attention", epochs=30, batch_size=40, dropout=0.0)
    model, _ = tiny_fit(config, train=train, validation=held_out)
    rows, scores = window_probabilities(model, held_out, EvalTransform(STANDARDIZER), config)
    loud = held_out.images(np.arange(len(held_out))).astype(float).mean(axis=(1, 2)) > -36
    assert loud.sum() == 24
    assert scores[loud].mean() > scores[~loud].mean() + 1
    assert (held_out.pool(rows, scores).argmax(axis=1) == held_out.labels).mean() > 0.9


def test_windows_have_equal_weights_at_first():
    windows = one_telling_window(4)
    config = tiny_config(pool="attention")
    _, scores = window_probabilities(tiny_model(config), windows, EvalTransform(STANDARDIZER), config)
    assert (scores == 0).all()


def test_the_validation_loss_is_that_of_pooled_clips():
    held_out = one_telling_window(8, seed=1)
    config = tiny_config(pool="attention", epochs=1)
    model, state = tiny_fit(config, train=one_telling_window(16), validation=held_out)
    rows, scores = window_probabilities(model, held_out, EvalTransform(STANDARDIZER), config)
    own = held_out.pool(rows, scores)[np.arange(8), held_out.labels]
    assert state.history[-1]["validation_loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)
