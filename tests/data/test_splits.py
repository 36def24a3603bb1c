"""Splits: nothing lost, no song in two parts, fair shares, and the same for ever."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mer.config.sections import SplitConfig
from mer.data.clips import Clip
from mer.data.splits import Split, partition, split_clips
from mer.utils.errors import SplitError
from tests.golden.regenerate import CASES, SPLITS, letters

LABELS = ("Romantic", "Happy", "Sad")
LETTERS = "abcde"


def clip(name, label, song=None, split=None):
    return Clip(name, Path(name), label, song, split)


def singles(per_class, labels=LABELS):
    """So many clips of each class, each on its own."""
    return [clip(f"{label}/{n}.wav", label) for label in labels for n in range(per_class)]


def names(clips, indices):
    return {clips[i].id for i in indices}


@st.composite
def collections(draw, mixed=True):
    """Clips of three classes: enough single ones to split, and songs of up to six clips.

    A song keeps to one class unless `mixed`.
    """
    clips = singles(draw(st.integers(8, 20)))
    for number in range(draw(st.integers(0, 12))):
        label = draw(st.sampled_from(LABELS))
        for part in range(draw(st.integers(1, 6))):
            one = draw(st.sampled_from(LABELS)) if mixed else label
            clips.append(clip(f"{one}/song {number} {part}.wav", one, f"song {number}"))
    return clips


seeds = st.integers(0, 2**32 - 1)
weights = st.lists(st.integers(1, 9), min_size=2, max_size=6)  # of the parts
configs = st.builds(
    SplitConfig,
    test=st.floats(0.1, 0.5),
    validation=st.just(0) | st.floats(0.1, 0.4),
    folds=st.sampled_from([0, 0, 2, 5]),
    fold=st.integers(0, 1),
    validation_from=st.sampled_from(["next", "rest"]),
    seed=seeds,
)


@st.composite
def uneven(draw, mixed=True):
    """Clips of one to five classes, of one clip or a hundred, in songs of one clip or thirty, or of none."""
    clips = []
    for label in LETTERS[: draw(st.integers(1, 5))]:
        for number, size in enumerate(draw(st.lists(st.integers(1, 30), min_size=1, max_size=8))):
            song = f"{label} song {number}"
            if mixed:
                song = draw(st.sampled_from([song, f"song {number}", f"song {number}", None]))
            clips += [clip(f"{label}/{number} {n}.wav", label, song) for n in range(size)]
    return clips


def attempted(clips, config):
    """The split, or None where these clips have none."""
    try:
        return split_clips(clips, config)
    except SplitError:
        return None


# Invariants


@given(uneven(), configs)
@pytest.mark.promise(
    "No song is in two parts, and each clip is in exactly one, whatever the collection and its order.",
    measured="songs of 1 to 30 clips, 1 to 5 classes",
)
def test_any_collection_is_split_whole_or_refused(clips, config):
    """One-song classes, songs of all classes, one clip: never a parted song, nor a part that is missing."""
    split = attempted(clips, config)
    assume(split is not None)
    assert sorted(split.train + split.validation + split.test) == list(range(len(clips)))
    assert split.train
    assert split.test
    assert bool(split.validation) == (config.validation > 0)
    homes = defaultdict(set)
    for name in ("train", "validation", "test"):
        for index in getattr(split, name):
            homes[clips[index].song or clips[index].id].add(name)
    assert all(len(found) == 1 for found in homes.values())
    assert {clips[i].label for i in split.train} == {c.label for c in clips}


@given(uneven(), weights, seeds, st.randoms(use_true_random=False))
def test_parts_hold_each_clip_once_and_whole_songs_whatever_the_order(clips, weights, seed, random):
    shares = [weight / sum(weights) for weight in weights]

    def parts_of(clips):
        songs = [clip.song or clip.id for clip in clips]
        parts = partition([clip.label for clip in clips], songs, shares, seed=seed)
        assert sorted(index for part in parts for index in part) == list(range(len(clips)))
        owners = [{songs[i] for i in part} for part in parts]
        assert sum(map(len, owners)) == len(set(songs))
        return [names(clips, part) for part in parts]

    expected = parts_of(clips)
    random.shuffle(clips)
    assert parts_of(clips) == expected


@given(st.integers(0, 999), weights, st.permutations(LETTERS))
def test_classes_of_other_names_are_divided_alike(seed, weights, other):
    """Songs of several classes: none of them weighs more for its name."""
    shares, random = [weight / sum(weights) for weight in weights], Random(seed)
    labels, songs = random.choices(LETTERS, k=120), [f"song {n // 6}" for n in range(120)]
    renamed = dict(zip(LETTERS, other, strict=True))
    found = partition([renamed[label] for label in labels], songs, shares, seed=seed)
    assert found == partition(labels, songs, shares, seed=seed)


@given(collections(), configs)
def test_every_clip_is_in_exactly_one_part_and_parts_are_ascending(clips, config):
    split = split_clips(clips, config)
    assert sorted(split.train + split.validation + split.test) == list(range(len(clips)))
    for part in (split.train, split.validation, split.test):
        assert list(part) == sorted(part)
    assert bool(split.validation) == (config.validation > 0)


@given(collections(), configs)
def test_no_song_is_in_two_parts(clips, config):
    split = split_clips(clips, config)
    songs = [{clips[i].song for i in part} - {None} for part in (split.train, split.validation, split.test)]
    assert not songs[0] & songs[1]
    assert not songs[0] & songs[2]
    assert not songs[1] & songs[2]


@given(collections(), configs, st.randoms(use_true_random=False))
def test_the_order_of_the_clips_does_not_matter(clips, config, random):
    shuffled = clips.copy()
    random.shuffle(shuffled)
    one, two = split_clips(clips, config), split_clips(shuffled, config)
    for part in ("train", "validation", "test"):
        assert names(clips, getattr(one, part)) == names(shuffled, getattr(two, part))
    assert one.to_hash(clips) == two.to_hash(shuffled)


def test_the_order_of_the_labels_within_a_song_does_not_matter():
    """Songs of several classes: a sum of floats may not depend on the order of its terms."""
    for seed in range(60):
        random = Random(seed)
        rows = [(random.choice("abcde"), f"song {n // 6}", n) for n in range(120)]
        parts = []
        for _ in range(4):
            labels, songs, ids = zip(*rows, strict=True)
            found = partition(labels, songs, [0.2] * 5, seed=0)
            parts.append([{ids[i] for i in part} for part in found])
            random.shuffle(rows)
        assert all(other == parts[0] for other in parts)


@given(collections(), configs)
def test_the_same_seed_gives_the_same_split(clips, config):
    assert split_clips(clips, config) == split_clips(clips, config)


@given(uneven(mixed=False), weights, seeds)
def test_shares_of_each_class_are_met_to_within_its_largest_song(clips, weights, seed):
    """The bound of greedy filling, where songs keep to one class; T clips of the class, its largest song g.

    The part of share s that takes a song is the emptiest for its share, so it holds at most s of what was
    dealt so far, s (T - g): it ends at most (1 - s) g above its share. That holds for each of the k parts,
    so that one part ends at most (k - 1) s g below its own. Of two parts, and of equal ones, each is
    therefore less than g off.
    """
    shares = [weight / sum(weights) for weight in weights]
    labels, songs = [clip.label for clip in clips], [clip.song or clip.id for clip in clips]
    parts = partition(labels, songs, shares, seed=seed)
    for label, total in Counter(labels).items():
        own = Counter(song for song, its in zip(songs, labels, strict=True) if its == label)
        largest = max(own.values())
        for share, part in zip(shares, parts, strict=True):
            excess = sum(labels[i] == label for i in part) - share * total
            assert -(len(shares) - 1) * share * largest - 1e-6 <= excess <= (1 - share) * largest + 1e-6
        if len(own) >= len(shares):
            assert all(label in {labels[i] for i in part} for part in parts)


@given(uneven(mixed=False), configs)
@pytest.mark.promise(
    "In each class, the sizes of the test and validation parts are less than a song off.",
    measured="[bound](#properties)",
)
def test_test_and_validation_parts_are_less_than_a_song_off_in_each_class(clips, config):
    split = attempted(clips, config)
    assume(split is not None)
    share = 1 / config.folds if config.folds else config.test
    for label, total in Counter(c.label for c in clips).items():
        largest = max(Counter(c.song or c.id for c in clips if c.label == label).values())
        test = sum(clips[i].label == label for i in split.test)
        assert abs(test - share * total) < largest
        validation = sum(clips[i].label == label for i in split.validation)
        assert abs(validation - config.validation * (total - test)) < largest


@given(st.integers(8, 60), configs)
def test_shares_of_single_clips_are_met_to_within_one(count, config):
    clips = singles(count)
    split = split_clips(clips, config)
    share = 1 / config.folds if config.folds else config.test
    for label in LABELS:
        assert abs(sum(clips[i].label == label for i in split.test) - share * count) < 1


@given(collections(), st.integers(2, 6), st.integers(0, 100))
def test_each_clip_is_tested_in_exactly_one_fold(clips, folds, seed):
    tested = []
    for fold in range(folds):
        tested += split_clips(clips, SplitConfig(folds=folds, fold=fold, seed=seed, validation=0)).test
    assert sorted(tested) == list(range(len(clips)))


@pytest.mark.parametrize("count", [10, 11, 12, 13, 14])
def test_folds_differ_by_one_clip_of_a_class_and_hardly_in_size(count):
    clips = singles(count)
    tests = [split_clips(clips, SplitConfig(folds=5, fold=fold, seed=3)).test for fold in range(5)]
    for label in LABELS:
        sizes = [sum(clips[i].label == label for i in test) for test in tests]
        assert max(sizes) - min(sizes) <= 1
    assert max(map(len, tests)) - min(map(len, tests)) <= 1


# Validation parts of folds


def songs_of(clips, part):
    return {clips[i].song or clips[i].id for i in part}


def folded(clips, **settings):
    """The splits of all folds."""
    return [split_clips(clips, SplitConfig(fold=n, **settings)) for n in range(settings["folds"])]


@given(st.integers(2, 8), st.integers(1, 4), st.integers(1, 4), seeds, st.data())
def test_folds_share_no_validation_song_where_the_next_fold_holds_the_whole_share(
    folds, per_fold, size, seed, data
):
    """It does if validation * (folds - 1) <= 1 and songs can be dealt out evenly."""
    assume(per_fold * (folds - 1) > 1)  # a class of one song must train
    share = data.draw(st.floats(0.05, min(0.5, 1 / (folds - 1))))
    clips = [
        clip(f"{label}/{number} {n}.wav", label, f"{label} song {number}")
        for label in LABELS
        for number in range(folds * per_fold)
        for n in range(size)
    ]
    splits = folded(clips, folds=folds, validation=share, seed=seed)
    for fold, split in enumerate(splits):
        following = splits[(fold + 1) % folds]
        assert songs_of(clips, split.validation) <= songs_of(clips, following.test)
        assert split.train


@given(uneven(mixed=False), st.integers(2, 6), st.floats(0.1, 0.5), seeds)
def test_a_song_of_a_later_fold_validates_only_if_the_next_has_none_left_as_small(clips, folds, share, seed):
    split = attempted(clips, SplitConfig(folds=folds, validation=share, seed=seed))
    following = attempted(clips, SplitConfig(folds=folds, fold=1, validation=share, seed=seed))
    assume(split is not None and following is not None)
    size = Counter(c.song or c.id for c in clips)
    label = {c.song or c.id: c.label for c in clips}
    validation, near = songs_of(clips, split.validation), songs_of(clips, following.test)
    for far in validation - near:
        left = [song for song in near - validation if label[song] == label[far]]
        assert all(size[song] > size[far] for song in left)


@given(uneven(), configs)
def test_taking_validation_from_the_next_fold_refuses_nothing_that_can_be_split(clips, config):
    before = attempted(clips, config.replace(validation_from="rest"))
    assume(before is not None)
    now = split_clips(clips, config)
    assert now.test == before.test
    assert config.folds or now == before, "a hold-out stays what it was"


def test_unequal_songs_are_shared_by_fewer_folds_than_before():
    random, clips = Random(3), []
    for number in range(150):
        label = random.choice(LETTERS)
        clips += [clip(f"{number} {n}.wav", label, f"song {number}") for n in range(random.randint(1, 12))]

    def shared(rule):
        splits = folded(clips, folds=5, validation=0.15, validation_from=rule)
        parts = [songs_of(clips, split.validation) for split in splits]
        return sum(len(one & other) for n, one in enumerate(parts) for other in parts[:n])

    assert shared("next") <= 1
    assert shared("rest") > 30


# Seeds


def test_another_seed_gives_another_split():
    clips = singles(20)
    assert len({split_clips(clips, SplitConfig(seed=seed)).test for seed in range(5)}) == 5


@pytest.mark.parametrize("case", CASES)
def test_splits_are_those_of_the_golden_file(case):
    """Regenerate with `python -m tests.golden.regenerate`, if other splits are meant."""
    golden = json.loads(SPLITS.read_text())
    assert list(golden) == list(CASES)
    assert letters(case) == golden[case]


# Songs


def test_songs_may_be_parted_where_grouping_is_off():
    clips = [clip(f"{label}/{n}.wav", label, f"{label} song") for label in LABELS for n in range(10)]
    split = split_clips(clips, SplitConfig(group_by_song=False))
    assert len(split.test) == 6
    assert {clips[i].song for i in split.test} == {clips[i].song for i in split.train}


def test_a_song_named_like_a_clip_is_not_that_clip():
    labels = ["a", "a", "b", "b"] * 10
    clips = [clip(str(n), label, str(n + 1) if n % 2 else None) for n, label in enumerate(labels)]
    both = {frozenset({str(n), str(n + 1)}) for n in range(1, 39, 2)}
    split = split_clips(clips, SplitConfig(test=0.5, validation=0))
    parted = [pair for pair in both if len(pair & names(clips, split.test)) == 1]
    assert parted


@pytest.mark.parametrize("seed", range(5))
def test_partition_keeps_groups_whole_and_fills_to_the_shares(seed):
    groups = ["big"] * 4 + ["one", "two", "three", "four", "five", "six"]
    parts = partition(["x"] * 10, groups, [0.6, 0.4], seed=seed)
    assert sorted(map(len, parts)) == [4, 6]
    assert len(parts[0]) == 6
    assert any({0, 1, 2, 3} <= set(part) for part in parts)


# What the manifest says


def test_the_manifest_s_own_split_is_taken_as_it_is():
    parts = ["test", "train", "validation", "train", "train", "test"]
    clips = [clip(f"{n}.wav", "ab"[n % 2], split=part) for n, part in enumerate(parts)]
    for config in (SplitConfig(), SplitConfig(seed=7, test=0.5)):
        assert split_clips(clips, config) == Split((1, 3, 4), (2,), (0, 5))


def test_clips_without_a_part_of_their_own_are_trained_on():
    clips = [clip("0.wav", "a", split="test"), clip("1.wav", "a"), clip("2.wav", "b")]
    assert split_clips(clips, SplitConfig(validation=0)) == Split((1, 2), (), (0,))


def test_validation_is_taken_from_the_training_part_where_the_manifest_gives_none():
    clips = [clip(f"{n}.wav", "ab"[n % 2], f"song {n // 4}", "test" if n < 8 else "train") for n in range(40)]
    split = split_clips(clips, SplitConfig(validation=0.25))
    assert split.test == tuple(range(8))
    assert len(split.validation) == 8
    assert not {clips[i].song for i in split.validation} & {clips[i].song for i in split.train}


def test_a_manifest_without_a_test_part_is_refused():
    clips = [clip(f"{n}.wav", "ab"[n % 2], split="train") for n in range(10)]
    with pytest.raises(
        SplitError, match="the test part would be empty with 10 clips in 10 groups; add clips"
    ):
        split_clips(clips, SplitConfig())


def test_a_song_that_the_manifest_parts_is_refused_unless_songs_do_not_count():
    clips = [clip(f"{n}.wav", "ab"[n % 2], f"song {n % 6}", "test" if n < 4 else "train") for n in range(12)]
    with pytest.raises(SplitError, match=r"'song 0' in train and test.* --no-group-by-song"):
        split_clips(clips, SplitConfig(validation=0))
    apart = SplitConfig(validation=0, group_by_song=False)
    assert split_clips(clips, apart).test == (0, 1, 2, 3)


def test_folds_of_a_manifest_that_is_split_already_are_refused():
    clips = [clip(f"{n}.wav", "ab"[n % 2], split="test" if n < 4 else "train") for n in range(20)]
    with pytest.raises(SplitError, match="folds=5, but the manifest has a split of its own"):
        split_clips(clips, SplitConfig(folds=5))


# What cannot be split


def test_a_manifest_that_trains_on_nothing_is_refused():
    clips = [clip(f"{n}.wav", "ab"[n % 2], split=part) for n, part in enumerate(["test", "validation"] * 2)]
    with pytest.raises(SplitError, match="the train part would be empty with 4 clips in 4 groups"):
        split_clips(clips, SplitConfig())


def test_songs_too_few_for_the_parts_are_refused():
    clips = [clip(f"{label}/{n}.wav", label, "one song") for label in LABELS for n in range(5)]
    with pytest.raises(
        SplitError, match="part would be empty with 15 clips in 1 groups; add clips or songs, or"
    ):
        split_clips(clips, SplitConfig())


def test_two_clips_are_too_few_for_three_parts():
    with pytest.raises(
        SplitError, match=r"the (train|validation) part would be empty with 2 clips in 2 groups"
    ):
        split_clips(singles(2, ["a"]), SplitConfig(test=0.5))


def test_more_folds_than_groups_are_refused_where_a_fold_is_empty():
    refused = []
    for fold in range(20):
        try:
            split_clips(singles(4), SplitConfig(folds=20, fold=fold, validation=0))
        except SplitError as error:
            refused.append(str(error))
    assert len(refused) == 8
    assert all(message.startswith("the test part would be empty with 12 clips") for message in refused)


def test_a_class_that_would_not_be_trained_on_is_refused():
    parts = {"a": "train", "b": "test", "c": "test"}
    clips = [clip(f"{n}{label}.wav", label, split=part) for n in range(3) for label, part in parts.items()]
    with pytest.raises(SplitError, match=r"no b, c clip in the training part; add songs.*--no-group-by-song"):
        split_clips(clips, SplitConfig())


# Hash


def test_the_hash_tells_test_parts_apart_and_looks_at_nothing_else():
    clips = singles(2)
    one = Split((0, 1, 2), (3,), (4, 5))
    assert one.to_hash(clips) == Split((0, 1), (2, 3), (4, 5)).to_hash(clips)
    assert one.to_hash(clips) == one.to_hash([clip(c.id, "other", "song") for c in clips])
    assert one.to_hash(clips) != Split((0, 1, 2), (4,), (3, 5)).to_hash(clips)
    assert len(one.to_hash(clips)) == 16
