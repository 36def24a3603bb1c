"""Windows: where a clip is cut, how it is filled up, and how windows of many clips are kept together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mer.audio.decode import MIN_SECONDS
from mer.audio.windows import window_starts, windows
from mer.config.sections import AudioConfig
from mer.data import windows as windows_module
from mer.data.cache.arrays import ArrayFile, write_array
from mer.data.windows import WindowSet

SMALL = AudioConfig(sample_rate=4000, window_seconds=2.0, hop_seconds=1.0)  # 8000 samples, every 4000


@st.composite
def cuts(draw):
    """A config and the number of samples of a clip, half a second to ten windows long; often whole hops."""
    length = draw(st.floats(0.5, 20))
    config = AudioConfig(
        sample_rate=draw(st.sampled_from([4000, 11_025, 16_000])),
        window_seconds=length,
        hop_seconds=draw(st.floats(0.1, length)),
    )
    size, hop = (round(s * config.sample_rate) for s in (config.window_seconds, config.hop_seconds))
    anything = st.integers(int(0.5 * config.sample_rate), int(10 * length * config.sample_rate))
    whole = st.builds(lambda hops, more: size + hops * hop + more, st.integers(0, 9), st.integers(-1, 1))
    return config, draw(anything | whole)


# Cutting one clip


@given(cuts())
@pytest.mark.promise(
    "Windows leave at most the last half second of a clip out; beyond it they hold only padding.",
    measured="any length, hop and rate",
)
def test_windows_leave_no_sample_uncovered_but_a_tail_of_half_a_second(cut):
    config, n = cut
    size = round(config.window_seconds * config.sample_rate)
    covered = np.zeros(max(n, size), bool)
    for start in window_starts(n, config):
        assert start >= 0
        assert start + size <= max(n, size)
        covered[start : start + size] = True
    tail = n - (np.flatnonzero(covered).max() + 1)
    assert covered[: n - max(tail, 0)].all()
    assert tail <= MIN_SECONDS * config.sample_rate


@given(cuts())
def test_windows_start_at_zero_and_move_on_by_at_most_a_hop(cut):
    config, n = cut
    starts = window_starts(n, config)
    steps = np.diff(starts)
    hop = round(config.hop_seconds * config.sample_rate)
    assert starts[0] == 0
    assert (steps > 0).all()
    assert (steps[:-1] == hop).all()
    assert (steps <= hop).all()


@given(cuts())
def test_there_are_as_many_windows_as_whole_hops_and_one_flush_with_the_end_for_a_long_tail(cut):
    config, n = cut
    size, hop = (round(s * config.sample_rate) for s in (config.window_seconds, config.hop_seconds))
    hops, tail = divmod(max(n - size, 0), hop)
    last = [n - size] * (tail > MIN_SECONDS * config.sample_rate)
    assert window_starts(n, config) == [hop * number for number in range(1 + hops)] + last


@given(cuts(), st.sampled_from(["zero", "repeat"]))
@pytest.mark.promise(
    "Windows leave at most the last half second of a clip out; beyond it they hold only padding."
)
def test_windows_hold_the_clip_itself_and_only_padding_beyond_it(cut, pad):
    config, n = cut
    clip = np.arange(1, n + 1, dtype=np.float32)
    for start, window in zip(window_starts(n, config), windows(clip, config.replace(pad=pad)), strict=True):
        assert np.array_equal(window[: n - start], clip[start : start + len(window)])
        beyond = window[n - start :] if n - start < len(window) else window[:0]
        assert np.array_equal(
            beyond, clip[np.arange(n, n + len(beyond)) % n] if pad == "repeat" else 0 * beyond
        )


@given(cuts())
def test_the_first_window_alone_is_the_first_of_all(cut):
    config, n = cut
    clip = np.arange(1, n + 1, dtype=np.float32)
    (alone,) = windows(clip, config.replace(only_first=True))
    assert np.array_equal(alone, next(iter(windows(clip, config))))


@given(cuts())
def test_windows_all_have_the_length_of_the_setting(cut):
    config, n = cut
    size = round(config.window_seconds * config.sample_rate)
    found = list(windows(np.ones(n, np.float32), config))
    assert {w.shape for w in found} == {(size,)}
    assert {w.dtype for w in found} == {np.dtype(np.float32)}
    assert len(found) == len(window_starts(n, config))


@pytest.mark.parametrize(
    ("samples", "starts"),
    [
        (2000, [0]),
        (8000, [0]),
        (10_000, [0]),  # 0.5 s uncovered: left out
        (10_001, [0, 2001]),  # more than that: one more window, flush with the end
        (12_000, [0, 4000]),
        (15_000, [0, 4000, 7000]),
    ],
)
def test_a_tail_gets_a_window_of_its_own_where_it_is_longer_than_half_a_second(samples, starts):
    assert window_starts(samples, SMALL) == starts


def test_windows_hold_the_samples_from_their_start():
    clip = np.arange(15_000, dtype=np.float32)
    for start, window in zip([0, 4000, 7000], windows(clip, SMALL), strict=True):
        assert np.array_equal(window, clip[start : start + 8000])


def test_a_clip_shorter_than_a_window_is_padded_with_zeros(sound):
    clip = sound.noise(1.5, rate=4000)
    (window,) = windows(clip, SMALL)
    assert np.array_equal(window[:6000], clip)
    assert not window[6000:].any()
    assert len(window) == 8000


@pytest.mark.parametrize("seconds", [0.5, 0.7, 1.5])
def test_a_clip_shorter_than_a_window_is_repeated_where_that_is_asked_for(seconds, sound):
    clip = sound.noise(seconds, rate=4000)
    (window,) = windows(clip, SMALL.replace(pad="repeat"))
    assert np.array_equal(window, np.tile(clip, 4)[:8000])


# Many clips


@pytest.fixture(params=["in memory", "on disk"])
def window_set(request, monkeypatch, tmp_path):
    """Clips of 2, 1 and 3 windows, each window filled with its own number; both ways of keeping them."""
    numbers = np.arange(6, dtype=np.float16)[:, None, None] * np.ones((1, 2, 2), np.float16)
    arrays = [numbers[:2], numbers[2:3], numbers[3:]]
    if request.param == "on disk":
        monkeypatch.setattr(windows_module, "IN_MEMORY", 0)
        paths = [tmp_path / f"{n}.npy" for n in range(3)]
        for path, array in zip(paths, arrays, strict=True):
            write_array(path, array)
        arrays = [ArrayFile.open(path) for path in paths]
    made = WindowSet(arrays, [1, 0, 2], classes=3)
    assert (made.gathered is None) == (request.param == "on disk")
    return made


def test_windows_are_numbered_through_all_clips_in_order(window_set):
    assert len(window_set) == 6
    assert window_set.clip.tolist() == [0, 0, 1, 2, 2, 2]
    assert window_set.counts.tolist() == [2, 1, 3]
    assert window_set.starts.tolist() == [0, 2, 3]


def test_a_window_has_the_label_of_its_clip(window_set):
    assert window_set.window_labels.tolist() == [1, 1, 0, 2, 2, 2]
    assert window_set.window_labels.dtype == np.int64
    assert window_set.classes == 3


def test_windows_are_drawn_in_any_order_and_more_than_once(window_set):
    drawn = window_set.images(np.array([5, 0, 2, 2]))
    assert drawn.dtype == np.float16
    assert drawn.shape == (4, 2, 2)
    assert drawn[:, 1, 1].tolist() == [5, 0, 2, 2]


@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_batches_give_every_window_once_in_order(window_set, size):
    batches = list(window_set.batches(size))
    assert np.concatenate(batches)[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert all(len(batch) == size for batch in batches[:-1])


def test_pooling_is_the_mean_over_the_windows_of_each_clip(window_set):
    probabilities = np.array([[0.0, 1.0], [1.0, 0.0], [0.3, 0.7], [0.9, 0.1], [0.6, 0.4], [0.0, 1.0]])
    assert window_set.pool(probabilities) == pytest.approx(np.array([[0.5, 0.5], [0.3, 0.7], [0.5, 0.5]]))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_clips_of_one_prediction_pool_to_that_prediction(counts):
    arrays = [np.zeros((n, 1, 1), np.float16) for n in counts]
    made = WindowSet(arrays, [0] * len(counts), classes=len(counts))
    assert made.pool(np.eye(len(counts))[made.clip]) == pytest.approx(np.eye(len(counts)))


@st.composite
def divided(draw):
    """The counts of some clips' windows, scores and probabilities of each window."""
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    rows = np.random.default_rng(draw(st.integers(0, 99))).dirichlet(np.ones(3), sum(counts))
    scores = draw(st.none() | arrays(float, sum(counts), elements=st.floats(-50, 50)))
    return counts, rows, scores


