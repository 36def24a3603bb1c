"""The command-line contract: names, JSON keys, exit status, and what goes to which stream."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from types import SimpleNamespace

import pytest

from mer.cli import main
from mer.cli.parser import build_parser
from mer.data.library import known
from mer.runs.store import RunStore
from tests.run_helpers import TINY, write_songs
from tests.serve_helpers import SHIPPED
from tests.tiny_backbone import tiny_zoo


def options(**changes):
    settings = TINY | changes
    return [*(f"--{key.replace('_', '-')}={value}" for key, value in settings.items()), "--no-baseline"]


OPTIONS = options()
QUICK = options(backbone="tiny", epochs=1)  # for commands in this process


@pytest.fixture
def mer(capsys, runs_home):
    """Run a command; returns exit status, what it printed, and what it said on standard error."""

    def run(*words):
        with tiny_zoo():
            status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def mer_json(mer):
    def run(*words):
        status, out, err = mer(*words, "--json")
        assert status == 0, err
        assert len(out.splitlines()) == 1
        return json.loads(out)

    return run


@pytest.fixture(scope="module")
def train_says(module_home, song_corpus):
    """The JSON object that `mer train` writes about the run that most tests here share."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.setenv("MER_HOME", str(module_home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert main(["train", "--data", str(song_corpus), *OPTIONS, "--json"]) == 0
    return json.loads(out.getvalue())


@pytest.fixture
def trained(train_says, runs_home, module_home):
    return RunStore.open().get(train_says["run_id"])


@pytest.fixture
def checkpoint(trained, runs_home):
    return RunStore.open().folder(trained.id, "checkpoint")


def test_a_data_set_that_was_trained_on_is_known_to_the_pages(trained, song_corpus):
    assert [entry.path for entry in known()] == [str(song_corpus)]


def test_train_gives_run_status_metrics_and_checkpoint(train_says):
    assert set(train_says) == {"run_id", "status", "metrics", "checkpoint"}
    assert train_says["status"] == "finished"
    assert {"test_accuracy", "test_macro_f1", "test_song_accuracy"} <= set(train_says["metrics"])
    assert sorted(os.listdir(train_says["checkpoint"])) == ["card.json", "card.md", "model.safetensors"]


@pytest.fixture
def launched(monkeypatch):
    """Commands of `mer` that would be started as processes; none is started."""
    commands = []

    def start_mer(*words, **options):
        commands.append(words)
        return SimpleNamespace(pid=os.getpid(), wait=lambda: None)

    monkeypatch.setattr("mer.jobs.queue.start_mer", start_mer)
    return commands


def test_a_detached_run_is_queued_and_started_as_a_process(mer_json, song_corpus, launched):
    run = mer_json("train", "--data", song_corpus, *OPTIONS, "--detach")
    assert (run["status"], run["metrics"], run["checkpoint"]) == ("queued", {}, None)
    assert launched == [("runs", "work", run["run_id"])]
    assert [entry.path for entry in known()] == [str(song_corpus)]
    assert mer_json("runs", "show", run["run_id"])["status"] == "queued"


def test_a_setting_given_on_the_command_line_beats_the_preset(mer_json, song_corpus, launched):
    words = ["train", "--data", song_corpus, "--preset", "paper", *OPTIONS, "--loss", "ce", "--detach"]
    run = mer_json(*words)
    train = mer_json("runs", "show", run["run_id"])["spec"]["config"]["train"]
    assert (train["loss"], train["freeze"], train["optimizer"]) == ("ce", "head", "adam")


def test_evaluate_gives_scores_confusion_and_intervals(mer_json, checkpoint, song_corpus):
    scores = mer_json("evaluate", checkpoint, "--data", song_corpus)
    wanted = {
        "accuracy",
        "macro_f1",
        "confusion",
        "classes",
        "song_accuracy",
        "intervals",
        "n_clips",
        "n_songs",
    }
    assert wanted <= set(scores)
    assert (scores["n_clips"], scores["n_songs"], scores["classes"]) == (16, 8, ["Happy", "Sad"])


def test_evaluate_says_that_the_data_are_the_training_data(mer, mer_json, checkpoint, song_corpus, tmp_path):
    assert "It was trained on some of these clips" in mer("evaluate", checkpoint, "--data", song_corpus)[1]
    labels = song_corpus / "otherwise.csv"
    rows = [f"{clip.relative_to(song_corpus).as_posix()},Sad" for clip in sorted(song_corpus.rglob("*.wav"))]
    labels.write_text("\n".join(["path,label", *rows]))
    assert mer_json("evaluate", checkpoint, "--data", labels)["trained_on_this_data"] is True
    labels.unlink()
    other = write_songs(tmp_path / "other", songs=2)
    scores = mer_json("evaluate", checkpoint, "--data", other)
    assert scores["trained_on_this_data"] is False


