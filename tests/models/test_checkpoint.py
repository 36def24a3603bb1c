"""Checkpoints: what is saved gives the same logits again, and what is damaged is refused."""

import json
import pickle
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mer.models.build import build_classifier
from mer.models.card import CARD, PAGE, WEIGHTS, load_card, page
from mer.models.checkpoint import load_checkpoint, save_checkpoint
from mer.models.heads import HEADS
from mer.utils.errors import CheckpointError, StorageError
from mer.utils.versions import CURRENT
from tests.tiny_backbone import STANDARDIZER, tiny_card, tiny_config, tiny_fit, tiny_model, tiny_zoo

FILES = {WEIGHTS, CARD, PAGE}


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def model():
    """A tiny network after an epoch, so that its statistics are its own."""
    return tiny_fit(tiny_config(epochs=1))[0]


@pytest.fixture
def card():
    return tiny_card(tiny_config())


@pytest.fixture
def saved(model, card, tmp_path):
    return save_checkpoint(tmp_path / "checkpoint", model, card)


def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def logits(model):
    with torch.inference_mode():
        return model.eval()(images())


def change_card(folder, **changes):
    data = json.loads((folder / CARD).read_text("utf-8"))
    (folder / CARD).write_text(json.dumps(data | changes), "utf-8")


def change_train(folder, **changes):
    config = json.loads((folder / CARD).read_text("utf-8"))["config"]
    change_card(folder, config=config | {"train": config["train"] | changes})


# --- round trip -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("freeze", ["head", "none"])
def test_a_checkpoint_gives_the_same_logits_to_the_bit(tmp_path, head, freeze):
    config = tiny_config(epochs=1, head=head, freeze=freeze)
    model, _ = tiny_fit(config)
    folder = save_checkpoint(tmp_path / "checkpoint", model, tiny_card(config))
    back, standardizer, card = load_checkpoint(folder)
    assert torch.equal(logits(back), logits(model))
    assert standardizer == STANDARDIZER
    assert card == tiny_card(config)


def test_a_network_of_the_zoo_comes_back_too(tmp_path):
    torch.manual_seed(0)
    config = tiny_config(backbone="mobilenet_v3_small", weights="imagenet")  # which are not here, nor needed
    model = build_classifier("mobilenet_v3_small", classes=2, weights="none")
    back, _, _ = load_checkpoint(save_checkpoint(tmp_path / "checkpoint", model, tiny_card(config)))
    assert torch.equal(logits(back), logits(model))


def test_a_channels_last_model_is_kept_too(tmp_path, card):
    model = tiny_model(tiny_config(), channels_last=True)
    back, _, _ = load_checkpoint(save_checkpoint(tmp_path / "checkpoint", model, card))
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in back.state_dict().items())


def test_a_loaded_model_is_whole_on_the_cpu_and_in_evaluation_mode(saved):
    model, _, _ = load_checkpoint(saved)
    assert not any(module.training for module in model.modules())
    tensors = [*model.parameters(), *model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


def test_loading_draws_no_random_number(saved):
    before = torch.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(before, torch.get_rng_state())


def test_half_precision_halves_the_size_and_changes_little(saved, model, card, tmp_path):
    half = save_checkpoint(tmp_path / "half", model, replace(card, dtype="float16"))
    kept = load_file(half / WEIGHTS)
    assert {t.dtype for t in kept.values()} == {torch.float16, torch.int64}
    sizes = [sum(t.nbytes for t in load_file(folder / WEIGHTS).values()) for folder in (half, saved)]
    assert sizes[0] < 0.52 * sizes[1]
    back, _, read = load_checkpoint(half)
    assert read.dtype == "float16"
    assert all(p.dtype == torch.float32 for p in back.parameters())
    assert torch.allclose(logits(back), logits(model), atol=5e-3)
    assert not torch.equal(logits(back), logits(model))


def test_a_half_precision_checkpoint_can_be_saved_again_without_loss(model, card, tmp_path):
    half = save_checkpoint(tmp_path / "half", model, replace(card, dtype="float16"))
    back, _, read = load_checkpoint(half)
    again = save_checkpoint(tmp_path / "again", back, read)
    assert (again / WEIGHTS).read_bytes() == (half / WEIGHTS).read_bytes()


# --- writing ----------------------------------------------------------------------------------------


def test_a_checkpoint_is_three_files_that_others_may_read(saved, card):
    assert {path.name for path in saved.iterdir()} == FILES
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 for path in saved.iterdir())
    assert (saved / PAGE).read_text("utf-8") == page(card)
    assert load_card(saved) == card