@given(divided())
def test_windows_are_the_same_however_they_are_divided_among_clips(clips):
    counts, rows, _ = clips
    images = rows[:, :2, None].astype(np.float16)
    parts = np.split(images, np.cumsum(counts)[:-1])
    apart, together = WindowSet(parts, [0] * len(counts), classes=3), WindowSet([images], [0], classes=3)
    chosen = np.arange(len(rows))[::-1]
    assert np.array_equal(apart.images(chosen), together.images(chosen))
    assert np.array_equal(np.concatenate(list(apart.batches(2))), images)
    numbers = [apart.of_clips(np.array([clip])) for clip in range(len(counts))]
    assert np.concatenate(numbers).tolist() == list(range(len(rows)))


@given(divided())
def test_a_pooled_answer_lies_among_those_of_its_windows(clips):
    counts, rows, scores = clips
    pooled = windows_of(counts).pool(rows, scores)
    assert pooled.sum(axis=1) == pytest.approx(1)
    for own, row in zip(np.split(rows, np.cumsum(counts)[:-1]), pooled, strict=True):
        assert (own.min(axis=0) - 1e-9 <= row).all()
        assert (row <= own.max(axis=0) + 1e-9).all()


@given(divided(), st.randoms(use_true_random=False))
def test_clips_in_another_order_pool_to_the_same_answers_in_that_order(clips, random):
    counts, rows, scores = clips
    order = random.sample(range(len(counts)), len(counts))
    moved = windows_of(counts).of_clips(np.array(order))
    again = windows_of([counts[clip] for clip in order])
    found = again.pool(rows[moved], None if scores is None else scores[moved])
    assert found == pytest.approx(windows_of(counts).pool(rows, scores)[order])
    assert again.hits(rows[moved]).tolist() == windows_of(counts).hits(rows)[order].tolist()


