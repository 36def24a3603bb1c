"""The networks that were trained on music, with their shipped weights.

The golden numbers are those that TensorFlow 2.21 computes from the graphs and variables of the PyPI package
musicnn 0.1.0: logits, and the first eight values of the penultimate layer or of the fifth pooling.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mer.models.heads import take_output
from mer.models.music_input import INPUT
from mer.models.music_vgg import POOLINGS, MusicVGG, StepMeans, averaged_output
from mer.models.musicnn import LEAST_FRAMES, MusicNN
from mer.models.tensors import load_tensors
from mer.utils.errors import BackboneError

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "checkpoints" / "pretrained"
GOLDEN = json.loads((ROOT / "tests" / "golden" / "musicnn.json").read_text("utf-8"))
NAMES = list(GOLDEN)
TOLERANCE = 2e-5
OUTPUT = {"musicnn": "back.7", "vgg": "output.1"}


def network(name, **options):
    family, corpus = name.split("_")
    net = MusicNN(**options) if family == "musicnn" else MusicVGG(corpus, **options)
    tensors = load_tensors(WEIGHTS / f"{name}.safetensors")[0]
    net.load_state_dict(averaged_output(tensors) if options.get("steps") == 1 else tensors)
    return net.eval()


def least(net):
    return LEAST_FRAMES if isinstance(net, MusicNN) else net.least_frames


def patches():
    """Four made-up images (4, 1, 96, 187): two of uniform values, one of half-normal ones, a pattern."""
    rng = np.random.default_rng(2019)
    uniform = rng.uniform(0, 4, (2, 187, 96))
    normal = np.abs(rng.normal(0, 1, (1, 187, 96)))
    x = np.concatenate([uniform, normal, np.zeros((1, 187, 96))]).astype(np.float32)
    x[3, :, 40:44] = 2.5
    x[3, 60:64, :] = 3.0
    return torch.from_numpy(x).transpose(1, 2)[:, None].contiguous()


def images(frames, n=1):
    return torch.rand(n, 1, INPUT["n_mels"], frames) * 3


def largest(found, wanted):
    return float((found - torch.as_tensor(wanted)).detach().abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_features_equal_those_of_tensorflow(name):
    net, x, golden = network(name), patches(), GOLDEN[name]
    with torch.inference_mode():
        logits = net(x)
        pooled = net.embed(x) if name.startswith("musicnn") else net.pool[0](net.feature_map(x))[:, :, 0, 0]
    assert logits.shape == (4, 50)
    assert largest(logits, golden["logits"]) < TOLERANCE
    assert largest(pooled[:, :8], golden["first_features"]) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_each_image_is_judged_alone(name):
    net, x = network(name), images(187, 2)
    with torch.inference_mode():
        both = net(x)
        alone = torch.cat([net(x[:1]), net(x[1:])])
    assert largest(both, alone) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_frames_from_the_least_is_accepted(name):
    net = network(name)
    for frames in (least(net), least(net) + 1, 187, 626):
        with torch.inference_mode():
            logits, features = net(images(frames)), net.embed(images(frames))
        assert logits.shape == (1, 50)
        assert features.shape == (1, net.features)
        assert logits.isfinite().all()


def test_the_least_number_of_frames_of_each_network_is_known():
    assert LEAST_FRAMES == 7
    found = {(name, steps): MusicVGG(name, steps=steps).least_frames for name in POOLINGS for steps in (1, 2)}
    assert found == {("mtt", 1): 66, ("mtt", 2): 130, ("msd", 1): 64, ("msd", 2): 128}


@pytest.mark.parametrize("name", NAMES)
def test_too_few_frames_are_refused_in_one_line(name):
    net = network(name)
    few = least(net) - 1
    with pytest.raises(
        BackboneError, match=rf"{few} frames are too few; give at least {few + 1} \("
    ) as error:
        net(images(few))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(2, 3, 224, 224), (2, 1, 187, 96), (1, 96, 187)])
@pytest.mark.parametrize("net", [MusicNN(), MusicVGG("msd")], ids=["musicnn", "vgg"])
def test_images_of_another_shape_are_refused(net, shape):
    with pytest.raises(BackboneError, match=r"cannot take .* values; give images \(n, channels, 96, "):
        net(torch.zeros(shape))


def test_an_unknown_corpus_is_refused():
    with pytest.raises(BackboneError, match="unknown corpus 'fma'; choose one of: mtt, msd"):
        MusicVGG("fma")


@pytest.mark.parametrize("name", NAMES)
def test_without_its_tag_layer_a_network_returns_its_features(name):
    options = {} if name.startswith("musicnn") else {"steps": 1}
    net, x = network(name, **options), images(187, 2)
    with torch.inference_mode():
        wanted = net.embed(x)
        output, dropout = take_output(net, OUTPUT[name.split("_")[0]])
        assert largest(net(x), wanted) < 1e-6
    assert (output.in_features, dropout) == (net.features, 0.5)


@pytest.mark.parametrize(("stage", "shape"), [("none", (753, 1, 187)), ("middle", (561, 1, 187))])
def test_the_map_of_musicnn_is_over_time_only(stage, shape):
    net = MusicNN().eval()
    if stage != "none":
        net.set_submodule(stage, torch.nn.Identity())
    with torch.inference_mode():
        assert net.feature_map(images(187)).shape == (1, *shape)
        assert net.front.timbral[0](images(187)).shape == (1, 204, 59, 187)


@pytest.mark.parametrize("corpus", POOLINGS)
@pytest.mark.parametrize("stage", ["none", "block5"])
def test_the_map_of_the_vgg_has_frequency_with_and_without_its_last_block(corpus, stage):
    net = MusicVGG(corpus).eval()
    if stage != "none":
        net.set_submodule(stage, torch.nn.Identity())
    with torch.inference_mode():
        assert net.feature_map(images(187)).shape == (1, 128, 6, 11)
        assert net.feature_map(images(626)).shape == (1, 128, 6, 39)


def test_logits_of_a_long_clip_are_the_mean_over_runs_of_time_steps():
    layer, x = torch.nn.Linear(2 * 4, 3), torch.rand(1, 4, 1, 6)
    runs = [layer(x[:, :, 0, i : i + 2].transpose(1, 2).flatten(1)) for i in range(5)]
    assert largest(layer(StepMeans(2)(x)), torch.stack(runs).mean(0)) < 1e-6


def test_adapted_weights_give_the_same_logits_where_time_steps_are_equal():
    two, one = MusicVGG("msd").eval(), MusicVGG("msd", steps=1).eval()
    one.load_state_dict(averaged_output(two.state_dict()))
    steps = torch.rand(1, 128, 1, 1).expand(-1, -1, -1, 2)
    with torch.inference_mode():
        assert largest(one.output(one.pool[1](steps)), two.output(two.pool[1](steps))) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_gradient(name):
    net = network(name).train()
    net(images(187, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", ["musicnn_msd", "vgg_msd", "vgg_mtt"])  # musicnn_mtt has the same graph
def test_onnx_gives_the_same_logits(name, in_onnx):
    net, x = network(name), patches()
    exported = in_onnx(net, x)
    with torch.inference_mode():
        for some in (x[:1], x):
            assert largest(exported(some), net(some)) < 1e-4


def test_each_file_names_its_tags():
    tags = {name: load_tensors(WEIGHTS / f"{name}.safetensors")[1]["tags"] for name in NAMES}
    assert tags["musicnn_msd"] == tags["vgg_msd"]
    assert tags["musicnn_mtt"] == tags["vgg_mtt"]
    assert all(len(set(names)) == 50 for names in tags.values())
    assert {"sad", "happy", "party", "Mellow"} < set(tags["vgg_msd"])
    assert {"indian", "sitar", "slow", "loud"} < set(tags["vgg_mtt"])


@pytest.mark.parametrize("name", NAMES)
def test_inference_takes_a_shortcut_with_the_same_result(name):
    net, x = network(name), images(300, 3)
    with torch.no_grad():
        wanted = net.feature_map(x)
    with torch.inference_mode():
        assert largest(net.feature_map(x), wanted) < 1e-5 * float(wanted.abs().max())
