"""Joined networks that take different spectrograms: each makes its own from the waveform."""

import numpy as np
import pytest
import torch

from mer.audio.mel import Standardizer, images
from mer.audio.resampling import resample
from mer.audio.transforms import EvalTransform
from mer.config.presets import preset
from mer.config.sections import Config
from mer.data.cache.descriptors import RATE, descriptors
from mer.inference.export import convert
from mer.inference.predictor import Predictor
from mer.models.build import build_classifier
from mer.models.card import Card
from mer.models.checkpoint import save_checkpoint
from mer.models.gradcam import grad_cam
from mer.models.joined import get_backbone
from mer.utils.errors import BackboneError, CheckpointError, ConfigError

NETWORKS = "musicnn_msd+efficientnet_lite0"
MIXED = f"{NETWORKS}+classical"
SHORT = {"window_seconds": 2.0, "hop_seconds": 1.0}


def heard(config: Config, waveform: np.ndarray) -> torch.Tensor:
    """The network input of a waveform by the settings of a run."""
    pictures = images(waveform, audio=config.audio, mel=config.mel)
    standardizer = Standardizer(per_window=config.train.standardize == "window")
    if config.train.standardize == "none":
        standardizer = Standardizer()
    return EvalTransform(standardizer)(torch.from_numpy(pictures))


def embedding(config: Config, waveform: np.ndarray) -> torch.Tensor:
    """Embeddings of a waveform's windows by the settings of a run."""
    train = config.train
    model = build_classifier(train.backbone, classes=2, weights=train.weights, freeze="head").eval()
    with torch.inference_mode():
        return model.embed(heard(config, waveform))


def saved(folder, backbone=MIXED):
    """A checkpoint of joined networks with a random head."""
    config = preset("default", backbone=backbone, **SHORT)
    model = build_classifier(backbone, classes=2, weights="own", freeze="head", solver="logistic")
    torch.nn.init.normal_(model.head.linear.weight, std=0.01)
    card = Card(config=config, classes=("Happy", "Sad"), normalization=Standardizer().to_dict())
    return save_checkpoint(folder, model, card)


def test_each_network_embeds_what_it_embeds_alone(sound):
    waveform = sound.chord(seconds=2.0)
    joined = embedding(preset("quick", backbone=NETWORKS, **SHORT), waveform)
    alone = [embedding(preset("quick", backbone=name, **SHORT), waveform) for name in NETWORKS.split("+")]
    assert torch.equal(joined, torch.cat(alone, dim=1))


def test_classical_stands_for_the_descriptors_of_the_window(sound):
    waveform = sound.chord(seconds=2.0)
    config = preset("quick", backbone=MIXED, **SHORT)
    found = embedding(config, waveform)[:, -229:]
    resampled = resample(waveform, rate=16_000, audio=config.audio.replace(sample_rate=RATE))
    assert np.allclose(found[0], descriptors(resampled), rtol=0.01, atol=0.5)


def test_the_weights_of_each_network_are_its_own():
    config = preset("default", backbone=MIXED)
    assert config.train.weights == "own"
    assert get_backbone(MIXED).source.parameters == sum(
        get_backbone(name).source.parameters for name in NETWORKS.split("+")
    )


def test_a_clip_is_predicted_the_same_at_any_place_in_a_batch(tmp_path, sound):
    network = Predictor(saved(tmp_path / "model"), device="cpu")
    found = network.predict_waveform(sound.chord(seconds=4.0))
    alone = network.predict_waveform(sound.chord(seconds=4.0)[16_000:48_000])
    assert found.windows[1].probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_networks_alone_can_be_exported_and_descriptors_cannot(tmp_path):
    assert convert(saved(tmp_path / "networks", NETWORKS), tmp_path / "model.pt2")["difference"] < 1e-3
    with pytest.raises(CheckpointError, match="'classical'\\) cannot be exported; convert a model without"):
        convert(saved(tmp_path / "model"), tmp_path / "other.pt2")
    assert not (tmp_path / "other.pt2").exists()


def test_they_cannot_be_explained_and_the_reason_is_given():
    model = build_classifier(NETWORKS, classes=2, weights="none", freeze="head").eval()
    with pytest.raises(BackboneError, match="its networks see different spectrograms; explain"):
        grad_cam(model, torch.zeros(1, 3, 1, 32_000), 0)


@pytest.mark.parametrize(
    ("backbone", "changes", "found"),
    [
        (
            NETWORKS,
            {"shape": "square"},
            "shape='square': the networks of musicnn_msd",
        ),
        (NETWORKS, {"shape": "square", "weights": "none"}, "use shape='waveform'"),
        (NETWORKS, {"weights": "music"}, "has no weights='music'; use weights='own'"),
        (NETWORKS, {"time_masks": 1}, "spectrograms from the same waveforms; use time_masks=0"),
        (NETWORKS, {"sample_rate": 22_050, "weights": "none"}, "waveforms; use sample_rate=16000"),
        ("resnet18", {"shape": "waveform"}, "shape='waveform' is for joined networks with different"),
        (
            "resnet18+panns_mobilenet",
            {},
            "panns_mobilenet takes 32000 Hz, and networks with",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(backbone, changes, found):
    with pytest.raises(ConfigError, match=found):
        preset("quick", backbone=backbone, **changes)


def test_descriptors_alone_are_no_network():
    with pytest.raises(BackboneError, match="unknown backbone 'classical'"):
        get_backbone("classical")


def test_going_back_to_one_network_brings_back_its_input():
    config = preset("quick").updated(backbone=MIXED)
    assert config.input_shape == (1, 160_000)
    assert config.updated(backbone="efficientnet_lite0", standardize="window") == preset("quick")
