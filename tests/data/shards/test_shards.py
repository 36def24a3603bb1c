"""Sharded sets: what is in them, what a kill leaves, what damage does, and in which order they are read."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.shards import entries
from mer.audio.decode import load
from mer.config.presets import preset
from mer.data.cache.store import FeatureStore
from mer.data.check import check
from mer.data.load import load_dataset
from mer.data.shards import fill as filling
from mer.data.shards import read as shards_reading
from mer.data.shards.layout import INDEX, shard_path
from mer.data.shards.read import BLOCK, ShardSet, ShardWindows, blockwise
from mer.experiments.prepared_shards import PreparedShards
from mer.utils.errors import DataError, SplitError, StorageError
from mer.utils.files import write_atomic
from tests.run_helpers import tiny_config, write_songs
from tests.shard_helpers import CLIPS, as_parquet, make_set, shard_files

ROOT = Path(__file__).parents[3]


@pytest.fixture
def corpus(tmp_path):
    return write_songs(tmp_path / "songs", songs=3)


def everything(found):
    return found.windows(np.arange(len(found.index)))


# --- what is in a set ---------------------------------------------------------------------------------


def test_images_are_those_of_the_store_to_the_last_bit(opened, song_parquet):
    store, config = FeatureStore.default(), tiny_config()
    names = opened.column("name", np.arange(len(opened.index)))
    paths = [song_parquet.parent / name for name in names]
    settings = {"audio": config.audio, "mel": config.mel}
    facts = store.prepare(paths, **settings, workers=1)
    ordinary = np.concatenate([store.load(fact, **settings)[:] for fact in facts])
    windows = everything(opened)
    assert np.array_equal(windows.images(np.arange(len(windows))), ordinary)


def test_waveforms_are_kept_without_loss(corpus, tmp_path):
    config = preset("default", backbone="musicnn_msd+resnet18", window_seconds=1.0, hop_seconds=1.0)
    make_set(as_parquet(corpus), tmp_path / "set", config=config)
    found = ShardSet.open(tmp_path / "set")
    (name,) = found.column("name", [0])
    waveform = load(corpus / name, config.audio)[: config.input_shape[1]]
    assert np.array_equal(everything(found).images(np.array([0]))[0, 0], waveform)


def test_a_set_keeps_the_columns_of_the_manifest(opened, song_parquet):
    rows = pd.read_parquet(song_parquet).set_index("path")
    for clip, name in enumerate(opened.column("name", np.arange(len(opened.index)))):
        assert opened.column("song", [clip]) == [rows.song[name]]
        assert opened.classes[opened.index["label"][clip]] == rows.label[name]
    assert len(rows) == len(opened.index) == opened.summary["clips"]
    assert len(opened.summary["classes"]) == 2
    assert opened.summary["songs"] == rows.song.nunique()


def test_its_hashes_are_those_of_the_ordinary_check(opened, song_parquet):
    dataset = load_dataset(song_parquet.with_suffix(".csv"))
    report = check(dataset, FeatureStore.default(), workers=1)
    assert opened.summary["hash"] == report.content_hash()
    assert opened.summary["sound"] == report.sound_hash()


@given(st.lists(st.integers(0, 23), max_size=40))
def test_any_windows_are_read_in_any_order(song_set, asked):
    windows = everything(song_set)
    whole = windows.images(np.arange(len(windows)))
    assert np.array_equal(windows.images(np.array(asked, int)), whole[asked])


@pytest.fixture(scope="module")
def song_set(sharded):
    return ShardSet.open(sharded)


def test_clips_of_several_windows_keep_them_together(corpus, tmp_path):
    config = tiny_config(window_seconds=0.5, hop_seconds=0.25)
    made = make_set(as_parquet(corpus), tmp_path / "set", config=config, clips=6)
    found = ShardSet.open(tmp_path / "set")
    windows = everything(found)
    assert made.windows == len(windows) == 3 * len(found.index)
    assert made.shards > 1
    store = FeatureStore.default()
    for clip, name in enumerate(found.column("name", np.arange(len(found.index)))):
        settings = {"audio": config.audio, "mel": config.mel}
        (fact,) = store.prepare([corpus / name], **settings, workers=1)
        assert np.array_equal(windows.images(windows.of_clips([clip])), store.load(fact, **settings)[:])


def test_bad_files_are_in_a_table_with_their_reasons(corpus, tmp_path, write_audio):
    (corpus / "empty.wav").write_bytes(b"")
    (corpus / "text.wav").write_text("no sound")
    names = ["empty.wav", "text.wav", "none.wav", "notes.txt"]
    rows = pd.read_csv(corpus / "manifest.csv")
    more = pd.DataFrame({"path": names, "label": "Sad", "song": "x"})
    pd.concat([rows, more]).to_parquet(corpus / "manifest.parquet")
    made = make_set(corpus / "manifest.parquet", tmp_path / "set")
    table = pd.read_parquet(tmp_path / "set" / "left_out.parquet").set_index("file").reason
    assert made.left_out == len(table) == 4
    assert made.clips == len(rows)
    assert table["none.wav"] == "no such file"
    assert table["notes.txt"] == "not audio (.txt)"
    assert table["empty.wav"].startswith("empty")
    assert table["text.wav"].startswith("text, not audio")


def test_a_class_needs_two_usable_clips(corpus, tmp_path):
    rows = pd.read_csv(corpus / "manifest.csv")
    none = pd.DataFrame({"path": ["none.wav"], "label": ["Angry"]})
    pd.concat([none, rows]).to_parquet(corpus / "manifest.parquet")
    assert make_set(corpus / "manifest.parquet", tmp_path / "set").classes == ("Happy", "Sad")
    found = ShardSet.open(tmp_path / "set")
    assert found.index["label"].tolist() == [
        found.classes.index(name.split("/")[0]) for name in found.column("name", np.arange(len(rows)))
    ]
    rows.loc[0, "label"] = "Angry"
    rows.to_parquet(corpus / "manifest.parquet")
    with pytest.raises(DataError, match="class 'Angry' has 1 usable clip; at least 2"):
        make_set(corpus / "manifest.parquet", tmp_path / "other")


def test_the_same_audio_twice_is_kept_once_and_in_two_classes_not_at_all(corpus, tmp_path):
    for name, source in {"copy": "Sad/0a", "again": "Sad/0a", "torn": "Happy/1a"}.items():
        shutil.copy(corpus / f"{source}.wav", corpus / f"{name}.wav")
    rows = pd.read_csv(corpus / "manifest.csv")
    more = pd.DataFrame({"path": ["copy.wav", "again.wav", "torn.wav"], "label": "Sad", "song": "Sad 0"})
    pd.concat([rows, more]).to_parquet(corpus / "manifest.parquet")
    made = make_set(corpus / "manifest.parquet", tmp_path / "set")
    table = pd.read_parquet(tmp_path / "set" / "left_out.parquet").set_index("file").reason.to_dict()
    assert table == {
        "copy.wav": "the same audio as Sad/0a.wav",
        "again.wav": "the same audio as Sad/0a.wav",
        "torn.wav": "the same audio as Happy/1a.wav, of another class",
        "Happy/1a.wav": "the same audio as torn.wav, of another class",
    }
    assert (made.clips, made.duplicates, made.left_out) == (len(rows) - 1, 4, 0)
    assert set(table) == set(table) - set(
        ShardSet.open(tmp_path / "set").column("name", np.arange(made.clips))
    )


def test_a_repeated_line_is_one_clip_and_with_two_labels_an_error(corpus, tmp_path):
    rows = pd.read_csv(corpus / "manifest.csv")
    twice = pd.concat([rows, rows[:3]])
    twice.to_parquet(corpus / "manifest.parquet")
    assert make_set(corpus / "manifest.parquet", tmp_path / "set").clips == len(rows)
    pd.concat([rows, rows[:1].assign(label="Sad")]).to_parquet(corpus / "manifest.parquet")
    with pytest.raises(DataError, match=r"'Happy/0a.wav' has two labels; keep one of the lines"):
        make_set(corpus / "manifest.parquet", tmp_path / "other")


def test_one_class_is_not_enough(corpus, tmp_path):
    with pytest.raises(DataError, match=r"1 class in the manifest \(Sad\); at least 2"):
        make_set(as_parquet(corpus, label="Sad"), tmp_path / "set")


def test_another_manifest_or_other_settings_need_another_folder(corpus, tmp_path):
    manifest = as_parquet(corpus)
    make_set(manifest, tmp_path / "set")
    with pytest.raises(DataError, match=r"other settings \(mel\); choose another --shards"):
        make_set(manifest, tmp_path / "set", config=tiny_config(n_mels=20))
    with pytest.raises(DataError, match=r"other settings \(manifest\); choose another --shards"):
        make_set(as_parquet(corpus, song="one"), tmp_path / "set")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(DataError, match="holds other files"):
        make_set(manifest, tmp_path / "mine")


def test_clips_are_read_from_allowed_urls(corpus, tmp_path):
    import fsspec

    bucket, rows = fsspec.filesystem("memory"), pd.read_csv(corpus / "manifest.csv")
    for name in rows.path:
        bucket.pipe_file(f"/music/{name}", (corpus / name).read_bytes())
    manifest = tmp_path / "far.parquet"
    rows.assign(path="memory://music/" + rows.path).to_parquet(manifest)
    try:
        with pytest.raises(DataError, match="may be read"):
            make_set(manifest, tmp_path / "set")
        far = make_set(manifest, tmp_path / "set", allowed=("memory://music",))
    finally:
        bucket.rm("/", recursive=True)
    near = make_set(as_parquet(corpus), tmp_path / "near")
    assert (far.hash, far.clips, far.left_out) == (near.hash, near.clips, 0)


# --- killed and damaged -------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL."""