def test_evaluate_says_that_clips_of_one_class_say_nothing(mer, checkpoint, song_corpus):
    said = "All clips are of one class"
    assert said not in mer("evaluate", checkpoint, "--data", song_corpus)[1]
    clip = next(song_corpus.glob("*/*.wav"))
    labels = song_corpus / "one_class.csv"
    labels.write_text(f"path,label\n{clip.relative_to(song_corpus)},{clip.parent.name}\n", "utf-8")
    try:
        assert said in mer("evaluate", checkpoint, "--data", labels)[1]
    finally:
        labels.unlink()


def test_predict_gives_a_list_with_windows(mer_json, checkpoint, song_corpus):
    files = [song_corpus / "Sad" / "0a.wav", song_corpus / "Happy" / "1b.wav"]
    found = mer_json("predict", checkpoint, *files)
    assert [row["file"] for row in found] == [str(file) for file in files]
    for row in found:
        assert set(row) == {"file", "emotion", "probabilities", "windows", "remarks"}
        assert row["emotion"] == max(row["probabilities"], key=row["probabilities"].get)
        assert set(row["windows"][0]) == {"start", "end", "probabilities"}


def test_predict_prints_remarks_below_the_table(mer, checkpoint, song_corpus, tmp_path, sound, write_audio):
    noise = write_audio(tmp_path / "noise.wav", sound.noise(3.0))
    status, out, _ = mer("predict", checkpoint, noise, song_corpus / "Sad" / "0a.wav")
    assert status == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [str(noise), str(song_corpus / "Sad" / "0a.wav")]
    assert lines[3].startswith(f"{noise}: It sounds like noise rather than music.")
    assert len(lines) <= 5


def test_predict_goes_on_after_a_bad_file_and_names_it(mer, checkpoint, song_corpus, tmp_path):
    (tmp_path / "bad.wav").write_text("no sound")
    status, out, err = mer(
        "predict", checkpoint, tmp_path / "bad.wav", song_corpus / "Sad" / "0a.wav", "--json"
    )
    assert status == 2
    assert len(json.loads(out)) == 1
    assert "bad.wav: text, not audio" in err


def test_predict_names_the_files_of_a_folder_that_it_does_not_take(
    mer, checkpoint, tmp_path, sound, write_audio
):
    folder = tmp_path / "clips"
    for name in ("one.wav", "two.wav"):
        write_audio(folder / name, sound.chord(seconds=1.5))
    (folder / "one.wav").rename(folder / "three.xyz")
    (folder / "song.ape").write_bytes(b"MAC \x96\x0f\0\0")
    (folder / "cover.jpg").touch()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._two.wav"):
        (folder / name).touch()
    status, out, err = mer("predict", checkpoint, folder, "--json")
    assert status == 2
    assert [row["file"] for row in json.loads(out)] == [f"{folder}/two.wav"]
    named = (
        f"{folder}/cover.jpg: not audio (.jpg); {folder}/song.ape: not audio (.ape); "
        f"{folder}/three.xyz: WAV with the suffix .xyz; rename it to end in .wav"
    )
    assert err == f"error: {named}\n"


def test_the_manifest_of_a_folder_is_no_file_that_predict_leaves_out(mer, checkpoint, song_corpus):
    assert mer("predict", checkpoint, song_corpus)[0] == 0


def test_predict_takes_folders_and_goes_on_after_a_bad_file_in_one(mer, checkpoint, tmp_path):
    corpus = write_songs(tmp_path / "songs")
    (corpus / "Happy" / "1a.wav").write_text("no sound")
    alone = corpus / "Sad" / "0a.wav"
    status, out, err = mer("predict", checkpoint, alone, corpus, "--json")
    assert status == 2
    below = sorted(corpus.glob("*/*.wav"))
    below.remove(corpus / "Happy" / "1a.wav")
    assert [row["file"] for row in json.loads(out)] == [str(path) for path in (alone, *below)]
    *progress, last = err.splitlines()
    assert progress[-1].startswith("predicting: 17 of 17")
    assert last.startswith(f"error: {corpus}/Happy/1a.wav: text, not audio")