def test_an_empty_folder_may_be_there_already(model, card, tmp_path):
    (tmp_path / "empty").mkdir()
    assert {path.name for path in save_checkpoint(tmp_path / "empty", model, card).iterdir()} == FILES


def test_a_folder_that_is_not_empty_is_left_unchanged(model, card, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(
        StorageError, match=r"full exists and is not empty; choose another --out or remove it"
    ):
        save_checkpoint(tmp_path / "full", model, card)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_checkpoint_that_cannot_be_finished_leaves_nothing(model, card, tmp_path, monkeypatch):
    def fail(card):
        raise RuntimeError("in the middle")

    monkeypatch.setattr("mer.models.checkpoint.page", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        save_checkpoint(tmp_path / "checkpoint", model, card)
    assert list(tmp_path.iterdir()) == []


# --- card against weights ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "tensor"),
    [
        (
            {"head": "attention"},
            r"head\.score\.0\.bias should be of shape \(128,\), but in model.safetensors it is absent",
        ),
        (
            {"head": "gru"},
            r"head\.gru\.bias_hh_l0 should be of shape \(384,\), but in model.safetensors it is absent",
        ),
        (
            {"backbone": "resnet18"},
            r"body\.bn1\.bias should be of shape \(64,\), but in model.safetensors it is absent",
        ),
    ],
)
def test_a_card_of_another_network_is_refused(saved, changes, tensor):
    change_train(saved, **changes)
    message = (
        rf"according to the card, {tensor}; card and weights do not belong together: export the checkpoint"
    )
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


def test_a_card_with_more_classes_than_outputs_is_refused(saved):
    change_card(saved, classes=["Happy", "Sad", "Party"])
    with pytest.raises(
        CheckpointError, match=r"head\.linear\.bias should be of shape \(3,\), but .* of shape \(2,\)"
    ):
        load_checkpoint(saved)


@pytest.mark.parametrize("change", ["missing", "too many"])
def test_tensors_that_are_missing_or_too_many_are_named(saved, change):
    tensors = load_file(saved / WEIGHTS)
    if change == "missing":
        del tensors["body.features.1.running_mean"]
    else:
        tensors["body.extra"] = torch.zeros(1)
    save_file(tensors, saved / WEIGHTS)
    name = "body.features.1.running_mean" if change == "missing" else "body.extra"
    with pytest.raises(CheckpointError, match=rf"according to the card, {name} should be .*absent"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", ["head.linear.weight", "body.features.1.running_var"])
def test_tensors_of_whole_numbers_are_refused(saved, name):
    tensors = load_file(saved / WEIGHTS)
    save_file(tensors | {name: tensors[name].to(torch.int32)}, saved / WEIGHTS)
    with pytest.raises(
        CheckpointError, match=rf"{name} should be of shape .* it is of whole numbers of shape"
    ):
        load_checkpoint(saved)


def test_a_card_that_names_an_unknown_network_is_refused_with_the_valid_names(saved):
    change_train(saved, backbone="alexnot")
    message = r"card\.json: unknown backbone 'alexnot' \(did you mean 'alexnet'\?\); the zoo"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


def test_a_card_that_asks_for_the_impossible_is_refused(saved):
    change_train(saved, backbone="mobilenet_v2", head="gru")
    with pytest.raises(CheckpointError, match=r"card\.json: head 'gru' needs a feature map"):
        load_checkpoint(saved)


def test_a_newer_card_is_refused_before_its_weights_are_read(saved):
    change_card(saved, format=CURRENT["card"] + 1)
    (saved / WEIGHTS).write_bytes(b"something newer")
    with pytest.raises(CheckpointError, match="update mer"):
        load_checkpoint(saved)


# --- damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[:-100], id="cut"),
        pytest.param(lambda content: content[:20], id="cut in the header"),
        pytest.param(lambda content: b"\xff" * 8 + content[8:], id="absurd header length"),
        pytest.param(lambda content: content + b"more", id="something appended"),
    ],
)
def test_damaged_weights_are_named_with_the_remedy(saved, damage):
    path = saved / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors is damaged \(.+\); export the checkpoint again"
    ):
        load_checkpoint(saved)


class Bomb:
    def __reduce__(self):
        return (Path("exploded").touch, ())


@pytest.mark.promise("Nothing is unpickled or evaluated, and no shell is opened.")
def test_a_pickle_that_calls_itself_safetensors_is_refused_unopened(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Bomb()), pickle.dumps({"a": 1})):
        (saved / WEIGHTS).write_bytes(content)
        with pytest.raises(CheckpointError, match="is damaged"):
            load_checkpoint(saved)
    torch.save({"a": Bomb()}, saved / WEIGHTS)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(saved)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("missing", [CARD, WEIGHTS])
