"""The networks that were trained on AudioSet, on stand-ins for their published files.

A stand-in has the names, shapes and extras of a published file, but random values. What the networks should
compute from it is written here a second time, as plain functions of published tensors.
"""

import hashlib
import io
import pickle
from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mer.audio.mel import log_mel
from mer.config.inputs import required_input
from mer.config.presets import preset
from mer.config.sections import Config
from mer.models.build import build_classifier
from mer.models.heads import take_output
from mer.models.panns import LEAST_FRAMES, PANN, cnn14, mobilenet
from mer.models.panns_weights import AudioSetWeights, panns_tensors
from mer.models.weights import fetch
from mer.models.zoo import ZOO
from mer.utils.errors import BackboneError, ConfigError, StorageError, WeightsError

NAMES = ["panns_cnn14", "panns_mobilenet"]
MOBILENET = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
HALVED = (1, 3, 5, 11)  # of these, from 0: the blocks with stride 2
EXTRAS = ("spectrogram_extractor.stft.conv_real.weight", "spectrogram_extractor.stft.conv_imag.weight",
          "logmel_extractor.melW")  # fmt: skip


# --- published files --------------------------------------------------------------------------------


def norm(name, size, values):
    values[f"{name}.weight"] = 1 + torch.rand(size)
    values[f"{name}.bias"] = torch.randn(size) / 10
    values[f"{name}.running_mean"] = torch.randn(size) / 10
    values[f"{name}.running_var"] = 1 + torch.rand(size)
    values[f"{name}.num_batches_tracked"] = torch.tensor(7)


