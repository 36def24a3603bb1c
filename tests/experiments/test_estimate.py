"""How long a training will take: measured once, kept, and counted up for any number of clips."""

import json
import time

import pytest

from mer.config.presets import preset
from mer.experiments import estimate as module
from mer.experiments.estimate import Estimate, estimate
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.models.classifier import Classifier
from mer.utils.errors import BackboneError
from tests.run_helpers import tiny_config, write_songs
from tests.tiny_backbone import tiny_zoo

SPEED = {"prepare": (0.01, 0.02), "train": (0.1, 0.05, 0.01, 0.5), "describe": (0.003,), "svm": (0.2, 5.4)}


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def timed(monkeypatch):
    """Known speeds in place of measured ones, no overheads, one core."""
    monkeypatch.setattr(module, "measured", lambda key, measure: SPEED[key[0]])
    monkeypatch.setattr(module, "cores", lambda: 1)
    monkeypatch.setattr(module, "RUN_SECONDS", 0.0)
    monkeypatch.setattr(module, "SVM_SECONDS", 0.0)


def settings(**changes):
    """10 s clips of one window each; half of them test, a fifth of the others validates."""
    return preset("full").updated(
        **{"test": 0.5, "validation": 0.2, "batch_size": 10, "epochs": 2, "baseline": False} | changes
    )


def test_every_part_of_a_run_is_counted(timed):
    found = estimate(settings(), [10.0] * 100)
    assert found.preparing == pytest.approx(100 * 10 * 0.01 + 100 * 0.02)
    steps, saving, validation, test = 4 * 0.1 + 40 * 0.05, 0.5, 10 * 0.01, 50 * 0.01
    assert found.training == pytest.approx(2 * (steps + saving + validation) + test)
    assert found.total == found.preparing + found.training


def test_features_of_a_frozen_network_are_counted_once(timed):
    config = settings(freeze="head", time_masks=0, frequency_masks=0, time_shift=0.0, mixup=0.0)
    found = estimate(config, [10.0] * 100)
    assert found.training == pytest.approx(100 * 0.01 + 2 * (4 * 0.1 + 40 * 0.05 + 0.5))


def test_a_solved_head_takes_no_epochs(timed, monkeypatch):
    monkeypatch.setitem(SPEED, "solve", (3.0,))
    still = {"freeze": "head", "time_masks": 0, "frequency_masks": 0, "time_shift": 0.0, "mixup": 0.0}
    config = settings(**still, label_smoothing=0.0, solver="ridge", epochs=1000)
    found = estimate(config, [10.0] * 100)
    assert found.training == pytest.approx(100 * 0.01 + 3.0 * 40 / module.SOLVED_WINDOWS)


def test_solving_is_timed(builds):
    config = tiny_config(backbone="tiny", solver="ridge", freeze="head")
    assert 0 < estimate(config, [1.2] * 8).training < 120


def test_prepared_clips_need_no_time_for_preparation(timed):
    whole, half, none = (estimate(settings(), [10.0] * 80, unprepared=[10.0] * n) for n in (80, 40, 0))
    assert whole == estimate(settings(), [10.0] * 80)
    assert (half.preparing, none.preparing) == (whole.preparing / 2, 0)
    assert whole.training == half.training == none.training


def test_the_svm_is_counted_with_its_statistics_and_the_square_of_its_clips(timed):
    found = estimate(settings(baseline=True), [10.0] * 100)
    assert found.baseline == pytest.approx(100 * 10 * 0.003 + 0.2 + 5.4 * 50**2 / (240**2 - 60**2))
    assert found.total == found.preparing + found.training + found.baseline
    described = estimate(settings(baseline=True), [10.0] * 100, undescribed=[])
    assert found.baseline - described.baseline == pytest.approx(100 * 10 * 0.003)


def test_the_svm_is_fitted_in_every_fold_but_hears_each_clip_once(timed):
    one, four = (
        estimate(settings(test=0.25, folds=folds, baseline=True), [10.0] * 100, undescribed=[]).baseline
        for folds in (0, 4)
    )
    assert four == pytest.approx(4 * one)
    clips = [estimate(settings(baseline=True), [10.0] * n, undescribed=[]).baseline for n in (4000, 9000)]
    assert clips[0] == clips[1], "of many clips some choose its settings"


