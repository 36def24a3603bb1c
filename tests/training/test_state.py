"""The state of an unfinished run: what is written comes back to the bit, whatever happens to the file."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from mer.runs.run import drop_state, state_path
from mer.training.loop import State
from mer.training.state import load_state, save_state
from mer.utils.errors import RunError, StorageError
from tests.tiny_backbone import tiny_config, tiny_fit, tiny_model, tiny_zoo, tones_or_beats


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def state():
    config = tiny_config(epochs=2, keep="best")
    state = tiny_fit(config, validation=tones_or_beats(4, seed=1))[1]
    state.best, state.best_epoch = {name: tensor + 1 for name, tensor in state.model.items()}, 1
    return state


def assert_same_tensors(left, right):
    assert left.keys() == right.keys()
    assert all(
        torch.equal(left[name], right[name]) and left[name].dtype == right[name].dtype for name in left
    )


def metadata_of(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


def test_a_state_comes_back_to_the_last_bit(state, tmp_path):
    save_state(tmp_path / "state", state)
    back = load_state(tmp_path / "state")
    assert (back.epoch, back.best_epoch, back.history) == (state.epoch, state.best_epoch, state.history)
    assert_same_tensors(back.model, state.model)
    assert_same_tensors(back.best, state.best)
    assert back.optimizer["state"].keys() == state.optimizer["state"].keys() != set()
    for index, entries in state.optimizer["state"].items():
        assert_same_tensors(back.optimizer["state"][index], entries)
    as_json = json.loads(json.dumps(state.optimizer["param_groups"]))
    assert back.optimizer["param_groups"] == as_json


def test_the_state_of_a_channels_last_model_is_saved_too(tmp_path):
    config = tiny_config(epochs=1)
    _, state = tiny_fit(config, model=tiny_model(config, channels_last=True))
    assert not all(tensor.is_contiguous() for tensor in state.model.values())
    save_state(tmp_path / "state", state)
    assert_same_tensors(load_state(tmp_path / "state").model, state.model)


def test_a_run_without_a_finished_epoch_has_no_state(tmp_path):
    assert load_state(tmp_path / "state") is None


def test_saving_replaces_the_state_and_leaves_nothing_else_behind(state, tmp_path):
    save_state(tmp_path / "run" / "state", state)
    state.epoch = 7
    save_state(tmp_path / "run" / "state", state)
    assert load_state(tmp_path / "run" / "state").epoch == 7
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state"]


def test_a_crash_while_saving_leaves_the_old_state(state, tmp_path, monkeypatch):
    save_state(tmp_path / "run" / "state", state)

    def half(path, tensors, note):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("mer.training.state.save_tensors", half)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path / "run" / "state", state)
    assert load_state(tmp_path / "run" / "state").epoch == state.epoch
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state"]


def test_a_place_that_cannot_be_written_is_named_with_the_remedy(state, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match=r"cannot write .*file/state.*choose a writable place"):
        save_state(tmp_path / "file" / "state", state)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[: len(content) // 2], id="truncated"),
        pytest.param(lambda content: content[:4], id="only a few bytes"),
        pytest.param(lambda content: b"\xff" * 16 + content[16:], id="header overwritten"),
        pytest.param(lambda content: pickle.dumps({"epoch": 1}), id="a pickle"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(state, tmp_path, damage):
    path = tmp_path / "state"
    save_state(path, state)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        RunError, match=r"state (is damaged|cannot be used) .*delete it to start the run over"
    ):
        load_state(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({}, id="nothing in it"),
        pytest.param([], id="no object"),
        pytest.param({"epoch": 1, "history": [], "best_epoch": 0}, id="no optimizer groups"),
    ],
)
def test_a_file_that_lacks_a_part_of_the_state_is_damaged(tmp_path, content):
    save_file({"model/a": torch.zeros(1)}, tmp_path / "state", metadata={"note": json.dumps(content)})
    with pytest.raises(RunError, match="delete it to start the run over"):
        load_state(tmp_path / "state")


@pytest.mark.parametrize("name", ["strange/a", "optimizer/first/step"])
def test_a_file_with_tensors_that_belong_nowhere_is_damaged(state, tmp_path, name):
    path = tmp_path / "state"
    save_state(path, state)
    metadata = metadata_of(path)
    save_file(load_file(path) | {name: torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(RunError, match="delete it to start the run over"):
        load_state(path)


def test_other_safetensors_are_no_state(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "state")
    with pytest.raises(RunError, match="delete it to start the run over"):
        load_state(tmp_path / "state")


def test_values_that_are_not_finite_are_kept(state, tmp_path):
    state.history[0]["validation_loss"] = float("inf")
    save_state(tmp_path / "state", state)
    assert load_state(tmp_path / "state").history == state.history


def test_nothing_in_a_state_file_is_pickled(state, tmp_path):
    save_state(tmp_path / "state", state)
    assert set(metadata_of(tmp_path / "state")) == {"note"}
    assert len(load_file(tmp_path / "state")) > len(state.model) + len(state.best)


def test_a_fresh_state_has_nothing_done():
    assert (State().epoch, State().history, State().best_epoch) == (0, [], 0)


def test_states_are_kept_under_the_home_by_run(own_home, state):
    path = state_path("abc")
    assert path == own_home / "runs" / "abc" / "state.safetensors"
    save_state(path, state)
    drop_state(path)
    assert not path.parent.exists()


def test_dropping_a_state_leaves_other_files_of_the_run(own_home, state):
    path = state_path("abc")
    save_state(path, state)
    (path.parent / "log.txt").write_text("kept")
    drop_state(path)
    drop_state(path)
    assert [file.name for file in path.parent.iterdir()] == ["log.txt"]
