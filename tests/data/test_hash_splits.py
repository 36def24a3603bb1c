"""Splits by hash: for ever the same, no song in two parts, and as fair as dice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mer.config.sections import SplitConfig
from mer.data.hash_splits import NO_SPLIT, divide, hash_split, key
from mer.utils.errors import SplitError

CLASSES = ("Happy", "Sad")
configs = st.builds(
    SplitConfig,
    test=st.floats(0.05, 0.5),
    validation=st.sampled_from([0.0, 0.1, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
folded = st.builds(
    SplitConfig,
    folds=st.integers(2, 20),
    validation=st.floats(0, 0.5),
    validation_from=st.sampled_from(["next", "rest"]),
    seed=st.integers(0, 2**32 - 1),
)


def keys(names):
    return np.array([key("song", name) for name in names], np.uint64)


def numbered(count, first=0):
    return keys(str(number) for number in range(first, first + count))


def split(groups, config, *, labels=None, given=None):
    labels = np.arange(len(groups)) % 2 if labels is None else np.asarray(labels)
    given = np.full(len(groups), NO_SPLIT) if given is None else np.asarray(given)
    return hash_split(groups, labels, given, config, classes=CLASSES, name="clip {}".format)


@given(configs | folded, st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_no_song_is_in_two_parts(config, songs):
    groups = keys(map(str, songs))
    parts = divide(groups, config)
    for song in set(songs):
        assert len({part for part, own in zip(parts, songs, strict=True) if own == song}) == 1


@given(configs | folded, st.integers(1, 50), st.integers(1, 50), st.randoms())
def test_added_clips_move_no_other_clip(config, before, added, random):
    numbers = list(range(before + added))
    random.shuffle(numbers)
    parts = dict(zip(numbers, divide(keys(map(str, numbers)), config), strict=True))
    assert [parts[n] for n in range(before)] == divide(numbered(before), config).tolist()


@given(configs | folded)
def test_shares_are_within_random_variation(config):
    count = 4000
    parts = divide(numbered(count), config)
    test = 1 / config.folds if config.folds else config.test
    shares = {2: test, 1: (1 - test) * config.validation}
    for part, share in shares.items():
        low, high = binom.ppf([1e-7, 1 - 1e-7], count, share)
        assert low <= (parts == part).sum() <= high


@given(st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_each_song_is_tested_in_one_fold_and_folds_are_of_fair_size(folds, seed):
    count = 3000
    tested = np.stack(
        [
            divide(numbered(count), SplitConfig(folds=folds, fold=fold, seed=seed)) == 2
            for fold in range(folds)
        ]
    )
    assert (tested.sum(axis=0) == 1).all()
    low, high = binom.ppf([1e-7, 1 - 1e-7], count, 1 / folds)
    assert low <= tested.sum(axis=1).min()
    assert tested.sum(axis=1).max() <= high


@given(st.integers(2, 20), st.floats(0, 0.5), st.integers(0, 2**32 - 1))
def test_validation_parts_of_folds_overlap_no_more_than_needed(folds, share, seed):
    """Where validation * (folds - 1) is at most 1, no two folds share one: it is one that the next tests."""
    parts = np.stack(
        [
            divide(numbered(500), SplitConfig(folds=folds, fold=fold, validation=share, seed=seed))
            for fold in range(folds)
        ]
    )
    assert (parts == 1).sum(axis=0).max() <= np.ceil(share * (folds - 1))
    if share * (folds - 1) <= 1:
        assert (np.roll(parts, -1, axis=0)[parts == 1] == 2).all()


@given(folded)
def test_the_source_of_the_validation_part_moves_no_test_clip(config):
    before = divide(numbered(500), config.replace(validation_from="rest"))
    assert ((divide(numbered(500), config) == 2) == (before == 2)).all()


@given(configs)
def test_a_hold_out_takes_validation_from_the_rest(config):
    before = divide(numbered(200), config.replace(validation_from="rest"))
    assert (divide(numbered(200), config) == before).all()


def test_another_seed_is_another_split():
    one, two = (divide(numbered(1000), SplitConfig(seed=seed)) for seed in (0, 1))
    both = ((one == 2) & (two == 2)).mean()
    assert 0.02 < both < 0.06  # of 0.2 * 0.2 where nothing of one tells of the other


def test_validation_and_test_are_drawn_independently():
    config = SplitConfig(test=0.5, validation=0.5)
    parts = divide(numbered(4000), config)
    assert 0.21 < (parts == 1).mean() < 0.29


def test_a_split_does_not_change_between_versions():
    names = [*(str(number) for number in range(12)), "Sholay", "गाना"]
    config = SplitConfig(seed=7, test=0.4, validation=0.4)
    assert divide(keys(names), config).tolist() == [2, 1, 1, 0, 0, 2, 0, 0, 1, 0, 1, 0, 1, 0]
    config = SplitConfig(seed=7, folds=3, fold=1, validation=0.4, validation_from="rest")
    assert divide(keys(names), config).tolist() == [2, 1, 1, 0, 0, 2, 2, 2, 2, 0, 2, 2, 2, 0]
    config = config.replace(validation_from="next")
    assert divide(keys(names), config).tolist() == [2, 1, 1, 1, 1, 2, 2, 2, 2, 1, 2, 2, 2, 0]
    assert key("song", "गाना") == 5_926_947_042_195_225_027


def test_a_song_and_a_clip_with_one_name_are_different():
    assert key("song", "a") != key("clip", "a")


# --- what a manifest says -----------------------------------------------------------------------------


def test_a_given_split_is_used_and_a_clip_without_one_is_for_training():
    config = SplitConfig(validation=0)
    found = split(numbered(6), config, given=[0, 0, 2, 2, NO_SPLIT, NO_SPLIT])
    assert [part.tolist() for part in (found.train, found.validation, found.test)] == [
        [0, 1, 4, 5],
        [],
        [2, 3],
    ]


def test_validation_is_taken_from_the_training_part_unless_it_is_given():
    given = [2] * 20 + [0] * 200
    found = split(numbered(220), SplitConfig(validation=0.3), given=given)
    assert found.test.tolist() == list(range(20))
    assert 30 < len(found.validation) < 90
    found = split(numbered(220), SplitConfig(validation=0.3), given=[1] * 4 + given[4:])
    assert found.validation.tolist() == [0, 1, 2, 3]


def test_a_given_split_that_divides_a_song_is_refused_with_its_clips():
    groups = keys(["a", "b", "a", "c"])
    with pytest.raises(SplitError, match=r"train \('clip 0'\) and test \('clip 2'\).*--no-group-by-song"):
        split(groups, SplitConfig(validation=0), given=[0, 0, 2, 2])


def test_folds_beside_a_given_split_are_refused():
    with pytest.raises(SplitError, match="the manifest has a split of its own"):
        split(numbered(4), SplitConfig(folds=2), given=[0, 0, 2, 2])


def test_an_empty_part_is_refused():
    with pytest.raises(SplitError, match="part would be empty with 2 clips in 1 groups"):
        split(keys(["a", "a"]), SplitConfig())


def test_a_class_that_would_not_be_learned_is_refused():
    with pytest.raises(SplitError, match="no Sad clip in the training part"):
        split(numbered(4), SplitConfig(validation=0), labels=[0, 0, 1, 1], given=[0, 0, 2, 2])
