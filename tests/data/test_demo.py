"""The demo corpus: the same bytes every time, clean audio, and music that keeps its own rules."""

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from scipy.signal import find_peaks

from mer.data.clips import MER500_CLASSES
from mer.data.demo import (
    GENERATOR,
    band,
    compose,
    corpus,
    draw_song,
    drums,
    example_clip,
    melody,
    voices,
    write_demo,
)
from mer.data.demo.melody import Note
from mer.data.demo.theory import RAGAS, TALAS, tuned
from mer.data.demo.voices import SR
from mer.utils.errors import DataError, StorageError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo") / "set", clips_per_class=3, seed=5, workers=1)


@pytest.fixture
def brief(monkeypatch):
    """A tenth of a second of noise for each clip, for tests that are about files rather than sound."""
    monkeypatch.setattr(corpus, "play", lambda song, rng, seconds: rng.uniform(-0.1, 0.1, SR // 10))


def rows_of(folder):
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def audio_of(folder):
    return {row["path"]: (folder / row["path"]).read_bytes() for row in rows_of(folder)}


def pitch_track(signal, *, low=80, high=1_500, frame=1_024, hop=256):
    """Strongest-partial frequency of each frame in hertz, by a zero-padded FFT."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, frame)[::hop] * np.hanning(frame)
    spectrum = np.abs(np.fft.rfft(frames, 16 * frame))
    hertz = np.fft.rfftfreq(16 * frame, 1 / SR)
    band_ = (hertz >= low) & (hertz <= high)
    return hertz[band_][spectrum[:, band_].argmax(axis=1)]


# Files


def test_the_number_of_workers_does_not_change_a_byte(written, tmp_path):
    again = write_demo(tmp_path / "again", clips_per_class=3, seed=5, workers=2)
    assert audio_of(again) == audio_of(written)
    assert (again / "manifest.csv").read_bytes() == (written / "manifest.csv").read_bytes()


def test_another_seed_gives_other_clips(brief, tmp_path):
    one, two = (write_demo(tmp_path / str(n), clips_per_class=2, seed=n, workers=1) for n in (0, 1))
    assert set(audio_of(one).values()).isdisjoint(audio_of(two).values())


def test_all_clips_differ(written):
    clips = audio_of(written)
    assert len(set(clips.values())) == len(clips) == 15


def test_the_manifest_lists_exactly_the_files_written(written):
    rows = rows_of(written)
    found = {path.relative_to(written).as_posix() for path in written.rglob("*.flac")}
    assert {row["path"] for row in rows} == found
    assert list(rows[0]) == ["path", "label", "song"]
    for row in rows:
        folder, name = row["path"].split("/")
        assert folder == row["label"]
        assert name[:-6] == row["song"]


def test_the_description_says_that_the_data_are_synthetic(written):
    assert json.loads((written / "dataset.json").read_text()) == {
        "name": "demo",
        "synthetic": True,
        "licence": "CC0-1.0 (generated)",
        "seed": 5,
        "clips_per_class": 3,
        "generator": GENERATOR,
    }


def test_songs_have_up_to_four_excerpts_and_belong_to_one_class(brief, tmp_path):
    rows = rows_of(write_demo(tmp_path / "set", clips_per_class=21, workers=1))
    assert Counter(row["label"] for row in rows) == dict.fromkeys(MER500_CLASSES, 21)
    assert set(Counter(row["song"] for row in rows).values()) == {3, 4}
    assert len({(row["song"], row["label"]) for row in rows}) == len({row["song"] for row in rows}) == 30


@pytest.mark.parametrize(("clips", "songs"), [(2, 2), (5, 5), (8, 5), (20, 5), (40, 10)])
def test_a_small_corpus_still_has_several_songs_a_class(clips, songs, brief, tmp_path):
    rows = rows_of(write_demo(tmp_path / "set", clips_per_class=clips, workers=1))
    assert len({row["song"] for row in rows}) == 5 * songs


def test_progress_counts_up_to_all_clips(brief, tmp_path):
    seen = []
    write_demo(tmp_path / "set", clips_per_class=2, workers=1, progress=lambda *step: seen.append(step))
    assert seen == [(n, 10) for n in range(1, 11)]


# Refusals


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clips_per_class": 1}, "clips_per_class is 1: give a whole number, 2 or more"),
        ({"clips_per_class": 4.0}, "clips_per_class is 4.0: give a whole"),
        ({"clips_per_class": True}, "clips_per_class is True: give a whole"),
        ({"seed": -1}, "seed is -1: give a whole number, 0 or more"),
        ({"seed": "x"}, "seed is 'x': give a whole"),
        ({"workers": 0}, "workers is 0: give a whole number, 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused_and_nothing_is_written(wrong, message, tmp_path):
    with pytest.raises(DataError, match=message):
        write_demo(tmp_path / "set", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="is not empty: name another folder"):
        write_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_at_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(DataError, match="set is a file: name a folder"):
        write_demo(tmp_path / "set")


def test_an_empty_folder_is_filled(brief, tmp_path):
    (tmp_path / "set").mkdir()
    assert len(audio_of(write_demo(tmp_path / "set", clips_per_class=2, workers=1))) == 10


def test_songs_are_divided_among_the_available_cores(brief, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "processors", lambda: [3])
    monkeypatch.setattr(corpus, "ProcessPoolExecutor", None)  # one core works by itself
    assert len(audio_of(write_demo(tmp_path / "set", clips_per_class=2))) == 10


def test_nothing_is_left_behind_when_a_song_fails(tmp_path, monkeypatch):
    calls = []

    def fail_later(*args):
        calls.append(args)
        if len(calls) > 3:
            raise ArithmeticError("broken string")
        return np.zeros(100)

    monkeypatch.setattr(corpus, "play", fail_later)
    with pytest.raises(ArithmeticError, match="broken string"):
        write_demo(tmp_path / "set", clips_per_class=2, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_when_a_worker_process_fails(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "set", clips_per_class=2, workers=2, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_demo(tmp_path / "file" / "set", workers=1)


# Sound


def test_clips_are_ten_seconds_of_16_khz_mono_16_bit(written):
    for row in rows_of(written):
        info = soundfile.info(str(written / row["path"]))
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", 160_000)


def test_clips_are_neither_silent_nor_clipped_nor_offset(written):
    for row in rows_of(written):
        clip, _ = soundfile.read(written / row["path"])
        rms = np.sqrt(np.mean(clip**2))
        assert 0.03 < rms < 0.3, row
        assert np.abs(clip).max() <= 0.95, row
        assert abs(clip.mean()) < 1e-3, row


@pytest.mark.parametrize("label", MER500_CLASSES)
def test_compose_gives_one_clip_of_the_length_asked_for(label):
    clip = compose(label, np.random.default_rng(3), 2.5)
    assert clip.shape == (40_000,)
    assert clip.dtype == np.float32
    assert np.isfinite(clip).all()


def test_excerpts_of_a_song_share_its_sound_and_differ_in_notes():
    song = draw_song("Happy", np.random.default_rng(0))
    one, two = (melody.phrases(song, 10, np.random.default_rng(n)) for n in (1, 2))
    assert [n.pitch for n in one[0]] != [n.pitch for n in two[0]]
    assert song == draw_song("Happy", np.random.default_rng(0))


@pytest.mark.parametrize("name", sorted(voices.VOICES))
def test_note_borders_do_not_click(name):
    """The largest step between samples is no larger at the borders than within the notes."""
    song = replace(draw_song("Sad", np.random.default_rng(0)), sa=150.0)
    notes = [Note(i * 0.3, 0.3, float(p), float(p)) for i, p in enumerate((0, 7, 4, 12, 5, 0))]
    sound = band.perform(name, song, notes, 2 * SR, np.random.default_rng(1))
    steps = np.abs(np.diff(sound, prepend=0, append=0))
    near = np.zeros(len(steps), bool)
    for i in range(7):
        near[max(0, round(0.3 * i * SR) - 80) : round(0.3 * i * SR) + 80] = True
    assert steps[near].max() <= 1.1 * steps[~near].max()


@pytest.mark.parametrize("pluck", [voices.sitar, voices.santoor])
@pytest.mark.parametrize("hertz", [150.0, 311.0, 620.0])
def test_plucked_strings_decay_and_are_in_tune_within_ten_cents(pluck, hertz):
    note = pluck(np.full(SR, hertz), np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(note * np.hanning(SR), 16 * SR))
    around = np.flatnonzero(np.abs(np.fft.rfftfreq(16 * SR, 1 / SR) / hertz - 1) < 0.05)
    found = around[spectrum[around].argmax()] / 16
    assert abs(1_200 * np.log2(found / hertz)) < 10
    assert np.sum(note[: SR // 4] ** 2) > 5 * np.sum(note[-SR // 4 :] ** 2)


def test_tanpura_partials_are_harmonic_and_its_brightness_sinks():
    string = voices.tanpura(140.0, 4 * SR, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(string[: 2 * SR] * np.hanning(2 * SR)))
    peaks, _ = find_peaks(spectrum, height=spectrum.max() / 300, distance=40)
    ratios = peaks / 2 / 140.0
    assert len(ratios) >= 15
    assert np.abs(ratios - np.round(ratios)).max() < 0.02
    hertz = np.fft.rfftfreq(SR // 2, 1 / SR)
    early, late = (np.abs(np.fft.rfft(string[at : at + SR // 2])) ** 2 for at in (SR // 4, 3 * SR))
    assert np.sum(hertz * early) / np.sum(early) > 1.5 * np.sum(hertz * late) / np.sum(late)


def test_nothing_aliases_above_the_top_of_a_high_line():
    high = np.full(SR, 1_100.0)
    sound = voices.harmonium(high, np.ones(SR, np.float32), np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(SR)))
    near = np.abs(np.arange(len(spectrum)) / 1_100 - np.round(np.arange(len(spectrum)) / 1_100)) < 0.05
    assert spectrum[~near].max() < 1e-3 * spectrum.max()


# Music


def test_meend_is_one_continuous_glide():
    curve = melody.bend(Note(0, 1.0, 7.0, 0.0, meend=0.4), SR)
    assert (curve[0], curve[-1]) == (pytest.approx(0), pytest.approx(7))
    assert (np.diff(curve) >= 0).all()
    assert np.diff(curve).max() < 0.003


def test_a_glide_is_heard_between_its_notes():
    notes = [Note(0, 0.5, 0.0, 0.0), Note(0.5, 1.0, 12.0, 0.0, meend=0.4)]
    pitch, level = melody.line(notes, round(1.5 * SR), vibrato=0.0)
    sound = voices.bansuri(300 * 2 ** (pitch / 12), level, np.random.default_rng(0))
    track = pitch_track(sound[SR // 10 : -SR // 5], low=250, high=650)
    assert track[0] == pytest.approx(300, rel=0.01)
    assert track[-1] == pytest.approx(600, rel=0.01)
    assert 1_200 * np.abs(np.diff(np.log2(track))).max() < 90


def test_a_kan_touches_the_neighbour_first():
    curve = melody.bend(Note(0, 0.5, 4.0, 4.0, kan=1.5), SR // 2)
    assert curve[0] == pytest.approx(5.5)
    assert curve[round(0.1 * SR) :] == pytest.approx(4.0)


@pytest.mark.parametrize("label", MER500_CLASSES)
def test_melodies_stay_in_their_raga_and_come_home(label):
    rng = np.random.default_rng(7)
    song = draw_song(label, rng)
    phrases = melody.phrases(song, 120, rng)
    allowed = tuned(melody.scale_notes(song.raga))
    notes = [note for phrase in phrases for note in phrase]
    assert all(np.isclose(allowed, note.pitch).any() for note in notes)
    home = tuned(np.array([0, 7, song.raga.vadi]))
    ends = [np.isclose(home, phrase[-1].pitch % 12, atol=1e-6).any() for phrase in phrases]
    assert all(ends)
    assert all(a.start + a.seconds <= b.start + 1e-9 for a, b in pairwise(notes))


def test_whole_degrees_are_tuned_to_pure_intervals():
    assert 2 ** (tuned(np.array([0, 4, 7, 12, -5])) / 12) == pytest.approx([1, 5 / 4, 3 / 2, 2, 3 / 4])


@pytest.mark.parametrize("raga", RAGAS.values(), ids=RAGAS)
def test_ragas_start_on_sa_ascend_and_contain_their_vadi(raga):
    assert raga.notes[0] == 0
    assert list(raga.notes) == sorted(set(raga.notes))
    assert raga.vadi in raga.notes


@pytest.mark.parametrize(("tala", "beats"), [("teental", 16), ("dadra", 6), ("rupak", 7), ("keherwa", 4)])
def test_talas_have_their_number_of_beats(tala, beats):
    assert len(TALAS[tala]) == beats


def test_every_bol_of_every_tala_can_be_played():
    bols = {bol for tala in TALAS.values() for beat in tala for bol in beat.split()}
    assert {name for bol in bols for name in drums.strokes_of(bol)} <= set(drums.STROKES)


def test_strokes_fall_on_the_grid_of_the_tala():
    song = replace(draw_song("Happy", np.random.default_rng(1)), bpm=120.0, tala=TALAS["dadra"])
    track = band.drum_track(song, 6.0, 6 * SR, np.random.default_rng(2))
    energy = np.sqrt(np.convolve(track**2, np.ones(80) / 80, "valid")[::80])
    rise = np.maximum(np.diff(energy), 0)
    onsets, _ = find_peaks(rise, height=0.25 * rise.max(), distance=20)
    beats = (onsets * 80 / SR) / 0.5
    assert len(onsets) >= 10
    assert np.abs(beats - np.round(beats)).max() * 0.5 < 0.02


def test_the_bayan_bends_and_dha_is_na_with_ge():
    ge = drums.stroke("ge", 300.0, np.random.default_rng(0))
    track = pitch_track(ge, low=50, high=200, frame=2_048)
    assert track[len(track) // 2] > 1.05 * track[0]
    assert drums.strokes_of("dha") == ("na", "ge")
    assert drums.strokes_of("-") == ()


def test_tabla_partials_are_near_harmonic():
    tin = drums.stroke("tin", 300.0, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(tin * np.hanning(len(tin)), SR))
    peaks, _ = find_peaks(spectrum, height=spectrum.max() / 50, distance=100)
    assert peaks[:3] / 300 == pytest.approx([1, 2, 3], rel=0.02)


def test_the_drone_sounds_through_the_rests():
    song = draw_song("Devotional", np.random.default_rng(0))
    drone = band.drone(song, 10 * SR, np.random.default_rng(1))
    loudness = np.sqrt(np.mean(drone.reshape(-1, SR // 2) ** 2, axis=1))
    assert loudness.min() > 0.3 * loudness.max()


def test_a_stroke_sounds_the_same_wherever_the_cycle_starts():
    one = drums.lay([(0, "ke", 1.0), (0.5, "na", 1.0)], sa=300.0, samples=SR, seed=4)
    two = drums.lay([(0, "na", 1.0), (0.5, "ke", 1.0)], sa=300.0, samples=SR, seed=4)
    np.testing.assert_array_equal(one[: SR // 2], two[SR // 2 :])


def test_an_example_is_ten_seconds_and_the_same_each_time():
    content = example_clip("Sad")
    assert content == example_clip("Sad")
    assert content != example_clip("Sad", number=1)
    wave, rate = soundfile.read(io.BytesIO(content))
    assert (len(wave), rate, wave.ndim) == (160_000, 16_000, 1)
    assert 0.05 < np.abs(wave).max() < 1


def test_no_example_is_in_a_corpus(written):
    known = {file.name: soundfile.read(file)[0].tobytes() for file in written.rglob("*.flac")}
    for label in MER500_CLASSES:
        assert soundfile.read(io.BytesIO(example_clip(label)))[0].tobytes() not in known.values()


def test_an_example_of_an_unknown_emotion_is_refused():
    with pytest.raises(DataError, match="no example for 'Bored'; there are: Romantic"):
        example_clip("Bored")