def test_predict_shows_no_progress_for_a_few_files(mer, checkpoint, song_corpus):
    files = sorted((song_corpus / "Sad").glob("*.wav"))
    assert mer("predict", checkpoint, *files[:5])[2] == ""


def test_predict_refuses_a_folder_without_audio(mer, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    status, out, err = mer("predict", checkpoint, tmp_path / "empty")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "empty: no audio below it; choose a folder of WAV" in err


def test_timeline_writes_values_at_the_rate(mer_json, checkpoint, song_corpus, tmp_path):
    out = tmp_path / "time.csv"
    found = mer_json("timeline", checkpoint, song_corpus / "Sad" / "0a.wav", "--rate", 2, "--out", out)
    assert found["values"] == len(out.read_text().splitlines()) - 1 >= 1
    assert out.read_text().startswith("time,start,end,emotion,p_Happy,p_Sad")


def test_stimuli_are_chosen_matched_and_written(mer_json, checkpoint, tmp_path):
    corpus = write_songs(tmp_path / "songs")
    found = mer_json("stimuli", checkpoint, "--data", corpus, "--per-class", 1, "--out", tmp_path / "out")
    assert {row["emotion"] for row in found["stimuli"]} | set(found["missing"]) == {"Happy", "Sad"}
    names = {row["file"] for row in found["stimuli"]}
    assert set(os.listdir(tmp_path / "out")) == names | {"stimuli.csv", "provenance.json"}


def test_explain_writes_what_was_found_and_how_it_was_checked(mer_json, checkpoint, song_corpus, tmp_path):
    clip = song_corpus / "Sad" / "0a.wav"
    found = mer_json("explain", checkpoint, clip, "--out", tmp_path / "why")
    assert set(found) == {"file", "emotion", "explained", "deletion", "files"}
    assert (found["file"], found["explained"]) == (str(clip), found["emotion"])
    assert found["deletion"] is None or set(found["deletion"]) == {"auc", "random_auc"}
    assert set(found["files"]) == {"explanation", "map", "heard", "rest", "picture"}
    assert all(os.path.getsize(file) for file in found["files"].values())
    assert sorted(os.listdir(tmp_path / "why")) == sorted(map(os.path.basename, found["files"].values()))


def test_explain_prints_the_explanation_in_words(mer, checkpoint, song_corpus, tmp_path):
    clip = song_corpus / "Sad" / "0a.wav"
    status, out, _ = mer(
        "explain", checkpoint, clip, "--out", tmp_path / "why", "--emotion", "Happy", "--window", "0"
    )
    assert status == 0
    assert "Explained: Happy, " in out
    assert " from 0 to 1 s." in out
    assert str(tmp_path / "why" / "heard.wav") in out.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--emotion", "Joy"], "emotion 'Joy' is none of this checkpoint's: Happy, Sad"),
        (["--window", "7"], "window 7: "),
    ],
)
def test_a_failed_explanation_leaves_no_file(mer, checkpoint, song_corpus, tmp_path, words, message):
    clip = song_corpus / "Sad" / "0a.wav"
    status, out, err = mer("explain", checkpoint, clip, "--out", tmp_path / "why", *words)
    assert (status, out, os.listdir(tmp_path)) == (2, "", [])
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_export_copies_the_checkpoint(mer_json, trained, tmp_path):
    mer_json("export", trained.id[:8], "--out", tmp_path / "whole")
    mer_json("export", trained.id[:8], "--out", tmp_path / "half", "--half")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]


def test_the_card_of_an_exported_fold_has_the_scores_of_all_folds(mer_json, song_corpus, tmp_path):
    run = mer_json("train", "--data", song_corpus, *QUICK, "--folds", "2")
    assert [fold["status"] for fold in run["folds"]] == ["finished", "finished"]
    assert run["metrics"]["n_songs"] == 8
    mer_json("export", run["run_id"], "--out", tmp_path / "model")
    page = (tmp_path / "model" / "card.md").read_text("utf-8")
    score = run["metrics"]["test_song_accuracy"]
    assert "one of the 2 networks of a cross-validation" in page
    assert f"they name {100 * score:.0f}% of 8 songs correctly" in page


