"""Losses against target distributions, and the probabilities that go with each."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mer.config.sections import TrainConfig
from mer.models.outputs import to_probabilities
from mer.training.losses import class_weights, loss_function

pytestmark = pytest.mark.usefixtures("single_threaded")

LOGITS = arrays(np.float32, (4, 3), elements=st.floats(-200, 200, width=32))


@pytest.fixture
def logits():
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.tensor([0, 1, 2, 2, 1, 0])


def one_hot(labels, classes=3):
    return F.one_hot(labels, classes).float()


def loss_of(logits, targets, weights=None, **settings):
    weights = torch.ones(logits.shape[1]) if weights is None else weights
    return loss_function(TrainConfig(**settings), weights)(logits, targets)


@pytest.mark.parametrize("loss", ["ce", "bce"])
@given(logits=LOGITS)
def test_probabilities_are_distributions_however_extreme_the_logits(loss, logits):
    rows = to_probabilities(torch.from_numpy(logits), loss)
    assert (rows >= 0).all()
    assert torch.allclose(rows.sum(dim=1), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize("loss", ["ce", "bce"])
@given(logits=arrays(np.float32, (4, 3), elements=st.floats(-15, 15, width=32)))
def test_the_largest_logit_has_the_largest_probability(loss, logits):
    rows = to_probabilities(torch.from_numpy(logits), loss)
    largest = rows[range(4), logits.argmax(axis=1)]
    assert torch.allclose(largest, rows.max(dim=1).values)


def test_cross_entropy_goes_with_softmax(logits):
    assert torch.allclose(to_probabilities(logits, "ce"), logits.exp() / logits.exp().sum(1, keepdim=True))


def test_binary_cross_entropy_goes_with_sigmoids_scaled_to_sum_1(logits):
    chances = 1 / (1 + torch.exp(-logits))
    assert torch.allclose(to_probabilities(logits, "bce"), chances / chances.sum(1, keepdim=True))


def test_cross_entropy_of_labels_is_that_of_torch(logits, labels):
    assert torch.allclose(loss_of(logits, one_hot(labels), loss="ce"), F.cross_entropy(logits, labels))


def test_binary_cross_entropy_is_the_mean_over_examples_and_classes(logits, labels):
    targets, chances = one_hot(labels), logits.sigmoid()
    by_hand = -(targets * chances.log() + (1 - targets) * (1 - chances).log()).mean()
    assert torch.allclose(loss_of(logits, targets, loss="bce"), by_hand)


def test_cross_entropy_of_a_mixture_is_the_mixture_of_cross_entropies(logits, labels):
    first, second = one_hot(labels), one_hot(labels.flip(0).roll(1))
    mixed = loss_of(logits, 0.3 * first + 0.7 * second)
    assert torch.allclose(mixed, 0.3 * loss_of(logits, first) + 0.7 * loss_of(logits, second))


def test_label_smoothing_is_that_of_torch(logits, labels):
    smoothed = loss_of(logits, one_hot(labels), label_smoothing=0.2)
    assert torch.allclose(smoothed, F.cross_entropy(logits, labels, label_smoothing=0.2))


def test_label_smoothing_punishes_certainty():
    certain, target = torch.tensor([[20.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    for loss in ("ce", "bce"):
        plain = loss_of(certain, target, loss=loss)
        assert loss_of(certain, target, loss=loss, label_smoothing=0.2) > plain + 0.9


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_a_weight_counts_only_for_its_class(loss):
    logits, target = torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 0.0]])
    plain = loss_of(logits, target, loss=loss)
    doubled = loss_of(logits, target, torch.tensor([2.0, 1.0]), loss=loss)
    own_part = F.softplus(-logits[0, 0]) / 2 if loss == "bce" else plain
    assert torch.allclose(doubled - plain, own_part)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_class_weights_give_each_class_that_occurs_the_same_say(labels):
    labels = np.array(labels)
    weights = class_weights(labels, 4).numpy()
    says = [weights[k] * (labels == k).sum() for k in np.unique(labels)]
    assert np.allclose(says, len(labels) / 4)


def test_class_weights_have_mean_1_over_the_examples():
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    weights = class_weights(labels, 3)
    assert weights.dtype == torch.float32
    assert weights[torch.from_numpy(labels)].mean() == pytest.approx(1)
    assert weights[2] > weights[1] > weights[0]


def test_balanced_classes_need_no_weights():
    assert torch.equal(class_weights(np.array([0, 1, 2, 2, 1, 0]), 3), torch.ones(3))


def test_weights_of_a_class_that_never_occurs_are_finite():
    assert torch.isfinite(class_weights(np.array([0, 0]), 3)).all()
