"""Commands on data sets as people have them: songs from file names, clips in two classes, warnings."""

import json
import shutil

import pytest

from mer.cli.parser import build_parser
from mer.cli.specs import command_for, make_spec
from mer.config.presets import preset
from mer.config.sections import Config
from mer.experiments.prepared import Spec, prepare
from mer.utils.errors import ConfigError
from tests.run_helpers import tiny_config, write_songs


@pytest.fixture
def corpus(tmp_path):
    """16 clips of 8 songs in folders, named Happy_000a.wav and so on, without a manifest."""
    root = write_songs(tmp_path / "songs")
    (root / "manifest.csv").unlink()
    for path in list(root.rglob("*.wav")):
        path.rename(path.with_name(f"{path.parent.name}_{int(path.stem[0]):03}{path.stem[1]}.wav"))
    return root


def test_data_check_shows_the_pattern_with_examples(mer, corpus):
    status, out, _ = mer("data", "check", corpus)
    assert status == 0
    assert (
        "songs: 8, by the pattern {song}{letter} found in the file names (Happy_000: Happy/Happy_000a.wav"
        in out
    )
    assert "--song-pattern none turns it off" in out
    found = json.loads(mer("data", "check", corpus, "--json")[1])
    assert (found["songs"], found["grouping"]["source"]) == (8, "by name")
    assert found["song_pattern"]["pattern"] == "{song}{letter}"
    assert found["song_pattern"]["examples"]["Happy_000"] == ["Happy/Happy_000a.wav", "Happy/Happy_000b.wav"]


def test_data_check_calls_songs_by_sound_guessed_and_promises_nothing(mer, corpus):
    out = mer("data", "check", corpus, "--song-pattern", "none")[1]
    assert "guessed from sound; up to a quarter of the pairs of clips of one song is missed" in out
    assert "splits keep each group together" not in out


def test_data_check_offers_a_pattern_that_may_be_meant(mer, corpus):
    for path in list(corpus.rglob("*.wav")):
        titles = (
            "Tum Hi Ho",
            "Lag Ja Gale",
            "Zindagi",
            "Barso Re",
            "Masakali",
            "Yaaron",
            "Chaudhvin",
            "Hawa",
        )
        place = int(path.stem[-4:-1]) + 4 * (path.parent.name == "Sad")
        path.rename(path.with_name(f"{titles[place]} {'ab'.index(path.stem[-1]) + 1}.wav"))
    found = json.loads(mer("data", "check", corpus, "--json")[1])
    assert found["song_pattern"] is None
    assert (found["offered_pattern"]["pattern"], found["offered_pattern"]["songs"]) == ("{song} {number}", 8)
    assert "--song-pattern '{song} {number}' would make 8 songs" in mer("data", "check", corpus)[1]
    taken = json.loads(mer("data", "check", corpus, "--song-pattern", "{song} {number}", "--json")[1])
    assert taken["songs"] == 8


def test_data_check_lists_every_clip_in_two_classes_and_ends_with_an_error(mer, corpus):
    for number in range(4):
        shutil.copy(corpus / "Sad" / f"Sad_00{number}a.wav", corpus / "Happy" / f"copy {number}.wav")
    status, out, err = mer("data", "check", corpus)
    assert status == 2
    assert all(f"Happy/copy {number}.wav" in out for number in range(4))
    assert "the same audio is in two classes 4 time(s)" in err
    status, out, _ = mer("data", "check", corpus, "--drop-conflicts", "--json")
    assert status == 0
    assert (json.loads(out)["clips"], len(json.loads(out)["left_out"])) == (12, 8)


@pytest.mark.parametrize(
    "command", ["train", "sweep", "controls", "check-leak", "ladder", "evaluate", "prepare"]
)
def test_songs_can_be_named_by_a_pattern_wherever_a_column_can(command):
    place = (
        ["x", "--data", "/d"]
        if command == "evaluate"
        else ["/d"]
        if command == "prepare"
        else ["--data", "/d"]
    )
    found = build_parser().parse_args(
        [command, *place, "--song-pattern", "{song}_{number}", "--drop-conflicts"]
    )
    assert (found.song_pattern, found.drop_conflicts) == ("{song}_{number}", True)
    assert build_parser().parse_args([command, *place]).song_pattern == "auto"


def test_the_pattern_is_in_the_request_and_in_its_command():
    words = [
        "train",
        "--data",
        "/d",
        "--preset",
        "quick",
        "--song-pattern",
        "{song} ({number})",
        "--drop-conflicts",
    ]
    arguments = build_parser().parse_args(words)
    arguments.words = words
    spec = make_spec(arguments, preset("quick"))
    assert (spec.song_pattern, spec.drop_conflicts) == ("{song} ({number})", True)
    command = command_for(spec, preset_name="quick")
    assert "--song-pattern '{song} ({number})' --drop-conflicts" in command
    assert Spec.from_dict(spec.to_dict()) == spec


def test_a_run_from_before_patterns_finds_no_songs_in_file_names(corpus):
    stored = Spec(str(corpus), tiny_config()).to_dict()
    assert prepare(Spec.from_dict(stored)).about["song_pattern"] == "{song}{letter}"
    del stored["song_pattern"], stored["drop_conflicts"]
    about = prepare(Spec.from_dict(stored)).about
    assert (about["grouping"], "song_pattern" in about) == ("by sound", False)


def test_a_training_says_how_songs_were_found(corpus):
    said = []
    prepare(Spec(str(corpus), tiny_config()), notify=lambda title, done, total: said.append(title))
    assert any(title.startswith("note: songs: 8, by the pattern {song}{letter} found") for title in said)
    said.clear()
    prepare(Spec(str(corpus), tiny_config(), song_pattern="none"), notify=lambda *step: said.append(step[0]))
    (note,) = [title for title in said if title.startswith("note: songs: none named")]
    assert "guessed from sound; up to a quarter of the pairs of clips of one song is missed" in note


def test_a_pattern_for_a_sharded_set_is_refused(tmp_path):
    (tmp_path / "plan.json").touch()
    with pytest.raises(ConfigError, match="--song-pattern has no effect on a sharded set"):
        prepare(Spec(str(tmp_path), Config(), song_pattern="{song}{letter}"))


def test_folders_of_a_split_are_trained_on_as_they_are_and_a_test_part_of_one_class_is_said(corpus):
    from mer.experiments.setup import PreparedRun

    for path in list(corpus.rglob("*.wav")):
        part = "test" if path.stem in ("Sad_003a", "Sad_003b") else "train"
        target = corpus / part / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for label in ("Happy", "Sad"):
        (corpus / label).rmdir()
    said = []
    run = PreparedRun.checked(
        Spec(str(corpus), tiny_config(validation=0)), notify=lambda *step: said.append(step[0])
    )
    assert [run.data.report.dataset.clips[i].id for i in run.split.test] == [
        "test/Sad/Sad_003a.wav",
        "test/Sad/Sad_003b.wav",
    ]
    assert any("The test part holds only the class 'Sad'" in title for title in said)
