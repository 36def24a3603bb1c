"""What may happen to training images, and that evaluation sees none of it."""

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mer.audio.mel import Standardizer
from mer.audio.transforms import EvalTransform, TrainTransform, mask, mixup, shift
from mer.config.sections import AugmentConfig

STANDARDIZER = Standardizer(-40.0, 10.0)
EVERYTHING = AugmentConfig(time_masks=2, frequency_masks=2, time_shift=0.5, mixup=0.4)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def longest_run(flags):
    best = run = 0
    for flag in flags.tolist():
        run = run + 1 if flag else 0
        best = max(best, run)
    return best


def blanked(images, dim):
    """Which places along `dim` are 0 in all of the other axis: bool (n, size)."""
    return (images == 0).all(dim=3 - dim)


@given(
    count=st.integers(1, 3), largest=st.floats(0, 0.5), dim=st.sampled_from([1, 2]), seed=st.integers(0, 99)
)
def test_masks_are_at_most_as_wide_as_the_setting(count, largest, dim, seed):
    torch.manual_seed(seed)
    images = torch.ones(5, 20, 30)
    masked = mask(images, dim=dim, count=count, largest=largest)
    size = images.shape[dim]
    widest = int(-(-largest * size // 1))  # rounded up
    assert blanked(masked, dim).sum(dim=1).max() <= count * widest


@pytest.mark.parametrize("dim", [1, 2])
def test_a_mask_is_one_stretch_of_zeros_and_the_rest_is_untouched(dim):
    images = torch.rand(200, 40, 50) + 0.5
    masked = mask(images, dim=dim, count=1, largest=0.5)
    gone = blanked(masked, dim)
    assert all(longest_run(row) == row.sum() for row in gone)
    assert torch.equal(masked != 0, ~gone.unsqueeze(3 - dim).expand_as(masked))
    assert torch.equal(masked[masked != 0], images[masked != 0])


@pytest.mark.parametrize("dim", [1, 2])
def test_masks_come_in_all_widths_at_all_places(dim):
    images = torch.ones(500, 20, 20)
    gone = blanked(mask(images, dim=dim, count=1, largest=0.5), dim)
    assert set(gone.sum(dim=1).tolist()) >= set(range(1, 10))
    assert gone.any(dim=0).all()
    assert gone.sum(dim=1).float().mean() == pytest.approx(5, abs=0.5)


def test_each_image_of_a_batch_has_its_own_mask():
    gone = blanked(mask(torch.ones(20, 30, 30), dim=2, count=1, largest=0.5), 2)
    assert len({tuple(row.tolist()) for row in gone}) > 10


def test_masking_leaves_the_images_given_alone():
    images = torch.ones(4, 10, 10)
    mask(images, dim=1, count=3, largest=0.5)
    assert torch.equal(images, torch.ones(4, 10, 10))


def test_a_shift_moves_columns_in_a_circle_and_loses_none():
    images = torch.arange(3 * 4 * 10, dtype=torch.float32).view(3, 4, 10)
    shifted = shift(images, 1.0)
    for before, after in zip(images, shifted, strict=True):
        assert any(torch.equal(after, before.roll(k, dims=1)) for k in range(10))


@given(largest=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_shift_is_at_most_the_setting(largest, seed):
    torch.manual_seed(seed)
    width = 41
    images = torch.zeros(30, 1, width)
    images[:, 0, width // 2] = 1
    moved = shift(images, largest)[:, 0].argmax(dim=1) - width // 2
    furthest = min(round(largest * width), width // 2 + 1)
    assert moved.abs().max() <= furthest


def test_shifts_go_both_ways():
    images = torch.zeros(200, 1, 40)
    images[:, 0, 20] = 1
    moved = shift(images, 0.25)[:, 0].argmax(dim=1) - 20
    assert set(moved.tolist()) == set(range(-10, 11))


def test_mixup_blends_inputs_and_targets_by_the_same_share():
    labels = torch.arange(8) % 4
    targets = torch.nn.functional.one_hot(labels, 4).float()
    inputs = labels.float().view(8, 1, 1, 1).expand(8, 3, 2, 2)
    mixed, mixed_targets = mixup(inputs, targets, 0.4)
    expected = (mixed_targets * torch.arange(4)).sum(dim=1)
    assert torch.allclose(mixed, expected.view(8, 1, 1, 1).expand(8, 3, 2, 2))
    assert torch.allclose(mixed_targets.sum(dim=1), torch.ones(8))
    assert not torch.equal(mixed_targets, targets)
    assert mixed.shape == inputs.shape


@pytest.mark.parametrize(("alpha", "spread"), [(0.1, 0.45), (2.0, 0.22)])
def test_mixup_takes_its_shares_from_a_beta_distribution(alpha, spread):
    inputs = torch.eye(2).repeat(2000, 1)
    shares = mixup(inputs, inputs, alpha)[1][:, 0]
    mixed = shares[(shares != 0) & (shares != 1)]
    expected = (4 * (2 * alpha + 1)) ** -0.5  # standard deviation of Beta(alpha, alpha)
    assert mixed.std().item() == pytest.approx(expected, abs=0.03)
    assert expected == pytest.approx(spread, abs=0.02)


def test_evaluation_standardises_and_copies_to_three_channels():
    images = torch.randn(2, 6, 6).half() * 10 - 40
    out = EvalTransform(STANDARDIZER)(images)
    assert out.shape == (2, 3, 6, 6)
    assert out.dtype == torch.float32
    for channel in range(3):
        assert torch.equal(out[:, channel], (images.float() + 40) / 10)


def test_evaluation_draws_no_random_number_and_repeats_itself():
    images = torch.randn(2, 6, 6)
    before = torch.get_rng_state()
    first, second = EvalTransform(STANDARDIZER)(images), EvalTransform(STANDARDIZER)(images)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_takes_no_augmentation():
    assert list(inspect.signature(EvalTransform).parameters) == ["standardizer"]
    assert EvalTransform.is_random is False
    assert EvalTransform.__mro__ == (EvalTransform, object)


def test_training_without_augmentation_equals_evaluation():
    images = torch.randn(2, 6, 6)
    plain = TrainTransform(STANDARDIZER, AugmentConfig())
    before = torch.get_rng_state()
    assert torch.equal(plain(images), EvalTransform(STANDARDIZER)(images))
    assert torch.equal(before, torch.get_rng_state())
    assert not plain.is_random


@pytest.mark.parametrize(
    "changes", [{"time_masks": 1}, {"frequency_masks": 1}, {"time_shift": 0.1}], ids=lambda c: next(iter(c))
)
def test_each_augmentation_changes_training_images_and_says_that_it_is_random(changes):
    images = torch.randn(8, 20, 20) * 10 - 40
    transform = TrainTransform(STANDARDIZER, AugmentConfig(**changes))
    assert transform.is_random
    assert not torch.equal(transform(images), EvalTransform(STANDARDIZER)(images))


def test_masks_are_blank_at_the_training_mean_in_every_channel():
    config = AugmentConfig(time_masks=1, time_mask_share=0.5, frequency_masks=1, frequency_mask_share=0.5)
    out = TrainTransform(STANDARDIZER, config)(torch.full((50, 20, 20), -20.0))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(out[:, 0], out[:, 2])


def test_time_masks_blank_columns_and_frequency_masks_blank_rows():
    images = torch.zeros(100, 20, 20)
    by_time = TrainTransform(STANDARDIZER, AugmentConfig(time_masks=1, time_mask_share=0.5))(images)
    by_band = TrainTransform(STANDARDIZER, AugmentConfig(frequency_masks=1, frequency_mask_share=0.5))(images)
    assert (by_time == by_time[:, :, :1]).all()
    assert (by_band == by_band[:, :, :, :1]).all()
    assert (by_time == 0).any()
    assert (by_band == 0).any()


def test_augmentation_follows_the_seed():
    images, transform = torch.randn(8, 20, 20), TrainTransform(STANDARDIZER, EVERYTHING)
    torch.manual_seed(5)
    first = transform(images)
    second = transform(images)
    torch.manual_seed(5)
    assert torch.equal(transform(images), first)
    assert not torch.equal(first, second)
