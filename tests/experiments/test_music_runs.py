"""Runs with networks that were trained on music: alone, joined, and with a solved head."""

import pytest

from mer.config.presets import preset
from mer.data.cache.store import FeatureStore
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.inference.explain import explain
from mer.inference.export import convert
from mer.inference.predictor import Predictor

PAIR = "musicnn_msd+vgg_msd"
SHORT = {"window_seconds": 1.2, "hop_seconds": 1.2, "test": 0.25, "validation": 0.25, "baseline": False}


def run(corpus, backbone, **changes):
    config = preset("quick").updated(backbone=backbone, **SHORT | {"epochs": 1} | changes)
    return Experiment().train(Spec(data=str(corpus), config=config))


@pytest.fixture
def home(runs_home):
    return runs_home


def shelves():
    return sorted(path.name for path in (FeatureStore.default().root / "embeddings").iterdir())


def test_joined_networks_make_one_checkpoint_and_share_embeddings_with_runs_of_one(
    home, song_corpus, tmp_path
):
    outcome = run(song_corpus, PAIR, solver="ridge")
    assert outcome.status == "finished"
    before = shelves()
    assert len(before) == 2  # one for each network
    assert run(song_corpus, "vgg_msd").status == "finished"
    assert shelves() == before
    assert Predictor(outcome.checkpoint).card.config.train.backbone == PAIR
    assert convert(outcome.checkpoint, tmp_path / "joined.pt2")["difference"] < 1e-3


def test_joined_networks_with_different_spectrograms_make_one_run_and_keep_embeddings_of_each(
    home, song_corpus
):
    outcome = run(song_corpus, "musicnn_msd+efficientnet_lite0+classical", solver="ridge")
    assert outcome.status == "finished"
    assert len(before := shelves()) == 3
    assert run(song_corpus, "efficientnet_lite0+classical", solver="logistic").status == "finished"
    assert shelves() == before
    assert Predictor(outcome.checkpoint).predict(song_corpus / "Happy" / "0a.wav").emotion in ("Happy", "Sad")


def test_a_network_for_music_is_explained_in_seconds_and_hertz(home, song_corpus):
    outcome = run(song_corpus, "vgg_mtt", freeze="last")
    found = explain(Predictor(outcome.checkpoint), song_corpus / "Happy" / "0a.wav")
    assert found.relevance.shape == found.level.shape == (96, 76)
    assert found.level.max() == 0  # dB below the loudest point
    assert found.seconds[-1] == pytest.approx(1.2)
    assert found.hertz[-1] < 8000
