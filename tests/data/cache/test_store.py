"""The feature store: decodes each content once, whatever it is called, and survives damage."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mer.audio.decode import load
from mer.audio.formats import AUDIO_NAMES
from mer.audio.mel import images
from mer.audio.windows import window_starts
from mer.config.sections import AudioConfig, Config, MelConfig
from mer.data.cache import stamps as stamps_module
from mer.data.cache import store as store_module
from mer.data.cache.arrays import Shelf
from mer.data.cache.controls import entry
from mer.data.cache.store import VERSION, Facts, FeatureStore, hash_file
from mer.utils import machine
from mer.utils.errors import StorageError
from mer.utils.parallel import SMALL, process_map, share_cores
from tests.strategies import configs

DEFAULT = Config()
OTHER = {  # another value of each setting that sound and images depend on
    "sample_rate": 16_001,
    "window_seconds": 10.000001,
    "hop_seconds": 4.999999,
    "pad": "repeat",
    "only_first": True,
    "resampler": "sinc",
    "n_fft": 1025,
    "hop_length": 257,
    "n_mels": 129,
    "f_min": 20.000001,
    "f_max": 7999.999999,
    "scale": "htk",
    "reference": "absolute",
    "top_db": 80.000001,
    "image_size": 225,
    "compression": "log",
    "padding": "zero",
    "shape": "spectrogram",
}
# The settings of an image when there were no others.
FIRST_MEL = {
    "n_fft": 1024,
    "hop_length": 256,
    "n_mels": 128,
    "f_min": 20.0,
    "f_max": 8000.0,
    "scale": "slaney",
    "reference": "max",
    "top_db": 80.0,
    "image_size": 224,
}
SETTINGS = {
    "audio": AudioConfig(window_seconds=0.5, hop_seconds=0.5),
    "mel": MelConfig(n_mels=32, image_size=32),
}


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


@pytest.fixture
def clips(tmp_path, sound, write_audio):
    """Three clips of different content, of 0.6, 1.1 and 1.6 s."""
    made = [sound.chirp(seconds=0.6), sound.noise(1.1), sound.tone(seconds=1.6)]
    return [write_audio(tmp_path / "clips" / f"{n}.wav", wave) for n, wave in enumerate(made)]


@pytest.fixture
def work(monkeypatch):
    """Counts how often clips are decoded and images made."""
    counted = Counter()

    def count(name):
        original = getattr(store_module, name)

        def counting(*args, **kwargs):
            counted[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(store_module, name, counting)

    count("decode")
    count("images")
    return counted


@pytest.fixture
def stamped_at_once(monkeypatch):
    """Files are noted as read however new they are."""
    monkeypatch.setattr(stamps_module, "COARSE", -(10**15))


# What is kept


def test_facts_equal_the_result_of_decoding(store, sound, write_audio, tmp_path):
    waves = np.stack([sound.noise(0.75, rate=8000)] * 2, axis=1)
    (facts,) = store.facts([write_audio(tmp_path / "clip.flac", waves, rate=8000)])
    assert (facts.seconds, facts.rate, facts.channels, facts.reason) == (0.75, 8000, 2, None)
    assert len(facts.file_hash) == 40
    assert len(facts.content_hash) == 32


def test_stored_images_equal_computed_ones(store, clips):
    for path, facts in zip(clips, store.prepare(clips, **SETTINGS), strict=True):
        kept = store.load(facts, **SETTINGS)
        assert kept.dtype == np.float16
        made = images(load(path, SETTINGS["audio"]), **SETTINGS)
        assert kept.shape == made.shape
        assert np.abs(kept[:] - made).max() <= 0.0625  # the last bit depends on the number of threads


def test_the_default_store_is_in_mer_home(own_home):
    assert FeatureStore.default().root == own_home / "store"


# Keys


def key(config=DEFAULT, control="none", content=b"clip"):
    """Where the images of a file of this content are, or would be."""
    file_hash = sha256(content).hexdigest()[:40]
    shelf = FeatureStore(Path("store")).images(config.audio, config.mel)
    return shelf.path(entry(control, file_hash))


@pytest.mark.parametrize(("name", "value"), OTHER.items())
@pytest.mark.promise(
    "The store has one key per combination of sound and settings.", measured="each of 17 settings"
)
def test_any_other_setting_of_sound_or_image_is_another_key(name, value):
    assert key(DEFAULT.updated(**{name: value})) != key()


def test_every_setting_of_sound_and_image_was_tried():
    assert {field.name for kind in (AudioConfig, MelConfig) for field in fields(kind)} == OTHER.keys()


@given(configs(), configs(), st.binary(), st.binary())
@pytest.mark.promise("The store has one key per combination of sound and settings.")
def test_keys_are_equal_only_if_settings_and_content_are(one, other, first, second):
    same = (one.audio, one.mel, first) == (other.audio, other.mel, second)
    assert (key(one, content=first) == key(other, content=second)) == same
    assert key(one, content=first) == key(Config(audio=one.audio, mel=one.mel), content=first)


@given(st.binary())
def test_a_key_is_a_plain_path_below_the_store(content):
    for control in ("none", "silence", "noise"):
        path = key(DEFAULT, control, content)
        assert re.fullmatch(
            r"store/images/[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{40}(-[a-z]+)?\.npy", path.as_posix()
        )


def test_silence_and_noise_have_keys_of_their_own_and_shuffled_labels_have_not():
    assert len({key(control=control) for control in ("none", "silence", "noise")}) == 3
    assert key(control="labels") == key()


def test_a_thousand_settings_have_a_thousand_keys():
    made = {key(DEFAULT.updated(top_db=20 + step / 10)) for step in range(1000)}
    assert len(made) == 1000


def test_a_key_is_the_same_in_another_process_and_with_other_hashes_of_strings():
    """Were it to change without need, every clip would be prepared again."""
    code = (
        "from pathlib import Path; from mer.data.cache.arrays import Shelf; from mer.config import Config; "
        "c = Config(); "
        f"settings = {{'mel': c.mel.to_key(), 'audio': c.audio.to_key(), 'version': {VERSION}}}; "
        "print(Shelf.of(Path(), settings).folder)"
    )
    other = os.environ | {"PYTHONHASHSEED": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=other, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == key().parts[2]


def test_a_shelf_is_named_as_it_always_was():
    """Of settings written out here: a float is written as Python writes it on any system."""
    settings = {"version": 2, "audio": {"hop_seconds": 0.1, "pad": "zero"}, "mel": {"f_min": 1e-7}}
    assert Shelf.of(Path("images"), settings).folder.name == "dee51df1edea078f"


@pytest.mark.promise("Older runs get the same samples and features as before.")
def test_the_images_of_older_runs_are_where_they_were():
    """Of settings written out here, as they were before resampler and compression could be chosen."""
    audio = {"sample_rate": 16000, "window_seconds": 10.0, "hop_seconds": 5.0, "pad": "zero"}
    settings = {"version": 2, "audio": audio | {"only_first": False}, "mel": FIRST_MEL}
    older = DEFAULT.updated(resampler="sinc")
    assert key(older).is_relative_to(Shelf.of(Path("store/images"), settings).folder)
    assert key(older) != key(DEFAULT)
    assert AudioConfig.from_key(older.audio.to_key()) == older.audio
    assert AudioConfig.from_key(DEFAULT.audio.to_key()) == DEFAULT.audio
    assert MelConfig.from_key(FIRST_MEL) == DEFAULT.mel


# Once only


def test_a_second_call_decodes_nothing(store, clips, work):
    first = store.prepare(clips, **SETTINGS)
    assert work == {"decode": 3, "images": 3}
    assert store.prepare(clips, **SETTINGS) == first
    assert store.facts(clips) == first
    assert work == {"decode": 3, "images": 3}


def test_a_renamed_file_is_found_again(store, clips, work):
    before = store.prepare(clips, **SETTINGS)
    moved = clips[0].rename(clips[0].with_name("another name.wav"))
    assert store.prepare([moved], **SETTINGS) == before[:1]
    assert work["decode"] == 3


def test_a_file_with_new_content_under_an_old_name_is_decoded(store, clips, work):
    before = store.prepare(clips[:1], **SETTINGS)
    shutil.copyfile(clips[1], clips[0])
    after = store.prepare(clips[:1], **SETTINGS)
    assert after[0].seconds == 1.1
    assert after[0].file_hash != before[0].file_hash
    assert work["decode"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"audio": AudioConfig(window_seconds=0.6, hop_seconds=0.5)},
        {"mel": MelConfig(n_mels=32, image_size=32, n_fft=2048)},
    ],
)
def test_another_setting_makes_other_images_and_keeps_the_first(change, store, clips, work):
    facts = store.prepare(clips, **SETTINGS)
    first = [store.load(f, **SETTINGS)[:] for f in facts]
    assert store.prepare(clips, **SETTINGS | change) == facts
    assert work["images"] == 6
    for fact, kept in zip(facts, first, strict=True):
        assert np.array_equal(store.load(fact, **SETTINGS)[:], kept)
        assert not np.array_equal(store.load(fact, **SETTINGS | change)[:], kept)
    assert store.facts(clips) == facts
    assert work["decode"] == 6


def test_facts_alone_make_no_images(store, clips, work):
    facts = store.facts(clips)
    assert work == {"decode": 3}
    with pytest.raises(FileNotFoundError):
        store.load(facts[0], **SETTINGS)
    assert store.prepare(clips, **SETTINGS) == facts
    assert work["images"] == 3


def test_a_new_version_computes_everything_again(store, clips, work, monkeypatch):
    store.prepare(clips, **SETTINGS)
    monkeypatch.setattr(store_module, "VERSION", store_module.VERSION + 1)
    store.prepare(clips, **SETTINGS)
    assert work == {"decode": 6, "images": 6}


def as_before(store):
    """Turn the facts of a store into those of an earlier version."""
    for path in (store.root / "facts").rglob("*.json"):
        kept = json.loads(path.read_text())
        del kept["facts"]["remarks"]
        path.write_text(json.dumps({"version": 2, "facts": kept["facts"]}))


def test_facts_of_an_earlier_version_are_found_anew_and_images_are_kept(store, clips, work):
    before = store.prepare(clips, **SETTINGS)
    as_before(store)
    assert store.prepare(clips, **SETTINGS) == before
    assert work == {"decode": 6, "images": 3}


def test_images_that_an_earlier_version_made_of_silent_windows_are_made_anew(
    store, sound, write_audio, tmp_path, monkeypatch
):
    wave = np.concatenate([sound.noise(1.0), sound.silence(1.0), sound.noise(1.0)])
    path = write_audio(tmp_path / "clip.wav", wave)
    with monkeypatch.context() as patch:
        patch.setattr("mer.audio.windows.sounding_starts", lambda w, c: window_starts(len(w), c))
        (before,) = store.prepare([path], **SETTINGS)
        assert len(store.load(before, **SETTINGS)) == 6
    as_before(store)
    (after,) = store.prepare([path], **SETTINGS)
    assert len(store.load(after, **SETTINGS)) == 4
    assert after.file_hash == before.file_hash


def test_what_was_heard_otherwise_before_has_a_key_of_its_own(store, sound, write_audio, tmp_path, work):
    wave = sound.noise(1.0)
    opposite = write_audio(tmp_path / "a.wav", np.stack([wave, -wave], axis=1))
    plain = write_audio(tmp_path / "b.wav", np.stack([wave, wave], axis=1))
    one, other = store.prepare([opposite, plain], **SETTINGS)
    assert one.file_hash == hash_file(opposite.read_bytes(), fresh=True) != hash_file(opposite.read_bytes())
    assert other.file_hash == hash_file(plain.read_bytes())
    assert one.remarks[0].startswith("Its channels are in opposite phase")
    assert other.remarks == ()
    assert store.prepare([opposite, plain], **SETTINGS) == [one, other]
    assert work == {"decode": 2, "images": 2}
    assert len(store.load(one, **SETTINGS)) == 2


def test_an_unchanged_file_is_not_even_read(store, clips, stamped_at_once, monkeypatch):
    before = store.prepare(clips, **SETTINGS)

    def refuse(content, **_):
        raise AssertionError("a file was read")

    monkeypatch.setattr(store_module, "hash_file", refuse)
    assert store.prepare(clips, **SETTINGS) == before


# Damage


def flip(content):
    """The same with one bit in the middle changed: as long as before."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "emptied": lambda content: b"",
    "header": lambda content: b"\x93NUMPY",
    "junk": lambda content: b"junk" * 100,
    "half": lambda content: content[: len(content) // 2],
    "one bit": flip,
    "zeros": lambda content: bytes(len(content)),  # as after a power cut
}


