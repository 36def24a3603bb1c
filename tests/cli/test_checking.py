"""`mer controls` and `mer check-leak`: ordinary runs side by side, and what they show."""

import json

import pytest

from mer.cli import main
from mer.data.apart import MARKS, PARTED
from mer.experiments import verdicts
from mer.experiments.experiment import Experiment
from mer.models.card import load_card, page
from mer.runs.outcomes import Outcome
from mer.runs.store import RunStore
from tests.run_helpers import TINY
from tests.tiny_backbone import tiny_zoo

SETTINGS = TINY | {"backbone": "tiny", "epochs": 1}
OPTIONS = [f"--{key.replace('_', '-')}={value}" for key, value in SETTINGS.items()]


@pytest.fixture
def mer(capsys, runs_home, song_corpus):
    """Run a check on the clips of the session; returns exit status and what it printed."""

    def run(command, *words):
        with tiny_zoo():
            status = main([command, "--data", str(song_corpus), *OPTIONS, *words])
        return status, capsys.readouterr().out

    return run


def test_three_control_runs_learn_nothing(mer, monkeypatch):
    monkeypatch.setattr(verdicts, "guess_of", lambda rows: 1.0)  # with two songs to test, chance is no rarity
    status, out = mer("controls", "--no-baseline", "--json")
    found = json.loads(out)
    assert (status, found["broken"]) == (0, False)
    assert [control["control"] for control in found["controls"]] == ["labels", "silence", "noise"]
    runs = [RunStore.open().get(control["run_id"]) for control in found["controls"]]
    assert [run.control for run in runs] == ["shuffled labels", "silence", "noise"]
    assert all(f"--control {control['control']}" in run.spec["command"]
               for control, run in zip(found["controls"], runs, strict=True))  # fmt: skip


def test_a_control_run_above_guessing_is_reported_and_sets_the_exit_status(mer, monkeypatch):
    monkeypatch.setattr(verdicts, "guess_of", lambda rows: 0.0)
    status, out = mer("controls", "--no-baseline")
    assert status == 1
    assert out.count("above guessing") >= 3
    assert "try again with another --seed" in out


def test_a_stopped_check_gives_no_verdict(mer, monkeypatch):
    monkeypatch.setattr(Experiment, "train", lambda self, spec: Outcome("abc", "stopped"))
    assert mer("controls") == (130, "")


def test_check_leak_reports_the_gain_from_songs_on_both_sides_and_marks_that_run(mer, capsys):
    status, out = mer("check-leak", "--json")
    found = json.loads(out)
    kept, parted = (RunStore.open().get(found[name]) for name in ("kept", "parted"))
    splits = [run.spec["config"].pop("split") for run in (kept, parted)]
    assert [split.pop("group_by_song") for split in splits] == [True, False]
    assert splits[0] == splits[1]
    assert kept.spec["config"] == parted.spec["config"]
    assert set(found["leaks"]) == {"network", "SVM"}
    value, low, high = found["leaks"]["network"]["difference"]
    assert status == 0
    assert low <= value <= high
    scores = [found["leaks"]["network"][name][0] for name in ("kept", "parted")]
    assert value == pytest.approx(scores[1] - scores[0])
    assert (kept.leaky, parted.leaky) == (False, True)
    cards = [load_card(RunStore.open().folder(run.id, "checkpoint")) for run in (kept, parted)]
    assert [card.leak for card in cards] == ["", PARTED]
    assert [MARKS[PARTED] in page(card) for card in cards] == [False, True]
    assert PARTED in cards[1].title
    with tiny_zoo():
        main(["runs", "list"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(parted.id[:8])]
    assert line.endswith(PARTED)


def test_the_control_cannot_be_given_twice(capsys):
    with pytest.raises(SystemExit):
        main(["controls", "--data", "x", "--control", "noise"])
    assert "--control" in capsys.readouterr().err