def test_only_the_first_part_of_a_long_clip_counts_for_descriptors(timed):
    usual, long = (estimate(settings(baseline=True), [s] * 10).baseline for s in (120.0, 3600.0))
    assert usual == long


def test_longer_clips_have_more_windows(timed):
    assert estimate(settings(), [30.0] * 20).training == estimate(settings(), [10.0] * 100).training


def test_folds_multiply(timed):
    one, four = (estimate(settings(test=0.25, folds=folds), [10.0] * 100).training for folds in (0, 4))
    assert four == pytest.approx(4 * one)


def test_many_clips_are_prepared_on_all_cores(timed, monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 4)
    found = estimate(settings(), [10.0] * 100)
    assert found.preparing == pytest.approx(module.POOL_SECONDS + 12.0 / 4)


def test_no_clips_take_no_time(timed):
    assert estimate(settings(), []) == Estimate(0.0, pytest.approx(2 * 0.5))


@pytest.fixture
def builds(monkeypatch):
    """The networks built so far."""
    built = []
    real = module.configured_classifier

    def count(config, **options):
        built.extend([] if "weights" in options else [config.backbone])  # others are only outlines
        return real(config, **options)

    monkeypatch.setattr(module, "configured_classifier", count)
    return built


@pytest.mark.parametrize("freeze", ["none", "last", "head"])
def test_a_network_is_timed_once_and_its_speed_is_kept(freeze, builds, own_home):
    config = tiny_config(backbone="tiny", freeze=freeze)
    first = estimate(config, [1.2] * 16)
    assert first.preparing > 0
    assert first.training > module.RUN_SECONDS
    assert estimate(config, [1.2] * 16) == first
    assert builds == ["tiny"]
    assert sorted(p.name for p in own_home.iterdir()) == ["speed.json"]


def test_the_svm_is_timed_once():
    config = tiny_config(backbone="tiny", baseline=True)
    first = estimate(config, [1.2] * 16)
    assert first.baseline > module.SVM_SECONDS
    assert estimate(config, [1.2] * 16) == first


def test_what_changes_the_speed_is_timed_again(builds):
    for changes in ({}, {"freeze": "last"}, {"image_size": 48}, {"epochs": 9}, {"seed": 4}):
        estimate(tiny_config(backbone="tiny", **changes), [1.2])
    assert len(builds) == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "\x00"])
def test_damaged_measurements_are_repeated(content, own_home):
    own_home.mkdir()
    (own_home / "speed.json").write_text(content)
    config = tiny_config(backbone="tiny")
    assert estimate(config, [1.2]) == estimate(config, [1.2])
    assert len(json.loads((own_home / "speed.json").read_text())) >= 2


def test_a_home_that_cannot_be_written_still_gets_an_estimate(own_home):
    own_home.touch()
    assert estimate(tiny_config(backbone="tiny"), [1.2]).total > 0


def test_an_estimate_needs_no_weights():
    assert estimate(tiny_config(backbone="tiny", weights="/gone/weights.pth"), [1.2]).total > 0


def test_an_unknown_network_or_a_wrong_image_size_is_refused(monkeypatch):
    with pytest.raises(BackboneError, match="unknown backbone 'tinny'"):
        estimate(tiny_config(backbone="tinny"), [1.2])

    def refuse(self, shape):
        raise BackboneError(f"no images of {shape[0]} x {shape[1]}")

    monkeypatch.setattr(Classifier, "require_input", refuse)
    with pytest.raises(BackboneError, match="no images of 32 x 32"):
        estimate(tiny_config(backbone="tiny"), [1.2])


@pytest.mark.slow
def test_the_estimate_is_of_the_right_size(runs_home, tmp_path):
    """Loosely, for a busy machine: a run of some seconds is told from one of minutes or hours."""
    data = write_songs(tmp_path / "songs", songs=8, clips=4)
    config = tiny_config(epochs=10)
    expected = estimate(config, [1.2] * 64).total
    started = time.perf_counter()
    Experiment().train(Spec(str(data), config))
    assert expected / 20 < time.perf_counter() - started < 20 * expected