@pytest.mark.parametrize("damage", [*DAMAGES, "gone"])
def test_damaged_images_are_computed_again(damage, store, clips, work):
    (facts,) = store.prepare(clips[:1], **SETTINGS)
    (path,) = store.root.glob("images/**/*.npy")
    whole = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(DAMAGES[damage](whole))
    assert store.prepare(clips[:1], **SETTINGS) == [facts]
    assert path.read_bytes() == whole
    assert work["images"] == 2


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff\xfe", b"[]", b"7", b'{"version": 1}', b'{"version": 1, "facts": {"x": 1}}']
)
def test_damaged_facts_are_computed_again(damage, store, clips, work):
    (facts,) = store.facts(clips[:1])
    (path,) = store.root.glob("facts/**/*.json")
    path.write_bytes(damage)
    assert store.facts(clips[:1]) == [facts]
    assert json.loads(path.read_text())["facts"]["seconds"] == 0.6
    assert work["decode"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": "0.6"},
        {"seconds": -1.0},
        {"rate": 16000.5},
        {"channels": None},
        {"content_hash": ""},
        {"content_hash": 7},
        {"reason": ["<b>"]},
        {"file_hash": "0" * 40},
    ],
)
def test_facts_changed_by_hand_are_computed_again(change, store, clips, work):
    (facts,) = store.facts(clips[:1])
    (path,) = store.root.glob("facts/**/*.json")
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"facts": data["facts"] | change}))
    assert store.facts(clips[:1]) == [facts]
    assert work["decode"] == 2