def kernel(name, shape, values):
    noise = torch.rand(1 << 16) - 0.5  # a short draw, repeated: Cnn14 has 81 million weights
    count, inputs = int(np.prod(shape)), int(np.prod(shape[1:]))
    repeated = noise.repeat(-(-count // len(noise)))[:count].view(shape)
    values[name] = repeated * (12 / inputs) ** 0.5


def published(name):
    """Tensors with the names and shapes of a published file."""
    torch.manual_seed(len(name))
    values = {extra: torch.ones(3) for extra in EXTRAS}
    norm("bn0", 64, values)
    if name == "panns_cnn14":
        sizes = [64, 128, 256, 512, 1024, 2048]
        for number, (inputs, width) in enumerate(zip([1, *sizes], sizes, strict=False), start=1):
            for layer, size in ((1, inputs), (2, width)):
                kernel(f"conv_block{number}.conv{layer}.weight", (width, size, 3, 3), values)
                norm(f"conv_block{number}.bn{layer}", width, values)
    else:
        kernel("features.0.0.weight", (32, 1, 3, 3), values)
        norm("features.0.2", 32, values)
        for number, (inputs, width) in enumerate(zip([32, *MOBILENET], MOBILENET, strict=False), start=1):
            kernel(f"features.{number}.0.weight", (inputs, 1, 3, 3), values)
            norm(f"features.{number}.2", inputs, values)
            kernel(f"features.{number}.4.weight", (width, inputs, 1, 1), values)
            norm(f"features.{number}.5", width, values)
    width = 2048 if name == "panns_cnn14" else 1024
    for layer, outputs in (("fc1", width), ("fc_audioset", 527)):
        kernel(f"{layer}.weight", (outputs, width), values)
        values[f"{layer}.bias"] = torch.randn(outputs) / 10
    return values


def to_bytes(content, *, numpy_core="numpy.core"):
    """A file as torch wrote them in 2019, by default with numpy's names of that time."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue().replace(b"cnumpy._core.", f"c{numpy_core}.".encode())


def training_state():
    return {"indexes_per_class": [np.arange(5), np.arange(3)], "queue": [1], "pointer": np.int64(3)}


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def stand_in(name, content):
    """The source of a network's weights, with the checksums of `content`."""
    sums = tuple((kind, hashlib.new(kind, content).hexdigest()) for kind in ("md5", "sha256"))
    return replace(ZOO[name].source, sums=sums)


@pytest.fixture(scope="module")
def tensors():
    return {name: published(name) for name in NAMES}


@pytest.fixture(scope="module")
def networks(tensors, tmp_path_factory):
    """Both networks in evaluation mode, with the weights of their stand-ins."""
    found = {}
    for name, values in tensors.items():
        path = tmp_path_factory.mktemp("weights") / "w.pth"
        found[name] = loaded(name, put(path, to_bytes({"model": values})))
        path.unlink()
    return found


def loaded(name, path):
    with torch.device("meta"):
        net = ZOO[name].build()
    net.load_state_dict(ZOO[name].read(path, "cpu"), assign=True)
    return net.eval()


@pytest.fixture(scope="module")
def small():
    """The content of a whole published file of the smaller network."""
    state = {"iteration": 400_000, "model": published("panns_mobilenet"), "sampler": training_state()}
    return to_bytes(state)


def images(frames=48, n=1):
    return torch.rand(n, 1, 64, frames) * 60 - 70


# --- what the networks compute ----------------------------------------------------------------------


def convolved(x, t, weight, bn, *, pool=1, groups=1):
    x = F.conv2d(x, t[weight], padding=t[weight].shape[2] // 2, groups=groups)
    return normed(F.avg_pool2d(x, pool), t, bn).relu()


def normed(x, t, name):
    mean, var, weight, bias = (
        t[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias)


def by_hand(x, t):
    """Embeddings and logits of images (n, 1, bands, frames), which are read as (n, 1, frames, bands)."""
    x = normed(x.transpose(1, 2), t, "bn0").permute(0, 2, 3, 1)
    if "conv_block1.conv1.weight" in t:
        for block in (f"conv_block{number}" for number in range(1, 7)):
            for layer in "12":
                x = convolved(x, t, f"{block}.conv{layer}.weight", f"{block}.bn{layer}")
            x = x if block.endswith("6") else F.avg_pool2d(x, 2)
    else:
        x = convolved(x, t, "features.0.0.weight", "features.0.2", pool=2)
        for number in range(13):
            block = f"features.{number + 1}"
            pool = 2 if number in HALVED else 1
            x = convolved(x, t, f"{block}.0.weight", f"{block}.2", pool=pool, groups=x.shape[1])
            x = convolved(x, t, f"{block}.4.weight", f"{block}.5")
    x = x.mean(3)
    embedding = F.linear(x.max(2)[0] + x.mean(2), t["fc1.weight"], t["fc1.bias"]).relu()
    return embedding, F.linear(embedding, t["fc_audioset.weight"], t["fc_audioset.bias"])


@pytest.mark.parametrize("name", NAMES)
def test_published_tensors_give_the_logits_that_the_paper_describes(name, networks, tensors):
    x = images(70, 2)
    with torch.inference_mode():
        found, (_, wanted) = networks[name](x), by_hand(x, tensors[name])
    assert found.shape == (2, 527)
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_each_image_is_judged_alone(name, networks):
    x = images(n=2)
    with torch.inference_mode():
        both, alone = networks[name](x), torch.cat([networks[name](x[:1]), networks[name](x[1:])])
    torch.testing.assert_close(both, alone, rtol=1e-3, atol=1e-3 * float(both.abs().max()))


@pytest.mark.parametrize(("name", "width"), [("panns_cnn14", 2048), ("panns_mobilenet", 1024)])
def test_the_map_has_two_rows_and_a_column_for_32_frames(name, width, networks):
    for frames, columns in ((32, 1), (63, 1), (64, 2), (100, 3)):
        with torch.inference_mode():
            assert networks[name].feature_map(images(frames)).shape == (1, width, 2, columns)


@pytest.mark.parametrize("name", NAMES)
def test_without_its_tag_layer_a_network_returns_its_embedding(name):
    with torch.device("meta"):
        net = ZOO[name].build().eval()
        output, dropout = take_output(net, ZOO[name].output)
        assert net(torch.empty(2, 3, 64, 40)).shape == (2, output.in_features)
    assert dropout == 0


def test_the_embedding_is_the_layer_before_the_tags(networks, tensors):
    x, net = images(), mobilenet().eval()
    net.load_state_dict(networks["panns_mobilenet"].state_dict())
    take_output(net, "back.4")
    with torch.inference_mode():
        found, (wanted, _) = net(x), by_hand(x, tensors["panns_mobilenet"])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.max()))


@pytest.mark.parametrize("build", [cnn14, mobilenet])
def test_too_few_frames_are_refused_in_one_line(build):
    with torch.device("meta"):
        net = build()
    few = LEAST_FRAMES - 1
    with pytest.raises(BackboneError, match=rf"{few} frames are too few; give at least 32 \(0\.32 s\)$"):
        net(torch.empty(1, 3, 64, few, device="meta"))
    with pytest.raises(
        BackboneError, match=r"1 x 3 x 96 x 40 values; give images \(n, channels, 64, frames\)"
    ):
        net(torch.empty(1, 3, 96, 40, device="meta"))


def test_onnx_gives_the_same_logits(networks, in_onnx):
    net, x = networks["panns_mobilenet"], images(n=3)
    exported = in_onnx(net, x)
    with torch.inference_mode():
        for some in (x[:1], x):
            wanted = net(some)
            tolerance = 1e-3 * float(wanted.abs().max())
            torch.testing.assert_close(exported(some), wanted, rtol=1e-3, atol=tolerance)


# --- their input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_the_log_mel_of_librosa(name):
    wanted, settings = required_input(name), Config().updated(backbone=name)
    rate = settings.audio.sample_rate
    rng = np.random.default_rng(1912)
    sound = np.sin(np.arange(rate) * 0.05) * 0.4 + rng.normal(0, 0.01, rate)
    sound[rate // 2 :] = 0  # silence is at -100 dB
    sound = sound.astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=sound, sr=rate, n_fft=wanted["n_fft"], hop_length=wanted["hop_length"], n_mels=64, power=2.0,
        fmin=wanted["f_min"], fmax=wanted["f_max"], window="hann", center=True, pad_mode="reflect",
    )  # fmt: skip
    theirs = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)
    ours = log_mel(sound, sample_rate=rate, config=settings.mel).numpy()
    assert theirs.min() == pytest.approx(-100)
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_the_default_preset_solves_a_head_on_the_frozen_network(name):
    config = preset("default", backbone=name)
    assert (config.train.weights, config.train.freeze, config.train.solver) == (
        "audioset",
        "head",
        "logistic",
    )
    assert config.input_shape == (64, 1001)
    back = config.updated(backbone="resnet18")
    assert (back.mel, back.audio, back.train.weights) == (Config().mel, Config().audio, "imagenet")


@pytest.mark.parametrize("other", ["musicnn_msd", "resnet18", "panns_cnn14"])
def test_a_network_at_another_sample_rate_cannot_be_joined(other):
    with pytest.raises(
        ConfigError, match="panns_mobilenet takes 32000 Hz, and networks with different inputs"
    ):
        Config().updated(backbone=f"panns_mobilenet+{other}", freeze="head")


def test_a_network_at_the_usual_sample_rate_is_joined_to_one_for_music():
    config = Config().updated(backbone="panns_cnn14+musicnn_msd", freeze="head")
    assert (config.train.weights, config.mel.shape) == ("own", "waveform")


@pytest.mark.parametrize(("backbone", "weights"), [("panns_cnn14", "music"), ("vgg_msd", "audioset")])
def test_weights_of_another_kind_are_refused(backbone, weights):
    with pytest.raises(ConfigError, match=f"backbone '{backbone}' has no weights='{weights}'"):
        Config().updated(backbone=backbone, weights=weights)


# --- their files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_that_the_zoo_states_are_those_of_the_published_tensors(name, tensors):
    learned = [
        tensor
        for path, tensor in tensors[name].items()
        if path not in EXTRAS and "running" not in path and "tracked" not in path
    ]
    assert sum(tensor.numel() for tensor in learned) == ZOO[name].source.parameters


def test_the_addresses_are_those_of_the_record():
    assert ZOO["panns_cnn14"].source.url == (
        "https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1"
    )
    assert ZOO["panns_mobilenet"].source.path().name == "MobileNetV1_mAP=0.389.pth"


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_the_state_of_training_in_a_file_is_not_read(core, tmp_path, tensors):
    state = {"iteration": 1, "model": tensors["panns_mobilenet"], "sampler": training_state()}
    content = to_bytes(state, numpy_core=core)
    assert f"c{core}.multiarray\n_reconstruct".encode() in content
    for device in ("cpu", "meta"):
        found = panns_tensors(put(tmp_path / "w.pth", content), device)
        assert len(found) == len(state["model"]) - len(EXTRAS)
        assert {tensor.device.type for tensor in found.values()} == {device}


@pytest.mark.parametrize("extra", ["fc_transfer.weight", "spectrogram_extractor.stft.other"])
def test_any_other_tensor_in_a_file_is_an_error(extra, tmp_path, tensors):
    values = tensors["panns_mobilenet"] | {extra: torch.ones(1)}
    path = put(tmp_path / "w.pth", to_bytes({"model": values}))
    with pytest.raises(WeightsError, match=rf"w\.pth does not fit the network \(.*Unexpected key.*{extra}"):
        build_classifier("panns_mobilenet", classes=3, weights=str(path))


def test_a_missing_tensor_is_an_error(tmp_path, tensors):
    values = {name: tensor for name, tensor in tensors["panns_mobilenet"].items() if name != "fc1.bias"}
    path = put(tmp_path / "w.pth", to_bytes({"model": values}))
    with pytest.raises(WeightsError, match=r"does not fit the network \(.*Missing key.*back\.2\.bias"):
        build_classifier("panns_mobilenet", classes=3, weights=str(path))


class Bomb:
    def __reduce__(self):
        return (print, ("exploded",))


@pytest.mark.parametrize("where", ["model", "sampler"])
def test_other_objects_in_a_file_are_refused(where, tmp_path, capsys):
    state = {"model": {"bn0.weight": torch.ones(64)}} | {where: {"a": Bomb()}}
    for content in (to_bytes(state), pickle.dumps(state)):
        with pytest.raises(WeightsError, match="is not a complete weights file") as caught:
            panns_tensors(put(tmp_path / "w.pth", content))
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_weights_in_the_cache_are_loaded_without_a_network(small):
    source = stand_in("panns_mobilenet", small)
    put(source.path(), small)
    assert source.available()
    net = mobilenet()
    source.into(net)
    assert torch.equal(net.bn0.weight, published("panns_mobilenet")["bn0.weight"])


def test_fetching_downloads_checks_and_keeps(small, serve, tmp_path, capsys):
    source, asked = stand_in("panns_mobilenet", small), serve(small)
    copy = fetch(source, tmp_path / "out")
    assert asked == [source.url]
    assert copy.read_bytes() == source.path().read_bytes() == small
    fetch(source)
    assert len(asked) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_download_with_another_sum_is_refused_and_not_kept(kind, serve):
    source = replace(ZOO["panns_mobilenet"].source, sums=((kind, "0" * 32),))
    serve(b"something else")
    found = hashlib.new(kind, b"something else").hexdigest()
    with pytest.raises(WeightsError, match=rf"MobileNetV1_.*: {kind.upper()} is {found}, not 0+; .*fetch it"):
        fetch(source)
    assert list(source.path().parent.iterdir()) == []


def test_a_damaged_file_is_refused_with_both_sums():
    source = ZOO["panns_cnn14"].source
    path = put(source.path(), b"half a file")
    found = hashlib.md5(b"half a file", usedforsecurity=False).hexdigest()
    wanted = "362fc5ff18f1d6ad2f6d464b45893f2c"
    for use in (source.verify, source.state_dict, lambda: fetch(source)):
        with pytest.raises(
            WeightsError, match=rf"{path}: MD5 is {found}, not {wanted}; .* delete it and fetch"
        ):
            use()


def test_without_file_and_network_the_error_names_address_place_and_remedies():
    source = ZOO["panns_cnn14"].source
    with pytest.raises(WeightsError) as caught:
        source.state_dict()
    for part in ("panns_cnn14 cannot be downloaded (Name or service not known)", f"put {source.url} at ",
                 f"at {source.path()},", "run 'mer zoo fetch panns_cnn14'", "--weights none"):  # fmt: skip
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(source.path().parent.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot write .*Not a directory"):
        ZOO["panns_cnn14"].source.state_dict()


def test_the_sources_are_those_of_the_zoo():
    assert all(isinstance(ZOO[name].source, AudioSetWeights) for name in NAMES)
    with torch.device("meta"):
        assert all(isinstance(ZOO[name].build(), PANN) for name in NAMES)
