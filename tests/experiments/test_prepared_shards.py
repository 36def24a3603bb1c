"""Training on a sharded set: what the ordinary way gives on the same clips, and what it does not do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mer.audio.mel import Standardizer
from mer.data.cache.store import FeatureStore
from mer.data.shards.layout import shard_path
from mer.data.shards.read import ShardSet
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec, prepare
from mer.experiments.prepared_shards import PreparedShards
from mer.experiments.setup import PreparedRun, Setup
from mer.inference.predictor import Predictor
from mer.jobs.queue import launch
from mer.runs.results import read_predictions
from mer.runs.store import RunStore
from mer.training.loop import Callback
from mer.utils.errors import ConfigError, DataError, Stop
from tests.run_helpers import tiny_config, write_songs
from tests.shard_helpers import as_parquet, make_set
from tests.tiny_backbone import tiny_zoo
from tests.training.test_distributed import outcome, train

KINDS = {
    "the whole network": {"keep": "best", "epochs": 2},
    "bands of a frozen body": {"freeze": "head", "head": "bands"},
}
MORE = {
    "a head on a frozen body": {"freeze": "head", "standardize": "window"},
    "attention over windows": {"freeze": "head", "pool": "attention", "standardize": "window"},
}


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A sharded set of few shards, and a CSV of the same clips in the same order, with the same split."""
    corpus = write_songs(tmp_path_factory.mktemp("twins"), songs=6)
    rows = pd.read_csv(corpus / "manifest.csv")
    rows["split"] = np.select([rows.song.str[-1] == "0", rows.song.str[-1] == "1"], ["test", "val"], "train")
    out = corpus.parent / f"{corpus.name}-set"
    make_set(as_parquet(corpus, split=rows.split), out, clips=8)
    found = ShardSet.open(out)
    assert found.summary["shards"] == 3
    order = found.column("name", np.arange(len(found.index)))
    rows.set_index("path").loc[order].reset_index().to_csv(corpus / "manifest.csv", index=False)
    return corpus / "manifest.csv", out


def config_of(**changes):
    return tiny_config(backbone="tiny", **changes)


def run(data, callbacks=(), **changes):
    return Experiment(callbacks=callbacks).train(Spec(data=str(data), config=config_of(**changes)))


def weights(outcome):
    return load_file(Path(outcome.checkpoint) / "model.safetensors")


@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE)])
def test_weights_and_predictions_equal_those_of_ordinary_clips(kind, twins, runs_home):
    ordinary, sharded = (run(data, **(KINDS | MORE)[kind]) for data in twins)
    runs = RunStore.open()
    assert runs.get(ordinary.run_id).data_hash == runs.get(sharded.run_id).data_hash
    assert runs.get(ordinary.run_id).tags["mer.test_hash"] == runs.get(sharded.run_id).tags["mer.test_hash"]
    one, two = weights(ordinary), weights(sharded)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=1e-6), name
    answers = [read_predictions(runs, outcome.run_id) for outcome in (ordinary, sharded)]
    assert [row["clip"] for row in answers[0]] == [row["clip"] for row in answers[1]]
    for left, right in zip(*answers, strict=True):
        assert left["song"] == right["song"]
        assert left["probabilities"] == pytest.approx(right["probabilities"], abs=1e-6)
    assert ordinary.metrics == pytest.approx(sharded.metrics, abs=1e-6)


def test_many_shards_are_trained_on_and_the_checkpoint_predicts(sharded, song_parquet, runs_home):
    config = config_of(validation=0.3, seed=1)
    outcome = Experiment().train(Spec(data=str(sharded), config=config))
    assert ShardSet.open(sharded).summary["shards"] > 4
    assert outcome.status == "finished"
    row = read_predictions(RunStore.open(), outcome.run_id)[0]
    answer = Predictor(Path(outcome.checkpoint), device="cpu").predict(song_parquet.parent / row["clip"])
    assert answer.probabilities == pytest.approx(row["probabilities"], abs=1e-3)


def test_a_head_is_solved_for_on_rows_from_disk(sharded, runs_home):
    config = tiny_config(solver="ridge", freeze="head", standardize="window")
    assert Experiment().train(Spec(data=str(sharded), config=config)).status == "finished"


def test_statistics_of_the_training_part_equal_those_of_ordinary_clips(twins):
    found = []
    for data in twins:
        material = prepare(Spec(data=str(data), config=config_of()))
        windows = material.windows(material.split(config_of()).train)
        found.append(Standardizer.fit(windows.batches(4)))
    assert found[0] == found[1]


