"""Finished runs become an ensemble that is a run too; what does not belong together is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mer.experiments.ensembling import join
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.inference.ensemble import open_predictor
from mer.inference.evaluate import evaluate_checkpoint
from mer.models.card import CARD, load_card
from mer.runs.results import read_predictions, read_scores, read_validation
from mer.runs.results import test_key as key_of
from mer.runs.store import RunStore
from mer.utils.errors import CheckpointError, RunError, StorageError
from tests.run_helpers import tiny_config, write_songs
from tests.tiny_backbone import tiny_zoo


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture(scope="module")
def _made(module_home, tmp_path_factory):
    """Runs on the same 16 clips that can be joined, and others that cannot."""
    root = tmp_path_factory.mktemp("joining")
    corpus, other = write_songs(root / "songs"), write_songs(root / "other", labels=("Calm", "Sad"))

    def train(data=corpus, **changes):
        config = tiny_config(**{"backbone": "tiny", "epochs": 1, "lr": 0.05} | changes)
        return Experiment().train(Spec(data=str(data), config=config, command="mer train")).run_id

    with pytest.MonkeyPatch.context() as patch, tiny_zoo():
        patch.setenv("MER_HOME", str(module_home))
        return SimpleNamespace(
            corpus=corpus,
            first=train(),
            second=train(epochs=2, window_seconds=0.8, hop_seconds=0.4),
            elsewhere=train(test=0.5),
            strange=train(data=other),
            faster=train(sample_rate=4410, f_max=2000.0),
            unchecked=train(validation=0.0, keep="last"),
            otherwise=train(validation=0.5),
            folds=[train(folds=2), train(folds=2, lr=0.2)],
        )


@pytest.fixture
def made(_made, runs_home):
    return SimpleNamespace(**vars(_made), runs=RunStore.open())


@pytest.fixture
def joined(made):
    """`joined(*run_ids, weights=...)` makes an ensemble that is removed after the test."""
    done = []

    def make(*names, **options):
        found = join(made.runs, names, **options)
        done.append(found.run_id)
        return found

    yield make
    for run_id in done:
        made.runs.delete(run_id)


def shares(runs, run_id, read=read_predictions):
    return {row["clip"]: row["probabilities"]["Sad"] for row in read(runs, run_id)}


# --- the run ----------------------------------------------------------------------------------------


def test_an_ensemble_is_a_finished_run_tested_on_its_members_clips(made, joined):
    found = joined(made.first, made.second, command="mer ensemble a b")
    run = made.runs.get(found.run_id)
    assert (run.status, run.name, run.members) == (
        "finished", "ensemble of 2 · songs", (made.first, made.second),
    )  # fmt: skip
    assert key_of(run) == key_of(made.runs.get(made.first))
    assert run.spec["data"] == str(made.corpus)
    assert run.spec["ensemble"]["weights"] == [0.5, 0.5]
    own, one, two = (shares(made.runs, key) for key in (found.run_id, made.first, made.second))
    assert own == pytest.approx({clip: (one[clip] + two[clip]) / 2 for clip in one})
    scores = read_scores(made.runs, found.run_id)
    assert run.metrics["test_song_accuracy"] == scores["song_accuracy"]
    sizes = [made.runs.get(key).metrics["parameters"] for key in (made.first, made.second)]
    assert run.metrics["parameters"] == sum(sizes)


def test_an_ensemble_is_plain_data(made, joined):
    data = joined(made.first, made.second).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {"run_id", "members", "metrics", "diversity", "checkpoint"}
    assert [row["run_id"] for row in data["members"]] == [made.first, made.second]
    assert np.shape(data["diversity"]["agreement"]) == (2, 2)


def test_the_checkpoint_of_an_ensemble_predicts_what_its_run_recorded(made, joined):
    found = joined(made.first, made.second)
    predictor = open_predictor(made.runs.folder(found.run_id, "checkpoint"))
    for clip, share in shares(made.runs, found.run_id).items():
        assert predictor.predict(made.corpus / clip).probabilities["Sad"] == pytest.approx(share, abs=2e-3)


def test_an_ensemble_can_be_evaluated_like_any_checkpoint(made, joined):
    found = joined(made.first, made.second)
    scores = evaluate_checkpoint(made.runs.folder(found.run_id, "checkpoint"), made.corpus)
    assert (scores["n_clips"], scores["n_songs"], scores["n_windows"]) == (16, 8, 16)
    assert scores["trained_on_this_data"] is True


def test_a_single_weighted_member_is_tempered_too(made, joined):
    folder = made.runs.folder(joined(made.first, made.second).run_id, "checkpoint")
    card = json.loads((folder / CARD).read_text("utf-8"))
    one, other = card["members"]
    card |= {"members": [one | {"weight": 1.0}, other | {"weight": 0.0}]}
    errors = []
    for temperature in (1.0, 20.0):
        content = card | {"calibration": {"temperature": temperature, "clips": 30}}
        (folder / CARD).write_text(json.dumps(content), "utf-8")
        errors.append(evaluate_checkpoint(folder, made.corpus)["calibration"])
    assert errors[1]["bins"][-1]["confidence"] < errors[0]["bins"][-1]["confidence"]
    assert errors[1]["bins"][-1]["confidence"] < 0.6


def test_its_card_has_its_own_scores_and_names_its_members(made, joined):
    found = joined(made.first, made.second, command="mer ensemble a b")
    card = load_card(made.runs.folder(found.run_id, "checkpoint"))
    assert card.metrics == read_scores(made.runs, found.run_id)
    assert [member.run for member in card.members] == [made.first, made.second]
    assert (card.command, card.title) == ("mer ensemble a b", "ensemble of 2 · songs")
    assert card.notes.startswith("All members weigh the same.")


def test_cross_validations_are_joined_over_all_folds(made, joined):
    found = joined(*made.folds)
    run = made.runs.get(found.run_id)
    assert (run.metrics["n_clips"], run.metrics["n_songs"]) == (16, 8)
    assert key_of(run) == key_of(made.runs.get(made.folds[0]))
    card = load_card(made.runs.folder(run.id, "checkpoint"))
    assert len(card.members) == 2
    assert "one of the 2 networks of a cross-validation" in card.notes


# --- weights ----------------------------------------------------------------------------------------


def loss(members, weights, labels):
    shares = np.array([[m[c] if labels[c] == "Sad" else 1 - m[c] for c in labels] for m in members])
    return -np.log(np.asarray(weights) @ shares).mean()


def test_fitted_weights_are_no_worse_than_equal_ones_on_the_validation_part(made, joined):
    found = joined(made.first, made.second, weights="validation")
    rows = read_validation(made.runs, made.first)
    labels = {row["clip"]: row["label"] for row in rows}
    members = [shares(made.runs, key, read_validation) for key in (made.first, made.second)]
    assert sum(found.weights) == pytest.approx(1)
    best = loss(members, found.weights, labels)
    assert best <= loss(members, [0.5, 0.5], labels) + 1e-6
    assert max(found.weights) <= (2 + 1 / 2) / (2 + 1) + 1e-3, "two songs are worth no more"
    card = load_card(made.runs.folder(found.run_id, "checkpoint"))
    assert tuple(member.weight for member in card.members) == found.weights
    assert card.notes.startswith(
        "The weights are the most probable ones by the labels of the validation part"
    )


def test_a_cross_validation_is_weighted_by_the_validation_parts_of_all_folds(made, joined):
    assert sum(joined(*made.folds, weights="validation").weights) == pytest.approx(1)


def test_a_run_stores_predictions_of_the_validation_part_without_test_clips(made):
    kept = shares(made.runs, made.first, read_validation)
    assert len(kept) == 4
    assert not kept.keys() & shares(made.runs, made.first).keys()
    assert read_validation(made.runs, made.folds[0]) == []
    assert all(read_validation(made.runs, fold.id) for fold in made.runs.children(made.folds[0]))


def test_without_validation_predictions_only_equal_weights_are_possible(made, joined):
    assert read_validation(made.runs, made.unchecked) == []
    with pytest.raises(RunError, match=f"{made.unchecked[:8]} has no predictions for a validation part"):
        joined(made.first, made.unchecked, weights="validation")
    assert joined(made.first, made.unchecked).weights == (0.5, 0.5)


def test_runs_with_different_validation_parts_cannot_be_weighted(made, joined):
    with pytest.raises(RunError, match="have different validation parts; use --weights equal"):
        joined(made.first, made.otherwise, weights="validation")


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["first"], "joins 2 to 16 runs, not 1"),
        (["first"] * 17, "joins 2 to 16 runs, not 17"),
        (["first", "first"], "is given twice"),
        (["first", "elsewhere"], "were not tested on the same clips; join runs of the same data, seed"),
        (["first", "strange"], r"have other classes \(Happy, Sad against Calm, Sad\)"),
        (["first", "faster"], "have sample rates of 4000 and 4410 Hz; join runs of the same sample rate"),
    ],
)
def test_runs_that_do_not_fit_together_are_refused_and_leave_no_run(made, names, message):
    before = [run.id for run in made.runs.runs()]
    with pytest.raises(RunError, match=message):
        join(made.runs, [getattr(made, name) for name in names])
    assert [run.id for run in made.runs.runs()] == before


def test_a_missing_or_unfinished_run_is_refused(made, joined):
    with pytest.raises(RunError, match="run 'nothing': there is no such run"):
        joined(made.first, "nothing")
    run_id = made.runs.create("queued", made.runs.get(made.first).spec)
    try:
        with pytest.raises(RunError, match=f"run {run_id[:8]} is queued; only finished runs can be joined"):
            joined(made.first, run_id)
    finally:
        made.runs.delete(run_id)


def test_an_ensemble_cannot_be_a_member(made, joined):
    found = joined(made.first, made.second)
    with pytest.raises(RunError, match=f"{found.run_id[:8]} is an ensemble; name its members"):
        joined(made.first, found.run_id)


def test_a_damaged_member_is_named_and_leaves_no_run(made, monkeypatch):
    place = made.runs.folder(made.second, "checkpoint") / "model.safetensors"
    kept, before = place.read_bytes(), len(made.runs.runs())
    place.write_bytes(b"garbage")
    try:
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            join(made.runs, [made.first, made.second])
    finally:
        place.write_bytes(kept)
    assert len(made.runs.runs()) == before


def test_a_full_disk_leaves_no_run(made, monkeypatch):
    def full(*arguments):
        raise StorageError("cannot write: no space left")

    before = len(made.runs.runs())
    monkeypatch.setattr("mer.experiments.ensembling.save_evaluation", full)
    with pytest.raises(StorageError):
        join(made.runs, [made.first, made.second])
    assert len(made.runs.runs()) == before
