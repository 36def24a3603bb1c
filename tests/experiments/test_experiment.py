"""A run goes from clips to test scores and a checkpoint, and can be taken up again."""

import json
import shutil
from dataclasses import replace

import pytest

from mer.experiments.baseline import TITLE
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec, prepare
from mer.inference.evaluate import evaluate_checkpoint
from mer.inference.predictor import Predictor
from mer.models.card import load_card, page
from mer.models.checkpoint import load_checkpoint
from mer.runs.results import read_baseline, read_predictions, read_scores, read_validation
from mer.runs.run import state_path
from mer.runs.store import RunStore
from mer.training.loop import Callback
from mer.utils.errors import BackboneError, DataError, RunError, WeightsError
from tests.run_helpers import tiny_config, write_songs
from tests.tiny_backbone import tiny_zoo


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


def spec_of(path, **changes):
    return Spec(data=str(path), config=config_of(**changes), command="mer train ...")


def config_of(**changes):
    return tiny_config(**{"backbone": "tiny"} | changes)


class StopAt(Callback):
    """Asks for a stop, as Ctrl-C does, in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_step(self, step):
        if step.epoch == self.epoch:
            raise KeyboardInterrupt


class AskToStop(Callback):
    """Asks the run store to stop every run that is running."""

    def __init__(self, runs):
        self.runs = runs

    def on_epoch(self, state):
        for run in self.runs.runs():
            if run.status == "running":
                self.runs.request_stop(run.id)


@pytest.fixture(scope="module")
def finished(module_home, song_corpus):
    with pytest.MonkeyPatch.context() as patch, tiny_zoo():
        patch.setenv("MER_HOME", str(module_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Experiment().train(spec_of(song_corpus))


def test_a_finished_run_has_scores_with_intervals_beside_majority_and_chance(finished, runs):
    metrics = runs.get(finished.run_id).metrics
    assert finished.status == runs.get(finished.run_id).status == "finished"
    assert metrics["test_accuracy_low"] <= metrics["test_accuracy"] <= metrics["test_accuracy_high"]
    assert {"test_macro_f1", "test_song_accuracy", "majority", "chance", "n_clips", "n_songs"} <= set(metrics)


def test_the_number_of_parameters_is_logged_with_a_finished_run(finished, runs):
    model, _, _ = load_checkpoint(runs.folder(finished.run_id, "checkpoint"))
    assert runs.get(finished.run_id).metrics["parameters"] == sum(p.numel() for p in model.parameters())


def test_the_scores_of_a_finished_run_are_read_again(finished, runs):
    scores = read_scores(runs, finished.run_id)
    assert scores["accuracy"] == finished.metrics["test_accuracy"]
    assert scores["classes"] == ["Happy", "Sad"]


def test_curves_are_logged_for_every_epoch(finished, runs):
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        assert [step for step, _ in runs.history(finished.run_id, name)] == [1, 2, 3]


def test_steps_are_logged_up_to_the_end(finished, runs):
    assert runs.history(finished.run_id, "progress")[-1][1] == 1.0


def test_predictions_of_every_test_clip_agree_with_the_scores(finished, runs, song_corpus):
    rows = read_predictions(runs, finished.run_id)
    right = sum(row["predicted"] == row["label"] for row in rows) / len(rows)
    assert right == pytest.approx(finished.metrics["test_accuracy"])
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)
    assert all((song_corpus / row["clip"]).is_file() for row in rows)


def test_the_checkpoint_predicts_what_the_run_predicted(finished, runs, song_corpus):
    predictor = Predictor(runs.folder(finished.run_id, "checkpoint"))
    for row in read_predictions(runs, finished.run_id):
        found = predictor.predict(song_corpus / row["clip"]).probabilities
        assert found == pytest.approx(row["probabilities"], abs=1e-4)


def test_a_network_is_tempered_by_the_songs_of_its_validation_part(finished, runs):
    found = load_card(runs.folder(finished.run_id, "checkpoint")).calibration
    assert (found["songs"], found["clips"]) == (2, 4)
    assert 0.5 < found["temperature"] < 2
    assert found["temperature"] != 1


def test_without_a_validation_part_nothing_is_tempered(runs, song_corpus):
    outcome = Experiment().train(spec_of(song_corpus, epochs=1, validation=0.0))
    card = load_card(runs.folder(outcome.run_id, "checkpoint"))
    assert card.calibration == {"temperature": 1.0, "songs": 0, "clips": 0}


def test_windows_are_counted_beside_clips_and_songs(finished, runs):
    scores = read_scores(runs, finished.run_id)
    rows = read_predictions(runs, finished.run_id)
    right, total = (sum(row["windows"][k] for row in rows) for k in range(2))
    assert scores["n_windows"] == total >= scores["n_clips"] >= scores["n_songs"]
    assert scores["window_accuracy"] == pytest.approx(right / total)
    assert finished.metrics["test_kappa"] == scores["kappa"]


def test_the_card_names_the_training_data(finished, runs):
    card = load_card(runs.folder(finished.run_id, "checkpoint"))
    assert card.classes == ("Happy", "Sad")
    assert card.config == config_of()
    assert (card.data["clips"], card.data["songs"], card.data["grouping"]) == (16, 8, "by hand")
    assert card.split["clips"] == {"train": 8, "validation": 4, "test": 4}
    assert card.command == "mer train ..."


def test_a_finished_run_leaves_no_state_behind(finished, runs_home):
    assert not state_path(finished.run_id).exists()


def test_a_run_stopped_mid_epoch_resumes_to_the_same_weights(finished, runs, song_corpus):
    outcome = Experiment(callbacks=[StopAt(3)]).train(spec_of(song_corpus))
    assert outcome.status == runs.get(outcome.run_id).status == "stopped"
    assert state_path(outcome.run_id).is_file()
    resumed = Experiment().resume(outcome.run_id)
    assert resumed.status == "finished"
    one, other = (load_checkpoint(runs.folder(i, "checkpoint"))[0] for i in (finished.run_id, resumed.run_id))
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert a.equal(b), name


@pytest.mark.parametrize("solver", ["ridge", "logistic", "kernel"])
def test_a_solved_run_has_a_row_for_each_strength_and_a_checkpoint(solver, runs, song_corpus):
    """The check that the checkpoint gives the answers of the test is part of each run."""
    outcome = Experiment().train(spec_of(song_corpus, solver=solver, freeze="head"))
    run = runs.get(outcome.run_id)
    strengths = [value for _, value in runs.history(run.id, "strength")]
    assert strengths == sorted(strengths)
    assert len(runs.history(run.id, "inner_loss")) == len(strengths) > 1
    assert run.metrics["best_strength"] == strengths[int(run.metrics["best_epoch"]) - 1]
    assert len(runs.history(run.id, "validation_loss")) == 1
    assert run.solved


def test_a_solved_cross_validation_stopped_while_it_solves_is_resumed(runs, song_corpus):
    class Enough(Callback):
        def on_solve(self, done, total):
            raise KeyboardInterrupt

    spec = spec_of(song_corpus, solver="ridge", freeze="head", folds=2)
    stopped = Experiment(callbacks=[Enough()]).train(spec)
    assert stopped.status == "stopped"
    finished = Experiment().resume(stopped.run_id)
    assert finished.status == "finished"
    assert runs.get(finished.run_id).checkpoint_run


def test_a_stop_asked_for_through_the_run_store_is_obeyed(runs, song_corpus):
    outcome = Experiment(callbacks=[AskToStop(runs)]).train(spec_of(song_corpus, epochs=1000))
    assert outcome.status == "stopped"
    assert "on request" in runs.get(outcome.run_id).reason


def test_a_finished_run_cannot_be_resumed(finished, runs_home):
    with pytest.raises(RunError, match="is finished; only an unfinished, idle run"):
        Experiment().resume(finished.run_id)


def test_a_run_whose_clips_changed_cannot_be_resumed(runs_home, tmp_path):
    corpus = write_songs(tmp_path / "songs")
    outcome = Experiment(callbacks=[StopAt(2)]).train(spec_of(corpus))
    shutil.copy(corpus / "Happy" / "0a.wav", corpus / "Happy" / "3b.wav")
    with pytest.raises(RunError, match="have changed since it began; start a new run"):
        Experiment().resume(outcome.run_id)


def test_a_failed_run_records_the_reason(runs, song_corpus):
    class Fail(Callback):
        def on_epoch(self, state):
            raise ZeroDivisionError("bad luck")

    with pytest.raises(ZeroDivisionError):
        Experiment(callbacks=[Fail()]).train(spec_of(song_corpus))
    assert (runs.runs()[0].status, runs.runs()[0].reason) == ("failed", "ZeroDivisionError: bad luck")


def test_folds_test_every_clip_once_and_pool_the_scores(runs, song_corpus):
    outcome = Experiment().train(spec_of(song_corpus, folds=2, epochs=1))
    assert (outcome.metrics["n_clips"], outcome.metrics["n_songs"]) == (16, 8)
    clips = [row["clip"] for row in read_predictions(runs, outcome.run_id)]
    assert len(set(clips)) == len(clips) == 16
    assert [run.status for run in runs.children(outcome.run_id)] == ["finished", "finished"]
    assert load_card(runs.folder(outcome.folds[0].run_id, "checkpoint")).config.split.fold == 0
    assert outcome.checkpoint in [fold.checkpoint for fold in outcome.folds]
    marks = [runs.get(run_id).leak for run_id in (outcome.run_id, outcome.folds[0].run_id)]
    assert marks == ["", ""] == [outcome.leak, outcome.folds[0].leak]
    assert outcome.metrics["parameters"] == outcome.folds[0].metrics["parameters"] > 100
    means = [fold.metrics["test_accuracy"] for fold in outcome.folds]
    assert outcome.metrics["test_accuracy_fold_mean"] == pytest.approx(sum(means) / 2)


def test_a_stopped_cross_validation_continues(runs, song_corpus):
    class StopInSecondFold(Callback):
        folds = 0

        def on_step(self, step):
            self.folds += step.done == 1
            if self.folds == 2:
                raise KeyboardInterrupt

    spec = spec_of(song_corpus, folds=2, epochs=1)
    stopped = Experiment(callbacks=[StopInSecondFold()]).train(spec)
    assert stopped.status == "stopped"
    first = [run for run in runs.children(stopped.run_id) if run.status == "finished"]
    outcome = Experiment().resume(stopped.run_id)
    assert outcome.status == "finished"
    assert outcome.folds[0].run_id == first[0].id
    assert len(runs.children(stopped.run_id)) == 2


def test_an_older_cross_validation_continues_with_its_own_split(runs, song_corpus):
    """Settings of format 1 do not say where validation comes from: it came from all the rest."""
    spec = spec_of(song_corpus, folds=4, epochs=1, seed=1)
    older = spec.to_dict()
    del older["config"]["split"]["validation_from"]
    run_id = runs.create("older", older)
    runs.tag(run_id, {"mer.format": "1"})
    outcome = Experiment().resume(run_id)
    assert runs.get(run_id).spec["config"]["split"]["validation_from"] == "rest"
    material = prepare(spec)
    for number, fold in enumerate(outcome.folds):
        card = load_card(runs.folder(fold.run_id, "checkpoint"))
        assert card.config.split.validation_from == "rest"
        config = spec.config.updated(fold=number)
        old, new = (material.split(config.updated(validation_from=rule)) for rule in ("rest", "next"))
        kept = {row["clip"] for row in read_validation(runs, fold.run_id)}
        clips = material.report.dataset.clips
        assert kept == {clips[i].id for i in old.validation}
        assert old.test == new.test
        assert old.validation != new.validation or number, "the rules differ where this test looks"


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"backbone": "resnet19"}, BackboneError), ({"weights": "missing.pth"}, WeightsError)],
)
def test_bad_input_leaves_no_run_behind(own_home, song_corpus, changes, error):
    with pytest.raises(error):
        Experiment().train(spec_of(song_corpus, **changes))
    assert not (own_home / "mlflow.db").exists()


def test_a_missing_folder_leaves_nothing_behind(own_home, tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        Experiment().train(spec_of(tmp_path / "nowhere"))
    assert not own_home.exists()


def test_a_mer500_zip_with_a_corrupt_file_trains_without_preparation(runs, tmp_path, monkeypatch):
    corpus = write_songs(tmp_path / "songs", songs=8, clips=1)
    (corpus / "manifest.csv").unlink()
    for label in ("Happy", "Sad"):  # MER500 nests each folder twice
        (corpus / label).rename(tmp_path / label)
        shutil.move(tmp_path / label, corpus / label / label)
    (corpus / "Sad" / "Sad" / "broken.wav").write_bytes(b"RIFF, or not")
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", corpus)
    outcome = Experiment().train(spec_of(archive, epochs=1, group_by_song=False))
    assert outcome.status == "finished"
    card = json.loads((runs.folder(outcome.run_id, "checkpoint") / "card.json").read_text())
    assert card["data"]["clips"] == 16


# --- labels by vote ---------------------------------------------------------------------------------


@pytest.fixture
def voted(tmp_path):
    """A CSV of 16 clips on which three of four listeners agree."""
    corpus = write_songs(tmp_path / "songs")
    rows = ["path,song,happy,sad"]
    for path in sorted(corpus.glob("*/*.wav")):
        happy = 3 if path.parent.name == "Happy" else 1
        rows.append(
            f"{path.relative_to(corpus).as_posix()},{path.parent.name}{path.stem[0]},{happy},{4 - happy}"
        )
    (corpus / "votes.csv").write_text("\n".join(rows) + "\n")
    return corpus / "votes.csv"


def test_a_run_on_votes_is_scored_by_agreement_with_them(runs, voted):
    spec = replace(spec_of(voted), label_column="Happy=happy,Sad=sad")
    outcome = Experiment().train(spec)
    scores, rows = read_scores(runs, outcome.run_id), read_predictions(runs, outcome.run_id)
    assert sorted(rows[0]["votes"]) == [0.25, 0.75]
    common = [sum(map(min, row["votes"], row["probabilities"].values())) for row in rows]
    assert scores["agreement"]["overlap"] == pytest.approx(sum(common) / len(common))
    assert outcome.metrics["test_overlap"] == scores["agreement"]["overlap"]
    assert scores["agreement"]["most_votes"] == 0.75
    judged = evaluate_checkpoint(
        runs.folder(outcome.run_id, "checkpoint"), voted, label_column="Sad=sad,Happy=happy"
    )
    assert judged["agreement"]["most_votes"] == 0.75
    assert judged["n_clips"] == 16


def test_folds_on_votes_pool_the_agreement(runs, voted):
    spec = replace(spec_of(voted, folds=2, epochs=1), label_column="Happy=happy,Sad=sad")
    outcome = Experiment().train(spec)
    assert read_scores(runs, outcome.run_id)["agreement"]["most_votes"] == 0.75


def test_an_svm_on_the_same_clips_stands_beside_a_run(runs, song_corpus):
    outcome = Experiment().train(spec_of(song_corpus, epochs=1, baseline=True))
    metrics, scores = runs.get(outcome.run_id).metrics, read_scores(runs, outcome.run_id)
    assert metrics["svm_song_accuracy_low"] <= metrics["svm_song_accuracy"] == 1.0
    assert metrics["svm_accuracy"] == scores["svm"]["accuracy"] == 1.0
    tested = [
        {row["clip"] for row in read(runs, outcome.run_id)} for read in (read_predictions, read_baseline)
    ]
    assert tested[0] == tested[1]
    card = load_card(runs.folder(outcome.run_id, "checkpoint"))
    assert card.metrics["svm"]["song_accuracy"] == 1.0
    assert "an SVM by song 100%" in page(card)


def test_folds_pool_the_answers_of_the_svm_too(runs, song_corpus):
    outcome = Experiment().train(spec_of(song_corpus, epochs=1, folds=2, baseline=True))
    rows = read_baseline(runs, outcome.run_id)
    assert len(rows) == 16
    assert outcome.metrics["svm_accuracy"] == sum(row["label"] == row["predicted"] for row in rows) / 16


def test_the_svm_can_be_left_out(finished, runs):
    assert not [name for name in finished.metrics if name.startswith("svm")]
    assert read_baseline(runs, finished.run_id) == []


def test_a_run_stopped_at_its_svm_is_finished_later(runs, tmp_path):
    def stop(title, done, total):
        if title == TITLE:
            raise KeyboardInterrupt

    spec = spec_of(write_songs(tmp_path / "songs", songs=5), epochs=1, baseline=True)
    stopped = Experiment(notify=stop).train(spec)
    assert stopped.status == "stopped"
    resumed = Experiment().resume(stopped.run_id)
    assert resumed.status == "finished"
    assert "svm_accuracy" in resumed.metrics
    assert len(runs.history(resumed.run_id, "train_loss")) == 1, "no epoch was trained twice"
