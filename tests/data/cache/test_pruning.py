"""The store says what it takes, and gives up what nobody can use; never more than it was asked for."""

import json
import os
import time

import numpy as np
import pytest

from mer.config.sections import AudioConfig, MelConfig
from mer.data.cache import stamps as stamps_module
from mer.data.cache.arrays import ABOUT, Shelf, write_array
from mer.data.cache.descriptors import settings
from mer.data.cache.pruning import parts, prune, size
from mer.data.cache.store import FeatureStore

AUDIO = AudioConfig(window_seconds=0.5, hop_seconds=0.5)
SMALL, FINE = MelConfig(n_mels=32, image_size=32), MelConfig(n_mels=64, image_size=48)


@pytest.fixture
def clips(tmp_path, sound, write_audio):
    return [write_audio(tmp_path / "clips" / f"{n}.wav", sound.noise(0.6, seed=n)) for n in range(3)]


@pytest.fixture
def store(tmp_path, clips, monkeypatch):
    """Three clips with images of two settings and embeddings of one of them; noted where they are."""
    monkeypatch.setattr(stamps_module, "COARSE", -(10**15))
    made = FeatureStore(tmp_path / "store")
    for mel in (SMALL, FINE):
        facts = made.prepare(clips, audio=AUDIO, mel=mel)
    settings = made.images(AUDIO, SMALL).settings | {"backbone": "vgg16", "sees": "time", "structure": "a"}
    shelf = Shelf.of(made.root / "embeddings", settings)
    shelf.mark_used()
    for fact in facts[:2]:
        write_array(shelf.path(fact.file_hash), made.load(fact, audio=AUDIO, mel=SMALL)[0, 0])
    return made


def files(store):
    return {path for path in store.root.rglob("*") if path.is_file()}


def age(path, days):
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def test_the_report_lists_entries_largest_first(store):
    found = parts(store.root)
    assert [(part.kind, part.entries) for part in found] == [
        ("images", 3), ("images", 3), ("facts", 3), ("embeddings", 2)
    ]  # fmt: skip
    assert [part.title for part in found] == [
        "0.5 s every 0.5 s, 16000 Hz, 64 bands, soxr",
        "0.5 s every 0.5 s, 16000 Hz, 32 bands, soxr",
        "results of decoding",
        "vgg16 (time), 0.5 s every 0.5 s, 16000 Hz, 32 bands, soxr",
    ]
    assert found[0].size == sum(p.stat().st_size for p in found[0].folder.rglob("*.npy"))
    assert abs(found[0].used - time.time()) < 60
    assert not any(part.outdated for part in found)
    assert size(store.root) == sum(path.stat().st_size for path in files(store))


def test_embeddings_whose_settings_another_version_wrote_are_outdated(store):
    settings = store.images(AUDIO, SMALL).settings | {"backbone": "vgg16", "over_time": True}
    Shelf.of(store.root / "embeddings", settings).mark_used()
    assert "of another version" in [part.title for part in parts(store.root)]
    assert [part.outdated for part in parts(store.root)].count(True) == 1


def test_a_missing_store_takes_no_space(tmp_path):
    assert parts(tmp_path / "none") == []
    assert size(tmp_path / "none") == 0
    assert prune(FeatureStore(tmp_path / "none")).files == 0


def test_a_store_in_good_order_loses_nothing(store):
    before = files(store)
    assert prune(store).files == 0
    assert files(store) == before


def leftover(store):
    path = store.images(AUDIO, SMALL).folder / "ab" / ".abcd.npy.0123"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    age(path, 1)
    return {path}


def damaged(store):
    path = next(store.images(AUDIO, FINE).folder.glob("??/*.npy"))
    path.write_bytes(path.read_bytes()[:-1])
    return {path}


def damaged_facts(store):
    path = next(store.root.glob("facts/??/*.json"))
    path.write_text("{")
    return {path}


def other_version(store):
    folder = store.images(AUDIO, SMALL).folder
    about = folder / ABOUT
    about.write_text(json.dumps(json.loads(about.read_text()) | {"version": 1}))
    return {path for path in folder.rglob("*") if path.is_file()}


def never_finished(store):
    folder = store.images(AUDIO, SMALL).folder
    (folder / ABOUT).unlink()
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("spoil", [leftover, damaged, damaged_facts, other_version, never_finished])
@pytest.mark.parametrize("dry_run", [True, False])
def test_entries_that_no_run_can_use_are_removed(spoil, dry_run, store):
    before, useless = files(store), None
    useless = spoil(store)
    sizes = sum(path.stat().st_size for path in useless)
    freed = prune(store, dry_run=dry_run)
    assert (freed.files, freed.size) == (len(useless), sizes)
    assert files(store) == (before | useless if dry_run else before - useless) - (
        {store.images(AUDIO, SMALL).folder / ABOUT} if spoil is never_finished else set()
    )


def test_a_file_that_is_being_written_stays(store):
    path = leftover(store).pop()
    age(path, 0)
    assert prune(store).files == 0
    assert path.exists()


def test_entries_unused_for_long_are_removed_on_request(store):
    old = store.images(AUDIO, FINE)
    age(old.folder / ABOUT, 40)
    assert prune(store).files == 0
    assert prune(store, unused_days=41).files == 0
    assert prune(store, unused_days=30).files == 4
    assert not old.folder.exists()
    assert [part.kind for part in parts(store.root)] == ["images", "facts", "embeddings"]


def test_using_a_shelf_resets_its_age(store, clips):
    age(store.images(AUDIO, FINE).folder / ABOUT, 40)
    store.prepare(clips, audio=AUDIO, mel=FINE)
    assert prune(store, unused_days=30).files == 0


def test_entries_of_missing_clips_are_removed_on_request(store, clips):
    clips[0].rename(clips[0].with_name("moved.wav"))
    clips[1].unlink()
    store.prepare(sorted(clips[0].parent.iterdir()), audio=AUDIO, mel=SMALL)
    assert prune(store).files == 0
    freed = prune(store, gone=True)
    assert freed.files == 4  # facts, images of two settings, embeddings: of the second clip alone
    assert {part.kind: part.entries for part in parts(store.root)}["facts"] == 2


def test_everything_is_removed_on_request(store, clips):
    count = len(files(store))
    assert prune(store, everything=True, dry_run=True).files == count
    assert prune(store, everything=True).files == count
    assert not store.root.exists()
    assert store.prepare(clips, audio=AUDIO, mel=SMALL)[0].reason is None


def test_statistics_of_sound_are_named_and_thrown_away_once_they_are_outdated(store, clips):
    shelf = Shelf.of(store.root / "descriptors", settings(AUDIO))
    older = Shelf.of(store.root / "descriptors", settings(AUDIO.replace(resampler="sinc")))
    old = Shelf.of(store.root / "descriptors", settings(AUDIO) | {"descriptors": 0})
    for kept in (shelf, older, old):
        write_array(kept.path("abc"), np.zeros(3))
        kept.mark_used()
    found = {part.folder: part.title for part in parts(store.root)}
    assert found[shelf.folder] == found[older.folder] == "statistics of each clip's sound, for the SVM"
    assert found[old.folder] == "of another version"
    prune(store)
    assert shelf.path("abc").exists()
    assert older.path("abc").exists()
    assert not old.folder.exists()
