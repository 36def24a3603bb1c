"""A run is finished only if its saved checkpoint gives the answers that it was tested with."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.models import checkpoint
from mer.runs.store import RunStore
from mer.utils.errors import RunError
from tests.run_helpers import tiny_config
from tests.tiny_backbone import tiny_zoo


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


def spec_of(corpus, **changes):
    return Spec(str(corpus), tiny_config(**{"backbone": "tiny", "epochs": 1} | changes))


def train(corpus, **changes):
    return Experiment().train(spec_of(corpus, **changes))


@pytest.fixture
def damaged(monkeypatch):
    """Checkpoints are saved with other weights than those that were tested."""
    plain = checkpoint.write_files

    def write(folder, model, card):
        with torch.no_grad():
            model.head.linear.weight.mul_(-3)
        plain(folder, model, card)

    monkeypatch.setattr("mer.experiments.experiment.write_files", write)


@pytest.mark.promise("A run fails if its saved checkpoint does not reproduce its test predictions.")
def test_a_checkpoint_with_other_predictions_fails_the_run_and_is_not_kept(runs_home, song_corpus, damaged):
    with pytest.raises(
        RunError, match=r"gives other answers than the test: .+ differs by 0\.\d+; the run is not"
    ):
        train(song_corpus)
    runs = RunStore.open()
    run = runs.runs()[0]
    assert run.status == "failed"
    assert "other answers" in run.reason
    assert runs.folder(run.id, "checkpoint") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"control": "noise"},
        {"control": "labels"},
        {"pool": "attention"},
        {"loss": "bce"},
        {"outputs": "imagenet", "freeze": "classifier", "standardize": "none"},
        {"always_training": True},
        {"freeze": "head", "standardize": "window"},
        {"pad": "repeat", "only_first": True, "reference": "absolute"},
    ],
    ids=lambda changes: json.dumps(changes),
)
def test_runs_of_every_kind_are_finished(runs_home, song_corpus, changes):
    assert train(song_corpus, **changes).status == "finished"


def test_clips_that_are_gone_or_changed_since_are_checked_by_their_images(runs_home, song_corpus, tmp_path):
    class Removes:
        """Takes the clips away while the run trains."""

        def __init__(self, corpus):
            self.corpus = corpus

        def on_embed(self, done, total): ...

        def on_step(self, step): ...

        def on_epoch(self, state):
            for number, path in enumerate(sorted(self.corpus.rglob("*.wav"))):
                path.unlink() if number % 2 else path.write_bytes(b"no sound")

    corpus = Path(shutil.copytree(song_corpus, tmp_path / "copy"))
    assert Experiment(callbacks=[Removes(corpus)]).train(spec_of(corpus)).status == "finished"