def some(count):
    """Makes so many shards, and is killed then."""

    def spread(function, numbers, progress):
        for number in numbers[:count]:
            function(number)
        raise Killed

    return spread


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_stopped_preparation_continues(count, corpus, tmp_path):
    manifest, out = as_parquet(corpus), tmp_path / "set"
    with pytest.raises(Killed):
        make_set(manifest, out, spread=some(count))
    with pytest.raises(DataError, match="is not finished; continue with the same mer prepare"):
        ShardSet.open(out)
    done = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("*")} if count else {}
    assert len(done) == 2 * count
    make_set(manifest, out)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    make_set(manifest, tmp_path / "undisturbed")
    assert shard_files(out) == shard_files(tmp_path / "undisturbed")


def test_a_set_interrupted_at_any_step_is_completed_unchanged(corpus, tmp_path, monkeypatch):
    manifest = as_parquet(corpus)
    make_set(manifest, tmp_path / "undisturbed", clips=6)
    for last in range(0, 40, 2):
        left = [last]

        def replace(path, target, left=left, original=Path.replace):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return original(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            try:
                make_set(manifest, tmp_path / f"{last}", clips=6)
            except Killed:
                finished = False
            else:
                finished = True
        make_set(manifest, tmp_path / f"{last}", clips=6)
        assert shard_files(tmp_path / f"{last}") == shard_files(tmp_path / "undisturbed")
        if finished:
            break
    assert finished
    assert last > 8


@pytest.mark.slow
def test_a_killed_preparation_continues(corpus, tmp_path):
    manifest, out = as_parquet(corpus), tmp_path / "set"
    words = f"""
import os, signal
from mer.data.shards import fill
from tests.shard_helpers import make_set
from pathlib import Path
import mer.data.shards.fill as filling
made, write = [], filling.write_facts
def count(*arguments):
    made.append(1)
    if len(made) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*arguments)
filling.write_facts = count
make_set(Path({str(manifest)!r}), Path({str(out)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", words], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL
    assert len(list((out / "shards").glob("*.parquet"))) == 2
    make_set(manifest, out)
    make_set(manifest, tmp_path / "undisturbed")
    assert shard_files(out) == shard_files(tmp_path / "undisturbed")


def test_only_half_written_files_are_removed_after_a_kill(corpus, tmp_path):
    manifest, out = as_parquet(corpus), tmp_path / "set"
    with pytest.raises(Killed):
        make_set(manifest, out, spread=some(1))
    for name in ("shards/.00001.bin.0a1b2c3d", ".index.npy.0a1b2c3d"):
        (out / name).write_bytes(b"half")
    (out / ".notes.txt.mine").write_text("mine")
    make_set(manifest, out)
    left = {path.name for path in out.rglob(".*")} - {".lock"}
    assert left == {".notes.txt.mine"}


def test_two_processes_do_not_prepare_one_set(corpus, tmp_path):
    def once_more(function, numbers, progress):
        with pytest.raises(DataError, match="another process is preparing"):
            make_set(manifest, out)
        return [function(number) for number in numbers]

    manifest, out = as_parquet(corpus), tmp_path / "set"
    assert make_set(manifest, out, spread=once_more).clips == 12


def test_a_manifest_that_cannot_be_used_leaves_no_folder(corpus, tmp_path):
    with pytest.raises(DataError, match="no column"):
        make_set(as_parquet(corpus), tmp_path / "set", label_column="mood")
    assert not (tmp_path / "set").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".clips.arrow.mine").touch()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(DataError, match="holds other files"):
        make_set(as_parquet(corpus), tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [".clips.arrow.mine", "thesis.txt"]


@pytest.fixture
def copied(sharded, tmp_path):
    return Path(shutil.copytree(sharded, tmp_path / "copy"))


def flip(path, place=-100):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [flip, Path.unlink, lambda path: os.truncate(path, 5000)])
def test_a_damaged_shard_is_noticed_when_it_is_read_and_mended_by_preparing_again(
    harm, copied, sharded, song_parquet
):
    harm(shard_path(copied, 2))
    windows = everything(ShardSet.open(copied))
    with pytest.raises(DataError, match=r"00002.bin is damaged \(.*\); run the same mer prepare again"):
        list(windows.batches(4))
    make_set(song_parquet, copied)
    assert shard_files(copied) == shard_files(sharded)


def test_a_set_under_repair_is_not_trained_on(copied, song_parquet):
    flip(shard_path(copied, 2))
    with pytest.raises(Killed):
        make_set(song_parquet, copied, spread=some(1))
    with pytest.raises(DataError, match="is not finished"):
        ShardSet.open(copied)


@pytest.mark.parametrize("name", ["index.npy", "clips.arrow", "plan.json", "set.json"])
def test_a_damaged_index_is_noticed_before_anything_is_trained(name, copied):
    if name.endswith("json"):
        (copied / name).write_text("{")
    else:
        content = (copied / name).read_bytes()
        flip(copied / name, content.index(b"Sad/") if name == "clips.arrow" else -100)
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        ShardSet.open(copied)


@pytest.mark.parametrize("field", ["row", "label", "windows"])
def test_an_index_that_points_nowhere_is_refused(field, copied):
    from mer.data.cache.arrays import write_array

    index = np.load(copied / "index.npy")
    index[field][3] = -1
    write_array(copied / "index.npy", index)
    with pytest.raises(DataError, match="damaged"):
        ShardSet.open(copied)


def test_a_set_of_another_version_is_refused(copied):
    plan = json.loads((copied / "plan.json").read_text())
    write_atomic(copied / "plan.json", json.dumps(plan | {"features": 1}))
    with pytest.raises(DataError, match="another version of mer"):
        ShardSet.open(copied)


def test_a_plan_from_before_there_was_a_choice_is_of_sound_resampled_by_sinc(copied):
    plan = json.loads((copied / "plan.json").read_text())
    assert ShardSet.open(copied).audio.resampler == plan["audio"].pop("resampler") == "soxr"
    write_atomic(copied / "plan.json", json.dumps(plan))
    older = ShardSet.open(copied).audio
    assert older.resampler == "sinc"
    assert older.to_key() == plan["audio"], "so that it can be gone on with"


def test_a_shard_is_not_written_without_its_folder(tmp_path):
    with pytest.raises(StorageError, match=r"is not to be seen on .*; give a folder that all share"):
        filling.fill(tmp_path / "nowhere", 0)


def test_a_full_disk_leaves_complete_shards_unchanged(corpus, small_disk):
    out = small_disk("16k") / "set"
    with pytest.raises(StorageError, match="free some space"):
        make_set(as_parquet(corpus), out, clips=8)
    assert not list(out.rglob("*.bin")) or (out / "shards" / "00000.parquet").exists()
    assert not (out / "set.json").exists()


# --- the order of an epoch ----------------------------------------------------------------------------

layouts = st.lists(st.integers(1, 9), min_size=1, max_size=14)


@given(layouts, st.integers(0, 99))
def test_an_epoch_has_each_window_once_and_few_shards_at_a_time(sizes, seed):
    shards = np.repeat(np.arange(len(sizes)) * 3, sizes)
    torch.manual_seed(seed)
    order = blockwise(shards).numpy()
    assert sorted(order) == list(range(len(shards)))
    open_at_once, left = set(), dict(zip(*np.unique(shards, return_counts=True), strict=True))
    for window in order:
        open_at_once.add(shards[window])
        assert len(open_at_once) <= BLOCK
        left[shards[window]] -= 1
        if not any(left[shard] for shard in open_at_once):
            open_at_once.clear()
    torch.manual_seed(seed)
    assert np.array_equal(blockwise(shards), order)


def test_epochs_differ_and_blocks_mix_their_shards():
    shards = np.repeat(np.arange(12), 50)
    torch.manual_seed(0)
    one, two = blockwise(shards).numpy(), blockwise(shards).numpy()
    assert not np.array_equal(one, two)
    for order in (one, two):
        for start in range(0, len(order), 200):
            assert len(np.unique(shards[order[start : start + 64]])) == BLOCK


def test_with_few_shards_the_order_is_that_of_any_clips():
    torch.manual_seed(3)
    order = blockwise(np.repeat(np.arange(BLOCK), 5))
    torch.manual_seed(3)
    assert torch.equal(order, torch.randperm(5 * BLOCK))


def test_memory_of_the_windows_grows_by_bytes_a_clip():
    clips = np.zeros(10_000, INDEX)
    clips["windows"], clips["shard"] = 3, np.arange(10_000) // 500
    windows = ShardWindows(Path("nowhere"), clips, classes=5, shape=(224, 224), mark="")
    arrays = [value for value in vars(windows).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) < 100 * len(clips)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_stage_takes_less_than_a_kilobyte_per_clip(tmp_path):
    few, many = (entries(tmp_path, count, images=True) for count in (4000, 40_000))
    for stage in ("plan", "index", "split", "epoch"):
        growth = (many[stage]["peak_mb"] - few[stage]["peak_mb"]) * 2**20 / 36_000
        assert growth < 1000, stage


def test_read_ahead_is_requested_if_most_of_a_shard_is_wanted(opened, monkeypatch):
    told = []
    monkeypatch.setattr(shards_reading.os, "posix_fadvise", lambda *arguments: told.append(arguments))
    list(everything(opened).batches(5))
    assert len(told) == opened.summary["shards"]
    list(opened.windows(np.arange(0, len(opened.index), CLIPS)).batches(5))
    assert len(told) == opened.summary["shards"]


def test_pyarrow_fsspec_and_ray_are_imported_only_once_they_are_asked_for():
    """So a laptop's commands do without; inside functions, and for types, they may be named."""
    for path in sorted((ROOT / "mer").rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"fsspec", "pyarrow", "ray"}, path


# --- splits -------------------------------------------------------------------------------------------


def test_a_given_part_is_used_and_a_song_in_two_parts_is_refused(corpus, tmp_path):
    rows = pd.read_csv(corpus / "manifest.csv")
    parts = np.where(rows.song.str.endswith("0"), "test", "train")
    make_set(as_parquet(corpus, split=parts), tmp_path / "set")
    config = tiny_config(validation=0)
    material = PreparedShards.open(tmp_path / "set", config)
    tested = material.shards.column("name", material.split(config).test)
    assert sorted(tested) == sorted(rows.path[parts == "test"])
    parts[0] = "train" if parts[0] == "test" else "test"
    make_set(as_parquet(corpus, split=parts), tmp_path / "torn")
    with pytest.raises(SplitError, match=r"'Happy/0[ab].wav'.*--no-group-by-song"):
        PreparedShards.open(tmp_path / "torn", config).split(config)
    loose = config.updated(group_by_song=False)
    assert len(PreparedShards.open(tmp_path / "torn", loose).split(loose).test)


def test_songs_stay_together_by_default(opened):
    material = PreparedShards(opened, FeatureStore.default(), tiny_config())
    split = material.split(tiny_config().updated(test=0.4, validation=0))
    songs = [set(material.groups(part)) for part in (split.train, split.test)]
    assert not songs[0] & songs[1]