def test_export_never_overwrites(mer, trained, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    status, _, err = mer("export", trained.id[:8], "--out", tmp_path)
    assert (status, os.listdir(tmp_path)) == (2, ["mine.txt"])
    assert "is not empty; choose another --out" in err


def test_runs_are_listed_and_shown(mer_json, trained):
    assert trained.id in [run["run_id"] for run in mer_json("runs", "list")["runs"]]
    shown = mer_json("runs", "show", trained.id)
    assert (shown["status"], shown["spec"]["data"]) == ("finished", trained.spec["data"])


def test_a_deleted_run_is_gone(mer, mer_json, runs_home):
    run = RunStore.open().create("one", {})
    assert mer_json("runs", "delete", run) == {"run_id": run, "deleted": True}
    assert mer("runs", "show", run)[0] == 2


def test_a_deleted_run_is_listed_restored_and_removed_for_good(mer_json, runs_home):
    run = RunStore.open().create("one", {})
    mer_json("runs", "delete", run)
    assert [found["run_id"] for found in mer_json("runs", "list", "--deleted")["runs"]] == [run]
    assert mer_json("runs", "restore", run[:8]) == {"run_id": run, "status": "stopped"}
    assert mer_json("runs", "list", "--deleted") == {"runs": []}
    mer_json("runs", "delete", run)
    assert mer_json("runs", "prune", "--dry-run") == {"run_ids": [run], "bytes": 0, "dry_run": True}
    assert mer_json("runs", "prune", run) == {"run_ids": [run], "bytes": 0, "dry_run": False}
    assert mer_json("runs", "prune") == {"run_ids": [], "bytes": 0, "dry_run": False}


def test_a_cancelled_run_is_stopping(mer_json, runs_home):
    runs = RunStore.open()
    run = runs.create("one", {})
    runs.start(run)
    assert mer_json("runs", "cancel", run) == {"run_id": run, "status": "stopping"}
    assert runs.stop_requested(run)


def test_a_sweep_runs_every_combination_and_survives_a_failure(mer_json, song_corpus):
    settings = [word for word in QUICK if not word.startswith(("--backbone", "--batch-size"))]
    result = mer_json(
        *("sweep", "--data", song_corpus, *settings),
        *("--head", "avg", "--depth", "full"),
        *("--backbones", "tiny,vit_b_16", "--batch-sizes", "4,8"),
    )
    assert [(run["backbone"], run["batch_size"]) for run in result["runs"]] == [
        ("tiny", 4),
        ("tiny", 8),
    ]
    assert {run["backbone"] for run in result["failed"]} == {"vit_b_16"}
    assert "vit_b_16 does not accept images of 32 x 32" in result["failed"][0]["error"]


def test_a_sweep_that_is_stopped_has_the_status_of_a_stop(mer, song_corpus, monkeypatch):
    from mer.experiments.experiment import Experiment
    from mer.runs.outcomes import Outcome

    monkeypatch.setattr(Experiment, "train", lambda self, spec: Outcome("abcdefghij", "stopped"))
    status, out, _ = mer("sweep", "--data", song_corpus, "--backbones", "alexnet,vgg16", "--json")
    found = json.loads(out)
    assert status == 130
    assert [(run["backbone"], run["status"]) for run in found["runs"]] == [("alexnet", "stopped")]


def test_a_sweep_without_any_outcome_is_an_error_in_one_line(mer, song_corpus, monkeypatch):
    from mer.cli import train

    monkeypatch.setattr(train, "_one_by_one", lambda specs: iter(()))
    status, _, err = mer("sweep", "--data", song_corpus, "--backbones", "alexnet")
    assert (status, err.count("\n")) == (2, 1)
    assert "no run" in err


def test_the_zoo_lists_every_network(mer_json):
    zoo = {row["name"]: row for row in mer_json("zoo")["backbones"]}
    assert set(zoo) - {"tiny"} == {
        *("alexnet", "vgg16", "mobilenet_v3_small", "resnet18", "resnet50"),
        *("densenet121", "efficientnet_b0", "efficientnet_lite0"),
        *("musicnn_msd", "musicnn_mtt", "vgg_msd", "vgg_mtt", "panns_cnn14", "panns_mobilenet"),
    }
    assert zoo["efficientnet_lite0"]["available_offline"] is True
    assert zoo["vgg16"]["available_offline"] is False
    assert zoo["alexnet"]["parameters"] == 61_100_840


def test_data_check_reports_clips_songs_and_what_was_left_out(mer_json, tmp_path):
    corpus = write_songs(tmp_path / "songs")
    (corpus / "Sad" / "0a.wav").write_bytes(b"")
    report = mer_json("data", "check", corpus)
    assert (report["clips"], report["classes"], report["songs"]) == (15, {"Happy": 8, "Sad": 7}, 8)
    assert report["left_out"] == [{"file": "Sad/0a.wav", "reason": "empty file, 0 bytes"}]


def test_data_demo_then_check_says_synthetic(mer, tmp_path):
    assert mer("data", "demo", "--out", tmp_path / "demo", "--clips-per-class", "2")[0] == 0
    status, out, _ = mer("data", "check", tmp_path / "demo")
    assert status == 0
    assert "(synthetic)" in out


def test_prepare_fills_the_store(mer_json, song_corpus):
    assert mer_json("prepare", song_corpus, "--workers", "1")["clips"] == 16


def test_other_columns_can_be_named(mer_json, tmp_path):
    corpus = write_songs(tmp_path / "songs")
    (corpus / "manifest.csv").rename(corpus / "labels.csv")
    text = (corpus / "labels.csv").read_text().replace("path,label,song", "path,mood,tune")
    (corpus / "labels.csv").write_text(text)
    columns = ["--label-column", "mood", "--song-column", "tune"]
    assert mer_json("data", "check", corpus / "labels.csv", *columns)["songs"] == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--data", "nowhere"], "nowhere: no such file or folder"),
        (["train", "--data", ".", "--backbone", "resnet19"], "no class folder with audio"),
        (["train", "--data", ".", "--epochs", "0"], "epochs=0 is out of range: 1 <= epochs"),
        (["train", "--data", ".", "--executor", "ray", "--workers", "0"], "--workers 0 should be a whole"),
        (["train", "--data", ".", "--workers", "2"], "--workers needs --executor ray"),
        (["train", "--data", "nowhere", "--detach"], "nowhere: no such file or folder"),
        (["sweep", "--data", ".", "--backbones", "resnet19"], "unknown backbone 'resnet19'"),
        (
            ["sweep", "--data", ".", "--backbones", "musicnn_msd+vgg_msd,resnet19"],
            "unknown backbone 'resnet19'",
        ),
        (["serve", SHIPPED, "--workers", "0"], "workers=0 is out of range"),
        (["sweep", "--data", ".", "--batch-sizes", "many"], "--batch-sizes 'many' should be whole numbers"),
        (["ensemble", "xy", "b", "--out", "c"], "run 'xy': there is no such run; 'mer runs list' shows them"),
        (["explain", "a", "b.wav", "--out", "c"], "a: not a checkpoint"),
        (["predict", "nowhere", "a.wav"], "nowhere: not a checkpoint"),
        (["runs", "resume", "nothing"], "run 'nothing': there is no such run"),
        (["zoo", "fetch", "resnet19"], "did you mean 'resnet18'"),
        (["data", "fetch", "mer5", "--out", "x"], "unknown data set 'mer5'; there are: mer500"),
    ],
)
def test_bad_input_is_one_line_and_status_2(mer, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = mer(*words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_unknown_backbone_lists_the_valid_ones(mer, song_corpus):
    status, _, err = mer("train", "--data", song_corpus, "--backbone", "resnet19")
    assert status == 2
    assert "alexnet, vgg16, mobilenet_v3_small, resnet18" in err


def test_an_unknown_option_is_one_line_too(capsys):
    with pytest.raises(SystemExit) as leaving:
        build_parser().parse_args(["train", "--data", "x", "--bogus", "1"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.startswith("error: unrecognized arguments: --bogus")


def start(*words, program=("mer",)):
    return subprocess.Popen(
        [sys.executable, "-m", *program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train_one_epoch(corpus, epochs, **options):
    """Start `mer train` as a process and wait for its first epoch."""
    process = start("train", "--data", corpus, *OPTIONS, "--epochs", epochs, "--json", **options)
    while "epoch 1:" not in process.stderr.readline():
        assert process.poll() is None
    return process


@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_stops_a_run_that_can_then_be_resumed(mer_json, song_corpus, how):
    process = train_one_epoch(song_corpus, 1000)
    process.send_signal(how)
    out, _ = process.communicate(timeout=200)
    result = json.loads(out)
    assert (process.returncode, result["status"]) == (130, "stopped")
    (run,) = mer_json("runs", "list")["runs"]
    assert (run["run_id"], run["status"]) == (result["run_id"], "stopped")


@pytest.mark.slow
def test_a_killed_run_is_interrupted_and_resumes_to_the_end(mer_json, song_corpus):
    process = train_one_epoch(song_corpus, 4, program=("tests.held", "1"))
    process.kill()
    process.communicate()
    (run,) = mer_json("runs", "list")["runs"]
    assert run["status"] == "interrupted"
    assert mer_json("runs", "resume", run["run_id"])["status"] == "finished"


def test_help_needs_no_torch():
    code = (
        "import sys; from mer.cli.parser import build_parser; build_parser(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