# Bad files


def test_one_bad_file_does_not_stop_the_rest(store, clips, tmp_path, sound, write_audio):
    bad = {
        "text.wav": f"text, not audio; use {AUDIO_NAMES}",
        "empty.wav": "empty file, 0 bytes",
        "gone.wav": "unreadable: No such file or directory",
        "folder.wav": "unreadable: Is a directory",
        "short.wav": "0.30 s, shorter than 0.5 s; use a longer excerpt",
        "silent.wav": "silent, nothing above -80 dBFS; check the recording",
    }
    (tmp_path / "text.wav").write_text("not sound")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    write_audio(tmp_path / "short.wav", sound.tone(seconds=0.3))
    write_audio(tmp_path / "silent.wav", sound.silence())
    paths = [clips[0], *(tmp_path / name for name in bad), clips[1]]
    for facts in (store.facts(paths), store.prepare(paths, **SETTINGS), store.prepare(paths, **SETTINGS)):
        assert [f.reason for f in facts] == [None, *bad.values(), None]
        assert (facts[0].seconds, facts[-1].seconds) == (0.6, 1.1)


def test_a_bad_file_is_decoded_once(store, tmp_path, work):
    (tmp_path / "text.wav").write_text("not sound")
    for _ in range(2):
        store.prepare([tmp_path / "text.wav"], **SETTINGS)
    assert work == {"decode": 1}


