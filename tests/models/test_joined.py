"""Several frozen networks joined: one embedding, made of theirs."""

import json

import pytest
import torch

from mer.config.presets import preset
from mer.config.sections import Config, TrainConfig
from mer.models.build import build_classifier
from mer.utils.errors import BackboneError, ConfigError

PAIR = "musicnn_msd+vgg_mtt"
FROZEN = {"freeze": "head", "weights": "music", "classes": 3}


def test_the_embedding_is_that_of_each_network_in_order():
    x = torch.rand(2, 3, 96, 128)
    with torch.inference_mode():
        parts = [build_classifier(name, **FROZEN).eval().embed(x) for name in PAIR.split("+")]
        joined = build_classifier(PAIR, **FROZEN).eval()
        assert torch.equal(joined.embed(x), torch.cat(parts, dim=1))
    assert joined.head.linear.in_features == 200 + 128


def test_only_the_head_trains():
    model = build_classifier(PAIR, **FROZEN).train()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "head.linear.weight",
        "head.linear.bias",
    }
    assert not model.body.training


def test_networks_for_images_can_be_joined_too():
    model = build_classifier("alexnet+resnet18", classes=2, weights="none", freeze="head").eval()
    with torch.inference_mode():
        assert model.embed(torch.rand(1, 3, 64, 64)).shape == (1, 4096 + 512)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"freeze": "none"}, "joined networks are frozen; instead of freeze='none' with head='avg'"),
        ({"freeze": "head", "head": "gru"}, "with head='gru' use freeze='head' with head='avg'"),
    ],
)
def test_joined_networks_are_frozen_and_pooled(changes, found):
    with pytest.raises(ConfigError, match=found):
        TrainConfig(backbone=PAIR, **changes)


def test_a_network_is_joined_once():
    with pytest.raises(ConfigError, match="names a network twice; name each once"):
        TrainConfig(backbone="resnet18+resnet18", freeze="head")


def test_an_unknown_network_is_named():
    with pytest.raises(BackboneError, match="unknown backbone 'vgg_mst'"):
        build_classifier("vgg_msd+vgg_mst", **FROZEN)


# --- the input that weights bring ---------------------------------------------------------------------


def test_choosing_a_network_for_music_chooses_its_input():
    config = preset("quick").updated(backbone="vgg_msd")
    assert (config.mel.n_fft, config.mel.n_mels, config.mel.compression) == (512, 96, "log")
    assert (config.train.weights, config.train.standardize, config.train.head) == ("music", "none", "avg")
    assert config.input_shape == (96, 626)


def test_going_back_to_a_network_for_images_brings_back_the_usual_input():
    config = preset("quick")
    there = config.updated(backbone="musicnn_mtt")
    back = there.updated(backbone=config.train.backbone, standardize=config.train.standardize)
    assert back == config


def test_from_one_network_for_music_to_another_what_was_chosen_stays():
    config = preset("quick").updated(backbone="vgg_msd", window_seconds=5.0, hop_seconds=2.5, head="gru")
    other = config.updated(backbone="musicnn_msd")
    assert other.train.head == "gru"
    assert other.audio.window_seconds == 5


@pytest.mark.parametrize("changes", [{"n_fft": 1024}, {"sample_rate": 22050}, {"standardize": "window"}])
def test_another_input_is_refused_unless_the_weights_are_random(changes):
    ((name, value),) = changes.items()
    with pytest.raises(
        ConfigError, match=rf"{name}={value!r}: the weights of vgg_msd were trained with {name}="
    ):
        preset("quick").updated(backbone="vgg_msd", **changes)
    assert preset("quick").updated(backbone="vgg_msd", weights="none", **changes).train.weights == "none"


@pytest.mark.parametrize(("backbone", "weights"), [("vgg_msd", "imagenet"), ("resnet18", "music")])
def test_weights_that_a_network_does_not_have_are_refused(backbone, weights):
    with pytest.raises(ConfigError, match=f"backbone '{backbone}' has no weights='{weights}'; use weights='"):
        Config().updated(backbone=backbone, weights=weights)


def test_there_are_no_imagenet_outputs_to_keep():
    with pytest.raises(ConfigError, match="'vgg_msd' has no ImageNet outputs to keep; use outputs='classes'"):
        Config().updated(backbone="vgg_msd", outputs="imagenet")


def test_settings_stored_before_there_were_other_inputs_mean_the_same():
    stored = json.loads(Config().to_json())
    for name in ("compression", "padding", "shape"):
        del stored["mel"][name]
    assert Config.from_dict(stored) == Config()
    assert stored["mel"] == Config().mel.to_key()
