"""The deletion curve: a map of what matters beats its own shifted copies, one of nothing does not."""

import numpy as np
import pytest
import torch

from mer.inference.deletion import Deletion, deletion

SIZE = 32
SPOT = (slice(4, 12), slice(16, 24))  # the only place that counts


def spot(*, value=1.0, rest=0.0):
    maps = torch.full((2, SIZE, SIZE), rest)
    maps[:, SPOT[0], SPOT[1]] = value
    return maps


def belief(left):
    """How much of the spot is still there, for each version."""
    return left[:, :, SPOT[0], SPOT[1]].float().mean(dim=(1, 2, 3)).numpy()


def test_a_map_of_what_matters_beats_its_shifted_copies():
    found = deletion(spot(), belief, draws=8)
    assert found.auc < 0.1 < found.random_auc
    assert found.verdict.startswith("The marked places matter: area under the curve 0.0")
    assert found.verdict.endswith("(8 of 8 are higher).")


def test_a_map_of_places_that_do_not_matter_fails_the_check():
    found = deletion(spot(value=0.0, rest=1.0), belief, draws=8)
    assert found.auc > 0.9 > found.random_auc
    assert found.verdict.startswith("The marked places matter no more than others")


def test_curves_begin_with_everything_and_end_with_nothing():
    found = deletion(torch.rand(2, SIZE, SIZE), belief, draws=3)
    assert len(found.random) == 3
    assert (found.removed[0], found.removed[-1]) == (0, 1)
    for curve in (found.curve, *found.random):
        assert (curve[0], curve[-1]) == (1, 0)
        assert list(curve) == sorted(curve, reverse=True)


def test_each_step_removes_its_share_of_every_window():
    seen = []

    def count(left):
        assert left.shape[1:] == (2, SIZE, SIZE)
        seen.extend((~left).float().mean(dim=(2, 3)))
        return np.full(len(left), 0.5)

    found = deletion(torch.rand(2, SIZE, SIZE), count, draws=2)
    shares = [0, *(share for share in found.removed[1:-1] for _ in range(3)), 1]
    for share, taken in zip(shares, seen, strict=True):
        assert taken.tolist() == pytest.approx([share, share], abs=1 / SIZE**2)
    assert found.auc == found.random_auc == 0.5


def test_a_shifted_map_removes_the_same_shape_elsewhere():
    seen = []
    maps = torch.zeros(1, SIZE, SIZE)
    maps[0, 3:13, 5:15] = 1  # a tenth of all, nearly

    def look(left):
        seen.extend(~left[:, 0])
        return np.zeros(len(left))

    deletion(maps, look, draws=5)
    first, *shifted = seen[1:7]
    for mask in shifted:
        rolled = [first.roll((y, x), dims=(0, 1)) for y in range(SIZE) for x in range(SIZE)]
        assert any(torch.equal(mask, each) for each in rolled)
    assert any(not torch.equal(mask, first) for mask in shifted)


def test_the_same_seed_shifts_the_same_way():
    maps = torch.rand(2, SIZE, SIZE)
    first, second, third = (deletion(maps, belief, draws=4, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.curve == third.curve
    assert first.random != third.random


def test_progress_is_told_step_by_step():
    told = []
    deletion(spot(), belief, draws=1, progress=lambda *step: told.append(step))
    assert told == [(n, 11) for n in range(1, 12)]


def test_areas_are_means_over_the_shares_removed():
    found = Deletion((0.0, 0.5, 1.0), (1.0, 0.0, 0.0), ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    assert (found.auc, found.random_auc) == (0.25, 0.5)
    assert found.verdict.endswith("(1 of 2 are higher).")
    data = found.to_dict()
    assert data["random"] == [[1, 1, 1], [0, 0, 0]]
    assert np.isclose(data["auc"], 0.25)
