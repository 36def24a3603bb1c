"""`mer store`: what it prints, and what it will not do."""

import json

import pytest

from mer.experiments.prepared import Spec
from mer.runs.store import RunStore
from tests.run_helpers import tiny_config, write_songs


@pytest.fixture
def filled(mer, tmp_path):
    data = write_songs(tmp_path / "songs") / "manifest.csv"
    assert mer("prepare", data)[0] == 0
    return data


def test_the_report_is_one_json_object(mer, filled, own_home):
    status, out, _ = mer("store", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["store"] == str(own_home / "store")
    assert [(part["kind"], part["clips"], part["usable"]) for part in found["parts"]] == [
        ("images", 16, True), ("facts", 16, True)
    ]  # fmt: skip
    assert found["bytes"] > sum(part["bytes"] for part in found["parts"]) > 16 * 100_000


def test_the_report_is_a_table_with_a_total(mer, filled):
    _, out, _ = mer("store")
    assert "images  10 s every 5 s, 16000 Hz, 96 bands, soxr  16     1.9 MB" in out
    assert out.splitlines()[-1].endswith(" MB")


def test_asking_about_an_empty_home_creates_nothing(mer, own_home):
    assert json.loads(mer("store", "--json")[1])["parts"] == []
    assert mer("store", "prune")[1] == "0 files, 0.0 MB, were removed\n"
    assert not own_home.exists()


def test_all_can_be_removed_and_made_again(mer, filled, own_home):
    told = json.loads(mer("store", "prune", "--all", "--dry-run", "--json")[1])
    assert told["dry_run"]
    assert json.loads(mer("store", "prune", "--all", "--json")[1])["files"] == told["files"] > 32
    assert not (own_home / "store").exists()
    assert mer("prepare", filled)[0] == 0


@pytest.mark.parametrize("days", ["-1", "nan"])
def test_days_are_a_number_from_zero(days, mer, own_home):
    assert mer("store", "prune", f"--unused={days}") == (
        2, "", f"error: --unused {days} should be a number of days from 0\n"
    )  # fmt: skip


def test_nothing_is_removed_under_a_run(mer, filled):
    runs = RunStore.open()
    run_id = runs.create("tiny songs", Spec(data=str(filled), config=tiny_config()).to_dict())
    runs.start(run_id)
    status, _, err = mer("store", "prune", "--all")
    assert status == 2
    assert f"run {run_id[:8]} is running and may be using the store" in err
    assert mer("store", "prune", "--all", "--dry-run")[0] == 0
    runs.finish(run_id, "finished")
    assert mer("store", "prune", "--all")[0] == 0
