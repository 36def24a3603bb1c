"""The map keeps neighbours together; networks are compared whatever their features' turn and scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer.inference.embedding_map import alignment, clip_embeddings, on_a_map
from mer.models.checkpoint import load_checkpoint, save_checkpoint
from mer.utils.errors import DataError
from tests.tiny_backbone import tiny_card, tiny_config, tiny_fit, tiny_zoo


def groups(per_group=20, *, features=30, seed=0):
    """Three groups of clips far apart, and the group of each."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(3), per_group)
    return 8 * rng.standard_normal((3, features))[label] + rng.standard_normal((len(label), features)), label


def test_clips_that_look_alike_lie_side_by_side():
    rows, label = groups()
    places = on_a_map(rows)
    assert places.shape == (60, 2)
    gaps = np.linalg.norm(places[:, None] - places, axis=-1) + np.diag(np.full(60, np.inf))
    assert (label[gaps.argmin(axis=1)] == label).all()


def test_a_map_repeats_itself():
    rows, _ = groups(5)
    assert (on_a_map(rows, seed=3) == on_a_map(rows, seed=3)).all()


def test_a_feature_that_never_changes_does_no_harm():
    rows, _ = groups(4)
    rows[:, 0] = 7
    assert np.isfinite(on_a_map(rows)).all()


def test_too_few_clips_are_refused():
    with pytest.raises(DataError, match="4 clips are too few for a map; use at least 5"):
        on_a_map(np.zeros((4, 3)))


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_rotated_and_scaled_features_align_fully(seed, scale):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((20, 6))
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    assert alignment(rows, scale * rows @ turn + 3) == pytest.approx(1)


def test_unrelated_features_hardly_align():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 500, 4))
    assert alignment(first, second) < 0.05
    assert alignment(first, second) == pytest.approx(alignment(second, first))


@pytest.mark.parametrize("rows", [np.ones((6, 4)), np.full((6, 4), np.nan), np.diag([np.inf, 1, 2, 3, 4, 5])])
def test_clips_that_cannot_be_told_apart_have_no_map(rows):
    with pytest.raises(DataError, match="sees no difference between these clips"):
        on_a_map(rows.astype(np.float32))


def test_features_that_never_change_align_with_nothing():
    assert alignment(np.ones((5, 3)), np.arange(10.0).reshape(5, 2)) == 0


@pytest.mark.parametrize("head", ["avg", "bands", "attention", "gru"])
def test_a_clip_is_the_mean_of_its_windows_embeddings(tmp_path, monkeypatch, tiny_corpus, head):
    monkeypatch.setenv("MER_HOME", str(tmp_path / "home"))
    paths = sorted(tiny_corpus.glob("*/*.wav"))
    with tiny_zoo():
        config = tiny_config(epochs=1, head=head)
        folder = save_checkpoint(tmp_path / "model", tiny_fit(config)[0], tiny_card(config))
        rows, again = clip_embeddings(folder, paths), clip_embeddings(folder, paths[:2])
        assert rows.shape[1] == load_checkpoint(folder)[0].head.linear.in_features
    assert rows.shape[0] == len(paths)
    assert np.allclose(rows[:2], again, atol=1e-6)
    assert np.ptp(rows, axis=0).max() > 0


def test_a_clip_that_can_no_longer_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MER_HOME", str(tmp_path / "home"))
    (tmp_path / "bad.wav").write_text("no sound")
    with tiny_zoo():
        config = tiny_config(epochs=1)
        folder = save_checkpoint(tmp_path / "model", tiny_fit(config)[0], tiny_card(config))
        with pytest.raises(DataError, match=r"bad\.wav can no longer be used"):
            clip_embeddings(folder, [tmp_path / "bad.wav"])