def test_an_unreadable_file_is_reported(forbidden, store):
    (facts,) = store.facts([forbidden / "clip.wav"])
    assert facts == Facts(file_hash="", reason="unreadable: Permission denied")


def test_no_files_give_no_facts(store):
    assert store.prepare([], **SETTINGS) == []


# Places that cannot be written


def test_a_store_below_a_file_is_a_storage_error(clips):
    with pytest.raises(
        StorageError, match=r"cannot write .*0\.wav/.*: Not a directory; free some space or choose"
    ):
        FeatureStore(clips[0]).prepare(clips[1:], **SETTINGS)


def test_a_store_on_a_full_disk_is_a_storage_error(full_disk, clips):
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device; free some space"):
        FeatureStore(full_disk / "store").prepare(clips, **SETTINGS)
    left = {p.name for p in full_disk.rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert left == {"ballast"}


# Worker processes


def test_one_worker_uses_one_thread():
    """Torch splits its sums by thread; what is kept for good may not depend on that."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert process_map(lambda _: torch.get_num_threads(), [1, 2]) == [1, 1]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_run_among_others_computes_with_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(4), raising=False)
    before = torch.get_num_threads()
    try:
        for slots, threads in (("1", 4), ("2", 2), ("9", 1)):
            monkeypatch.setenv("MER_SLOTS", slots)
            torch.set_num_threads(6)
            share_cores()
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_two_workers_give_the_results_of_one_in_the_same_order(tmp_path, sound, write_audio):
    paths = [write_audio(tmp_path / f"{n}.wav", sound.noise(0.5, seed=n)) for n in range(SMALL + 2)]
    paths[3].write_text("not sound")
    one, two = (FeatureStore(tmp_path / name) for name in ("one", "two"))
    seen = []
    expected = one.prepare(paths, **SETTINGS, workers=1)
    found = two.prepare(paths, **SETTINGS, workers=2, progress=lambda *step: seen.append(step))
    assert found == expected
    assert seen == [(n, len(paths)) for n in range(1, len(paths) + 1)]
    kept = [{p.relative_to(s.root): p.read_bytes() for p in s.root.rglob("*.npy")} for s in (one, two)]
    assert kept[0] == kept[1]
    assert len(kept[0]) == len(paths) - 1


def test_progress_counts_only_missing_entries(store, clips, stamped_at_once):
    seen = []
    store.prepare(clips[:2], **SETTINGS)
    store.prepare(clips, **SETTINGS, progress=lambda *step: seen.append(step))
    assert seen == [(1, 1)]


def refuse(item):
    raise ValueError(f"item {item} is bad")


def test_an_error_in_a_worker_is_raised_in_the_caller():
    with pytest.raises(ValueError, match="item 4 is bad"):
        process_map(refuse, [4], workers=1)


def test_a_few_items_need_no_processes(monkeypatch):
    monkeypatch.setattr("mer.utils.parallel.ProcessPoolExecutor", None)
    assert process_map(lambda n: n * n, range(SMALL), workers=8) == [n * n for n in range(SMALL)]
    assert process_map(str, range(100), workers=1) == [str(n) for n in range(100)]
    assert process_map(str, []) == []