def test_a_stopped_and_resumed_run_ends_like_an_undisturbed_one(sharded, runs_home):
    class StopOnce(Callback):
        def on_step(self, step):
            if step.epoch == 2:
                raise Stop

    whole = run(sharded, epochs=2)
    stopped = run(sharded, [StopOnce()], epochs=2)
    assert stopped.status == "stopped"
    resumed = Experiment().resume(stopped.run_id)
    one, two = weights(whole), weights(resumed)
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.slow
def test_folds_test_each_clip_once(sharded, runs_home):
    outcome = run(sharded, folds=2, freeze="head", standardize="window", epochs=1)
    rows = read_predictions(RunStore.open(), outcome.run_id)
    names = ShardSet.open(sharded)
    assert sorted(row["clip"] for row in rows) == sorted(names.column("name", np.arange(len(names.index))))


# --- a frozen body ------------------------------------------------------------------------------------


def setup(data, **changes):
    config = config_of(freeze="head", standardize="window", **changes)
    return Setup.of(PreparedRun.checked(Spec(data=str(data), config=config)))


def test_embeddings_are_stored_by_shard_and_not_kept_in_memory(sharded, monkeypatch):
    first = setup(sharded)
    first.fit()
    kept = list(FeatureStore.default().root.glob("embeddings/*/*/*.npy"))
    assert len(kept) == ShardSet.open(sharded).summary["shards"]
    computed = []
    monkeypatch.setattr("mer.training.shard_embeddings.embed", lambda *arguments: computed.append(arguments))
    again = setup(sharded)
    again.fit()
    assert not computed
    one, two = (found.model.state_dict() for found in (first, again))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_progress_is_in_windows_and_the_work_can_be_stopped(sharded):
    told, total = [], ShardSet.open(sharded).summary["windows"]

    class Watch(Callback):
        def on_embed(self, done, of):
            told.append(done)
            assert of == total
            if done == 8 and len(told) == 2:
                raise Stop

    with pytest.raises(Stop):
        setup(sharded).fit([Watch()])
    setup(sharded).fit([Watch()])
    assert told == [4, 8, 8, 12, 16, 20, 24]


def test_damaged_embeddings_are_computed_again(sharded):
    first = setup(sharded)
    first.fit()
    path = min(FeatureStore.default().root.glob("embeddings/*/*/*.npy"))
    before = path.read_bytes()
    path.write_bytes(before[:-9] + b"123456789")
    setup(sharded).fit()
    assert path.read_bytes() == before


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": True}, "an SVM beside the network needs clips.*add --no-baseline"),
        ({"control": "noise"}, "control='noise' needs clips"),
        ({"n_mels": 20}, "was prepared with n_mels=24, not 20; train with --n-mels 24"),
        ({"hop_seconds": 0.2}, "was prepared with hop_seconds=0.5, not 0.2"),
    ],
)
def test_settings_that_need_the_sound_are_refused(changes, message, sharded, runs_home):
    with pytest.raises((ConfigError, DataError), match=message):
        run(sharded, **changes)
    with pytest.raises((ConfigError, DataError), match=message):
        launch(RunStore.open(), Spec(data=str(sharded), config=config_of(**changes)))


def test_a_damaged_shard_ends_a_run_with_the_remedy(sharded, tmp_path, runs_home):
    import shutil

    copy = Path(shutil.copytree(sharded, tmp_path / "copy"))
    path = shard_path(copy, 3)
    path.write_bytes(path.read_bytes()[:-50] + bytes(50))
    with pytest.raises(
        DataError, match=r"00003.bin is damaged \(a checksum is wrong\); run the same mer prepare"
    ):
        run(copy)


def test_a_sharded_set_is_not_a_data_set_of_clips(sharded):
    from mer.data.load import load_dataset

    with pytest.raises(DataError, match="is a sharded set of images, without audio; use it with: mer train"):
        load_dataset(sharded)


def test_a_sharded_set_has_the_facts_of_a_card(sharded, song_parquet):
    material = PreparedShards.open(sharded, config_of())
    ordinary = prepare(Spec(data=str(song_parquet.with_suffix(".csv")), config=config_of()))
    assert material.about == ordinary.about | {"name": song_parquet.parent.name}
    assert replace(material, config=config_of(epochs=1)).notes == ordinary.notes == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("more", [[], ["--freeze", "head"]])
def test_two_processes_on_one_set_end_with_the_weights_of_one(more, own_home, sharded):
    words = ["--test", "0.3", *more]
    both, one = outcome(train(sharded, *words)), outcome(train(sharded, *words, together=False))
    assert len(RunStore.open().runs()) == 2
    first, second = (load_file(Path(found["checkpoint"]) / "model.safetensors") for found in (both, one))
    for name, tensor in first.items():
        assert torch.allclose(tensor.float(), second[name].float(), atol=1e-3), name
