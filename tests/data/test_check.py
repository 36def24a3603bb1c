"""The check of a data set: what is left out, what is kept once, and which clips are of one song."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from mer.audio.formats import AUDIO_NAMES
from mer.cli import main
from mer.config.sections import SplitConfig
from mer.data import check as check_module
from mer.data.cache.store import FeatureStore
from mer.data.check import check, group_by_sound
from mer.data.load import load_dataset
from mer.data.splits import split_clips
from mer.utils.errors import DataError, SplitError, StorageError


@pytest.fixture
def store(own_home):
    return FeatureStore.default()


@pytest.fixture(scope="session")
def song(sound):
    """`song(seed) -> 12 s of music`: four chords a second over a little noise, of its own."""

    def make(seed):
        rng = np.random.default_rng(seed)
        chords = [
            sound.chord(rng.uniform(150, 2500, 5), 0.25) * np.linspace(1, rng.uniform(0, 0.5), 4000)
            for _ in range(48)
        ]
        return np.concatenate(chords).astype(np.float32) + sound.noise(12.0, level=0.02, seed=seed)

    return make


@pytest.fixture
def excerpts(tmp_path, song, write_audio):
    """Two excerpts of 4 s that share 2 s, from each of two songs a class, and one of a fifth song."""
    root = tmp_path / "music"
    for number, label in enumerate(["Happy", "Happy", "Sad", "Sad"]):
        music = song(number)
        for part, start in (("a", 0), ("b", 2)):
            cut = music[start * 16_000 : (start + 4) * 16_000]
            write_audio(root / label / f"{number}{part}.flac", cut)
    write_audio(root / "Sad" / "alone.flac", song(9)[:64_000])
    return root


def songs(report):
    return {clip.id: clip.song for clip in report.dataset.clips}


def together(report):
    """The groups as sets of names, whatever they are called."""
    groups = {}
    for name, song in songs(report).items():
        groups.setdefault(song, set()).add(name)
    return sorted(map(sorted, groups.values()))


def split_hash(report):
    clips = report.dataset.clips
    return split_clips(clips, SplitConfig(test=0.4, validation=0)).to_hash(clips)


PAIRS = [
    ["Happy/0a.flac", "Happy/0b.flac"],
    ["Happy/1a.flac", "Happy/1b.flac"],
    ["Sad/2a.flac", "Sad/2b.flac"],
    ["Sad/3a.flac", "Sad/3b.flac"],
    ["Sad/alone.flac"],
]


# What can be used


def test_a_clean_corpus_is_reported_in_full(tiny_corpus, store):
    report = check(load_dataset(tiny_corpus), store, group=False)
    assert [clip.id for clip in report.dataset.clips] == [
        f"{c}/{n}.wav" for c in ("Happy", "Sad") for n in range(3)
    ]
    assert report.to_dict() == {
        "name": "corpus",
        "synthetic": False,
        "hash": report.content_hash(),
        "clips": 6,
        "classes": {"Happy": 3, "Sad": 3},
        "songs": 6,
        "seconds": {"total": 6.0, "min": 1.0, "median": 1.0, "max": 1.0},
        "sample_rates": {"16000": 6},
        "channels": {"1": 6},
        "left_out": [],
        "remarked": [],
        "duplicates": [],
        "grouping": {
            "source": "none", "links": (), "confidence": {}, "thresholds": {}, "groups": 0, "remark": "",
        },
        "conflicts": [],
        "remarks": [],
        "song_pattern": None,
        "offered_pattern": None,
    }  # fmt: skip
    json.dumps(report.to_dict())


def test_durations_rates_and_channels_are_counted(tiny_corpus, store, sound, write_audio):
    for path in tiny_corpus.rglob("*.wav"):
        path.unlink()
    for n, seconds in enumerate([2.505125, 0.501125, 1.003125, 1.507125]):
        write_audio(tiny_corpus / "Sad" / f"{n}.wav", sound.noise(seconds, rate=8000, seed=n), rate=8000)
    write_audio(tiny_corpus / "Sad" / "stereo.wav", np.stack([sound.noise(0.8, seed=8)] * 2, axis=1))
    found = check(load_dataset(tiny_corpus), store, group=False, trainable=False).to_dict()
    assert found["seconds"] == {"total": 6.32, "min": 0.5, "median": 1.0, "max": 2.51}
    assert found["sample_rates"] == {"8000": 4, "16000": 1}
    assert found["channels"] == {"1": 4, "2": 1}


def test_files_that_cannot_be_used_are_left_out_with_the_reason(tiny_corpus, store, sound, write_audio):
    (tiny_corpus / "Sad" / "empty.wav").touch()
    (tiny_corpus / "Sad" / "cover.jpg").touch()
    (tiny_corpus / "Happy" / "text.mp3").write_text("not sound")
    write_audio(tiny_corpus / "Happy" / "silent.wav", sound.silence())
    report = check(load_dataset(tiny_corpus), store, group=False)
    assert dict(report.left_out) == {
        "Sad/cover.jpg": "not audio (.jpg)",
        "Sad/empty.wav": "empty file, 0 bytes",
        "Happy/text.mp3": f"text, not audio; use {AUDIO_NAMES}",
        "Happy/silent.wav": "silent, nothing above -80 dBFS; check the recording",
    }
    assert len(report.dataset.clips) == len(report.facts) == 6
    assert report.to_dict()["left_out"][0] == {"file": "Sad/cover.jpg", "reason": "not audio (.jpg)"}


def test_clips_that_are_cut_are_used_and_named_with_a_remark(tiny_corpus, store, sound, write_audio, capsys):
    path = write_audio(tiny_corpus / "Sad" / "cut.wav", sound.noise(2.0))
    path.write_bytes(path.read_bytes()[:40_000])
    report = check(load_dataset(tiny_corpus), store).to_dict()
    remark = "It is cut: 1.2 of its 2.0 s can be read."
    assert report["remarked"] == [{"file": "Sad/cut.wav", "remarks": [remark]}]
    assert report["clips"] == 7
    main(["data", "check", str(tiny_corpus)])
    assert re.search(rf"used, with a remark \(1\) +remark\nSad/cut.wav +{remark}", capsys.readouterr().out)


def test_too_small_classes_are_refused_only_for_training(tiny_corpus, store):
    for n in (1, 2):
        (tiny_corpus / "Sad" / f"{n}.wav").write_text("damaged")
    dataset = load_dataset(tiny_corpus)
    with pytest.raises(DataError, match="class 'Sad' has 1 usable clip; at least 2 are needed"):
        check(dataset, store)
    assert check(dataset, store, trainable=False, group=False).to_dict()["classes"] == {"Happy": 3, "Sad": 1}


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        (True, r"corpus: 0 class with usable clips \(none\); at least 2 are needed"),
        (False, "corpus: no usable clip; the first problem: Happy/0.wav, text, not audio"),
    ],
)
def test_a_corpus_without_a_usable_clip_is_refused(trainable, message, tiny_corpus, store):
    for path in tiny_corpus.rglob("*.wav"):
        path.write_text("damaged")
    with pytest.raises(DataError, match=message):
        check(load_dataset(tiny_corpus), store, trainable=trainable)


# Each audio once


def test_the_same_audio_in_one_class_is_kept_once_whatever_its_format(tiny_corpus, store, write_audio):
    import soundfile

    shutil.copy(tiny_corpus / "Sad" / "1.wav", tiny_corpus / "Sad" / "9 copy.wav")
    samples, rate = soundfile.read(tiny_corpus / "Sad" / "0.wav", dtype="int16")
    write_audio(tiny_corpus / "Sad" / "lossless.flac", samples, rate)
    report = check(load_dataset(tiny_corpus), store, group=False)
    assert report.duplicates == (("Sad/1.wav", "Sad/9 copy.wav"), ("Sad/0.wav", "Sad/lossless.flac"))
    assert len(report.dataset.clips) == len(report.facts) == 6
    assert report.to_dict()["duplicates"][0] == {"kept": "Sad/1.wav", "dropped": "Sad/9 copy.wav"}


def test_the_same_audio_in_two_classes_is_refused_with_both_names(tiny_corpus, store):
    for n in range(3):
        shutil.copy(tiny_corpus / "Sad" / f"{n}.wav", tiny_corpus / "Happy" / f"copy {n}.wav")
    (tiny_corpus / "Joy").mkdir()
    shutil.copy(tiny_corpus / "Sad" / "0.wav", tiny_corpus / "Joy" / "last.wav")
    with pytest.raises(
        DataError,
        match=r"in two classes 4 time\(s\): Happy/copy 0.wav \(Happy\) = Joy/last.wav \(Joy\); .*"
        r"Happy/copy 1.wav \(Happy\) = Sad/1.wav \(Sad\); remove one of each",
    ):
        check(load_dataset(tiny_corpus), store)


# The hash of a data set


def test_the_hash_depends_on_sound_and_labels_and_not_on_names(tiny_corpus, store, sound, write_audio):
    def current():
        return check(load_dataset(tiny_corpus), store, group=False).content_hash()

    before = current()
    (tiny_corpus / "Sad" / "0.wav").rename(tiny_corpus / "Sad" / "zzz.wav")
    assert current() == before
    (tiny_corpus / "Sad").rename(tiny_corpus / "Blue")
    relabelled = current()
    write_audio(tiny_corpus / "Blue" / "new.wav", sound.noise(seed=77))
    assert len({before, relabelled, current()}) == 3


# Songs


def test_songs_of_the_manifest_are_used_without_comparing_sound(tiny_corpus, store, monkeypatch):
    monkeypatch.setattr(check_module, "process_map", lambda *_, **__: pytest.fail("listened"))
    rows = [f"{c}/{n}.wav,{c},{c} song {n // 2}" for c in ("Happy", "Sad") for n in range(3)]
    (tiny_corpus / "manifest.csv").write_text("\n".join(["path,label,song", *rows]))
    report = check(load_dataset(tiny_corpus), store)
    assert report.grouping.source == "by hand"
    assert report.songs() == 4
    assert report.to_dict()["grouping"]["groups"] == 2


def test_excerpts_that_share_audio_become_groups(excerpts, store):
    report = check(load_dataset(excerpts), store, workers=1)
    assert together(report) == PAIRS
    assert report.grouping.source == "by sound"
    assert report.songs() == 5
    assert sorted(link[:2] for link in report.grouping.links) == [tuple(pair) for pair in PAIRS[:4]]
    assert {link[3] for link in report.grouping.links} == {"same audio"}
    assert set(report.grouping.confidence) == {song for name, song in songs(report).items() if "a." in name}
    assert all(0.5 < value <= 1 for value in report.grouping.confidence.values())
    assert report.to_dict()["grouping"]["groups"] == 4
    assert report.grouping.thresholds == {"same audio": 0.4, "sounds alike": 3.0}


def test_the_same_audio_is_compared_once(excerpts, store, monkeypatch):
    first = check(load_dataset(excerpts), store, workers=1)
    monkeypatch.setattr(check_module, "process_map", lambda *_, **__: pytest.fail("listened again"))
    assert check(load_dataset(excerpts), store) == first
    (excerpts / "Sad" / "2a.flac").rename(excerpts / "Sad" / "renamed.flac")
    report = check(load_dataset(excerpts), store)
    assert ["Sad/2b.flac", "Sad/renamed.flac"] in together(report)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 0}'])
def test_damaged_groups_are_computed_again(damage, excerpts, store, own_home):
    first = check(load_dataset(excerpts), store, workers=1)
    (place,) = (own_home / "groups").iterdir()
    kept = place.read_text()
    place.write_text(damage)
    assert check(load_dataset(excerpts), store, workers=1) == first
    assert place.read_text() == kept


@pytest.mark.parametrize(
    "change",
    [
        {"groups": {}},
        {"groups": []},
        {"groups": None},
        {"links": [["gone", "gone", 1.0, "same audio"]]},
        {"links": [[1]]},
        {"confidence": {"99": 1.0}},
        {"confidence": {"x": 1.0}},
        {"thresholds": 5},
    ],
)
def test_groups_changed_by_hand_are_computed_again(change, excerpts, store, own_home):
    first = check(load_dataset(excerpts), store, workers=1)
    (place,) = (own_home / "groups").iterdir()
    kept = place.read_text()
    place.write_text(json.dumps(json.loads(kept) | change))
    assert check(load_dataset(excerpts), store, workers=1) == first
    assert place.read_text() == kept


def test_groups_that_are_known_are_not_written_again(excerpts, store, monkeypatch):
    """A MER_HOME that has become read-only is fine as long as there is nothing new."""
    first = check(load_dataset(excerpts), store, workers=1)
    monkeypatch.setattr(check_module, "write_atomic", lambda *_: pytest.fail("written"))
    assert check(load_dataset(excerpts), store) == first


def test_a_song_given_by_hand_wins_over_groups_and_names_them(excerpts, store):
    by_hand = {"Happy/0a.flac": "Film song", "Sad/2a.flac": "One", "Sad/2b.flac": "Two"}
    dataset = load_dataset(excerpts)
    clips = tuple(replace(clip, song=by_hand.get(clip.id)) for clip in dataset.clips)
    found = songs(check(replace(dataset, clips=clips), store, workers=1))
    assert found["Happy/0a.flac"] == found["Happy/0b.flac"] == "Film song"
    assert (found["Sad/2a.flac"], found["Sad/2b.flac"]) == ("One", "Two")
    assert found["Sad/3a.flac"] == found["Sad/3b.flac"]
    assert found["Sad/3a.flac"].startswith("group ")


def test_groups_and_split_do_not_depend_on_the_order_of_clips_or_the_cache(excerpts, store, own_home):
    """A split goes by the names of songs, so the names of groups must be the same for ever."""
    dataset = load_dataset(excerpts)
    fresh = check(dataset, store, workers=1)
    shutil.rmtree(own_home / "groups")
    backwards = check(replace(dataset, clips=dataset.clips[::-1]), store, workers=1)
    known = check(dataset, store)  # from what was kept of the clips backwards
    for other in (backwards, known):
        assert songs(other) == songs(fresh)
        assert other.grouping.confidence == fresh.grouping.confidence
        assert split_hash(other) == split_hash(fresh)


def test_each_step_reports_its_progress(excerpts, store):
    seen = []
    check(load_dataset(excerpts), store, workers=1, progress=lambda *step: seen.append(step))
    titles = ("decoding", "comparing clips by sound")
    assert seen == [(title, n, 9) for title in titles for n in range(1, 10)]


def test_a_home_that_cannot_be_written_is_a_storage_error(excerpts, store, monkeypatch, tmp_path):
    report = check(load_dataset(excerpts), store, group=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MER_HOME", str(tmp_path / "file"))
    with pytest.raises(
        StorageError, match=r"cannot write .*/file/groups/.*\.json: Not a directory; free some"
    ):
        group_by_sound(report, workers=1)


# Songs that were guessed


@pytest.fixture
def alike(tmp_path, song, write_audio):
    """Four clips a class that share audio one with the next, so that all are one group by sound."""
    root, music = tmp_path / "alike", np.concatenate([song(number) for number in range(3)])
    for number in range(8):
        label = ("Happy", "Party")[number // 4]
        write_audio(
            root / label / f"{'kqxvmpzt'[number]}.flac", music[number * 32_000 : number * 32_000 + 64_000]
        )
    return root


@pytest.mark.parametrize("folds", [0, 2])
def test_guessed_songs_that_make_a_split_impossible_are_given_up(alike, store, folds):
    split = SplitConfig(test=0.25, validation=0, folds=folds)
    report = check(load_dataset(alike), store, split=split, workers=1)
    assert report.grouping.source == "none"
    assert {clip.song for clip in report.dataset.clips} == {None}
    assert split_clips(report.dataset.clips, split).train
    remark = report.to_dict()["grouping"]["remark"]
    assert remark.startswith("The songs guessed from sound made the split impossible (")
    assert "so each clip counts as a song. This can raise scores" in remark
    assert check(load_dataset(alike), store, workers=1).grouping.source == "by sound"


def test_links_by_equal_audio_are_kept_where_those_by_likeness_make_the_split_impossible(
    excerpts, store, monkeypatch, own_home
):
    """All clips are made to sound alike in the stored groups; those that share audio stay together."""
    check(load_dataset(excerpts), store, workers=1)
    (place,) = (own_home / "groups").iterdir()
    found = json.loads(place.read_text())
    first, *rest = found["groups"]
    found["groups"] = dict.fromkeys(found["groups"], 0)
    found["links"] += [[first, other, 4.0, "sounds alike"] for other in rest]
    found["confidence"] = {"0": 0.9}
    place.write_text(json.dumps(found))
    report = check(load_dataset(excerpts), store, split=SplitConfig(test=0.4, validation=0), workers=1)
    assert together(report) == PAIRS
    assert "so only clips that share audio are one song" in report.grouping.remark
    assert report.grouping.thresholds == {"same audio": 0.4}


def test_guessed_songs_that_can_be_split_stay(excerpts, store):
    report = check(load_dataset(excerpts), store, split=SplitConfig(test=0.4, validation=0), workers=1)
    assert (together(report), report.grouping.remark) == (PAIRS, "")
    assert report == check(load_dataset(excerpts), store)


def test_songs_by_file_name_that_a_given_split_divides_are_given_up_but_given_songs_are_not(
    tiny_corpus, store
):
    parts = ("train", "test")
    for label in ("Happy", "Sad"):
        for number, part in ((number, part) for number in range(3) for part in parts):
            source, target = tiny_corpus / label / f"{number}.wav", tiny_corpus / part / label
            target.mkdir(parents=True, exist_ok=True)
            samples, rate = soundfile.read(source)
            name = f"{label}_{number:03}{'ab'[part == 'test']}.wav"
            soundfile.write(target / name, samples[:: -1 if part == "test" else 1], rate)
    for label in ("Happy", "Sad"):
        shutil.rmtree(tiny_corpus / label)
    split = SplitConfig(validation=0)
    report = check(load_dataset(tiny_corpus), store, split=split, workers=1)
    assert report.dataset.naming is None
    assert report.grouping.remark.startswith("The songs guessed from file names made the split impossible")
    given = check(load_dataset(tiny_corpus, song_pattern="{song}{letter}"), store, split=split)
    assert given.grouping.source == "by name"
    with pytest.raises(SplitError, match="which raises scores"):
        split_clips(given.dataset.clips, split)


# One clip in two classes


def test_every_pair_of_one_clip_in_two_classes_is_listed_or_left_out(tiny_corpus, store):
    for n in range(2):
        shutil.copy(tiny_corpus / "Sad" / f"{n}.wav", tiny_corpus / "Happy" / f"copy {n}.wav")
    data = load_dataset(tiny_corpus)
    listed = check(data, store, conflicts="list", group=False)
    assert listed.to_dict()["conflicts"] == [
        {
            "first": f"Happy/copy {n}.wav", "first_class": "Happy",
            "second": f"Sad/{n}.wav", "second_class": "Sad",
        }
        for n in range(2)
    ]  # fmt: skip
    assert len(listed.dataset.clips) == 8
    dropped = check(data, store, conflicts="drop", group=False, trainable=False)
    assert [clip.id for clip in dropped.dataset.clips] == [
        "Happy/0.wav",
        "Happy/1.wav",
        "Happy/2.wav",
        "Sad/2.wav",
    ]
    assert dict(dropped.left_out) == {
        "Happy/copy 0.wav": "the same audio is in the class 'Sad', as Sad/0.wav",
        "Happy/copy 1.wav": "the same audio is in the class 'Sad', as Sad/1.wav",
        "Sad/0.wav": "the same audio is in the class 'Happy', as Happy/copy 0.wav",
        "Sad/1.wav": "the same audio is in the class 'Happy', as Happy/copy 1.wav",
    }
    with pytest.raises(DataError, match=r"in two classes 2 time\(s\).*or leave out all of them with --drop"):
        check(data, store)


# Remarks


def test_a_class_that_is_lost_and_a_test_part_of_one_class_are_said(tiny_corpus, store):
    rows = [
        f"{c}/{n}.wav,{c},{'test' if (c, n) == ('Sad', 2) else 'train'}"
        for c in ("Happy", "Sad")
        for n in range(3)
    ]
    (tiny_corpus / "Joy").mkdir()
    (tiny_corpus / "Joy" / "1.wav").write_text("damaged")
    (tiny_corpus / "manifest.csv").write_text("\n".join(["path,label,split", *rows, "Joy/1.wav,Joy,train"]))
    assert check(load_dataset(tiny_corpus), store, group=False).dataset.remarks == (
        "No clip of the class 'Joy' can be used.",
        "The test part holds only the class 'Sad'; its scores say nothing about telling classes apart.",
    )