def test_an_incomplete_checkpoint_is_refused(saved, missing):
    (saved / missing).unlink()
    with pytest.raises(CheckpointError, match=r"not a checkpoint .*give an exported folder"):
        load_checkpoint(saved)


def test_the_page_is_for_people_and_not_needed(saved, model):
    (saved / PAGE).unlink()
    assert torch.equal(logits(load_checkpoint(saved)[0]), logits(model))


def test_a_card_whose_images_the_network_cannot_take_is_refused(tmp_path):
    config = tiny_config(backbone="alexnet")
    model, card = tiny_model(config), tiny_card(config)
    folder = save_checkpoint(tmp_path / "checkpoint", model, card)
    with pytest.raises(CheckpointError, match="alexnet does not accept images of 32 x 32"):
        load_checkpoint(folder)


def test_weights_that_are_not_finite_are_refused(saved):
    tensors = load_file(saved / WEIGHTS)
    tensors["head.linear.weight"][0, 0] = float("nan")
    save_file(tensors, saved / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"head\.linear\.weight .* has values that are not finite"):
        load_checkpoint(saved)


# --- weights that lie -------------------------------------------------------------------------------


def rewrite_header(path, change):
    """Have `change` alter the header of a safetensors file; the tensors behind it stay."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


@pytest.mark.parametrize("size", [2**31, 2**63, 2**64 - 1, 17 * 2**20])
@pytest.mark.promise(
    "Weights whose header claims 2 GB, or 100 GB of tensors, are refused before they are read.",
    measured="no extra memory",
)
def test_a_header_of_gigabytes_is_refused_unread(saved, size, monkeypatch):
    monkeypatch.setattr("mer.models.tensors.safe_open", None)
    path = saved / WEIGHTS
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match=f"is damaged .its header has {size} bytes, more than 1677"):
        load_checkpoint(saved)


def test_more_tensors_than_the_card_asks_for_are_refused_unread(saved, monkeypatch):
    """A file of 100 GB that takes no room on disk; reading it would fill the memory."""
    monkeypatch.setattr("mer.models.tensors.safe_open", None)
    with (saved / WEIGHTS).open("r+b") as file:
        file.truncate(100 * 2**30)
    with pytest.raises(CheckpointError, match=r"is damaged \(it has \d+ bytes of tensors, more than \d+\)"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry["data_offsets"].__setitem__(1, 2**40),
        lambda entry: entry["data_offsets"].__setitem__(slice(None), [0, 4]),
        lambda entry: entry["data_offsets"].__setitem__(0, -1),
        lambda entry: entry["shape"].__setitem__(0, 10**9),
        lambda entry: entry.update(shape=[-1]),
        lambda entry: entry.update(dtype="F1000"),
        lambda entry: entry.update(dtype="F8_E5M2"),
        lambda entry: entry.clear(),
    ],
    ids=["past the end", "on another", "before the start", "huge", "negative", "no type", "8 bits", "empty"],
)
def test_a_header_that_lies_about_a_tensor_is_refused(saved, change):
    rewrite_header(saved / WEIGHTS, lambda header: change(header["head.linear.weight"]))
    with pytest.raises(CheckpointError, match=r"is damaged|should be"):
        load_checkpoint(saved)


def test_a_header_nested_a_hundred_thousand_deep_is_refused(saved):
    text = b'{"a": ' + b"[" * 100_000
    (saved / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(saved)


@pytest.mark.parametrize("note", ["[" * 100_000, "[]", "1", "{"])
def test_a_note_that_is_not_an_object_is_refused(saved, note):
    rewrite_header(saved / WEIGHTS, lambda header: header.update({"__metadata__": {"note": note}}))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(saved)


def test_a_hundred_thousand_classes_cost_no_memory_for_their_network(saved):
    change_card(saved, classes=[str(number) for number in range(100_000)])
    with pytest.raises(CheckpointError, match=r"should be of shape \(100000,\), but in .* of shape \(2,\)"):
        load_checkpoint(saved)


def test_a_pickle_beside_the_weights_is_never_opened(saved, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.pt", "pytorch_model.bin", "model.pkl"):
        (saved / name).write_bytes(pickle.dumps(Bomb()))
    assert torch.equal(logits(load_checkpoint(saved)[0]), logits(model))
    assert not (tmp_path / "exploded").exists()