def test_a_set_without_clips_is_empty():
    made = WindowSet([], [], classes=2)
    assert len(made) == 0
    assert list(made.batches()) == []


def test_arrays_on_disk_stay_there_when_they_are_many(monkeypatch, tmp_path):
    """Nothing is gathered above the limit, and everything is exactly at it."""
    np.save(tmp_path / "a.npy", np.zeros((4, 2, 2), np.float16))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    monkeypatch.setattr(windows_module, "IN_MEMORY", mapped.nbytes)
    assert WindowSet([mapped], [0], classes=1).gathered is not None
    assert WindowSet([mapped, mapped], [0, 0], classes=1).gathered is None


def windows_of(counts):
    """As many small windows in each clip."""
    return WindowSet([np.zeros((n, 2, 2), np.float16) for n in counts], [0] * len(counts), classes=3)


def test_windows_count_for_their_share_in_the_softmax_of_their_scores():
    made = windows_of([2, 1])
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    found = made.pool(rows, np.array([np.log(3.0), 0.0, -700.0]))
    assert found == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5]]))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.floats(-50, 50))
def test_equal_scores_are_the_mean(counts, score):
    made = windows_of(counts)
    rows = np.random.default_rng(0).random((len(made), 3))
    assert made.pool(rows, np.full(len(made), score)) == pytest.approx(made.pool(rows))


def test_the_windows_of_some_clips_come_clip_by_clip():
    assert windows_of([2, 1, 3]).of_clips(np.array([2, 0])).tolist() == [3, 4, 5, 0, 1]
