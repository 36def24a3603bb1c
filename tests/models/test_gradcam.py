"""Grad-CAM: for every network of the zoo with every head, right where it can be worked out by hand."""

import threading

import pytest
import torch

from mer.models.build import build_classifier
from mer.models.gradcam import grad_cam
from mer.models.heads import HEADS
from mer.models.zoo import ZOO
from mer.utils.errors import BackboneError
from tests.real_networks import example_images, real_classifier
from tests.tiny_backbone import TINY


@pytest.fixture(autouse=True)
def tiny_in_the_zoo(monkeypatch):
    monkeypatch.setitem(ZOO, "tiny", TINY)


def network(name="tiny", **options):
    return build_classifier(name, classes=3, weights="none", **options).eval()


@pytest.mark.parametrize("name", ZOO)
def test_every_network_has_a_map_of_bands_and_moments_with_every_head(name):
    images = example_images(name, width=96)
    for head in HEADS:
        model = real_classifier(name, classes=3, head=head).eval()
        with torch.inference_mode():
            features = model.backbone.feature_map(model.body, images)
        maps = torch.stack([grad_cam(model, images, target) for target in range(3 if head == "avg" else 1)])
        assert maps.shape[1:] == (2, *features.shape[2:]), head
        assert maps.isfinite().all(), head
        assert (maps >= 0).all(), head
        assert maps.any() or head != "avg"


def test_before_a_mean_and_a_linear_layer_the_map_is_that_of_the_layers_weights():
    # Zhou et al. (2016): there each channel's slope is its weight, divided by the number of places.
    model, images = network(), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = model.body.features(images)
        own = model.head.linear.weight[2]
        own -= (features * own[:, None, None]).sum(1).median() / features.sum(
            1
        ).median()  # some for, some against
        by_hand = torch.einsum("nkhw,k->nhw", features, own) / 64
    assert by_hand.min() < 0 < by_hand.max()
    torch.testing.assert_close(grad_cam(model, images, 2), by_hand.clamp_min(0))


@pytest.mark.parametrize("head", HEADS)
def test_gradients_equal_finite_differences(head):
    model, images, step = network(head=head).double(), torch.rand(1, 3, 32, 32).double(), 1e-6
    with torch.no_grad():
        features = model.body.features(images)

    def logit(values):
        hook = model.body.features.register_forward_hook(lambda *_: values)
        with torch.no_grad():
            found = model(images)[0, 1]
        hook.remove()
        return found

    slopes = []
    for channel in range(features.shape[1]):
        up = features.clone()
        up[0, channel] += step  # everywhere at once: the sum of the slopes
        slopes.append((logit(up) - logit(features)) / step / features[0, 0].numel())
    by_hand = torch.einsum("khw,k->hw", features[0], torch.stack(slopes)).clamp_min(0)
    torch.testing.assert_close(grad_cam(model, images, 1)[0], by_hand.float(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("freeze", ["head", "none"])
def test_the_network_is_unchanged_afterwards(freeze):
    model, images = network(freeze=freeze), torch.rand(1, 3, 32, 32)
    trains = [p.requires_grad for p in model.parameters()]
    with torch.inference_mode():
        before = model(images)
    assert grad_cam(model, images, 0).any() or grad_cam(model, images, 1).any()
    assert not any(module._forward_hooks for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == trains
    assert all(p.grad is None for p in model.parameters())
    with torch.inference_mode():
        assert torch.equal(model(images), before)


def test_the_hook_ignores_other_threads():
    model, images, others = network(), torch.rand(1, 3, 32, 32), torch.rand(2, 3, 32, 32)
    alone = grad_cam(model, images, 1)
    with torch.inference_mode():
        right, found = model(others), []

    def compute():
        with torch.inference_mode():
            found.append(model(others))

    def meanwhile(*_):
        hook.remove()
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()

    hook = model.body.features[0].register_forward_pre_hook(meanwhile)
    torch.testing.assert_close(grad_cam(model, images, 1), alone)
    assert torch.equal(found[0], right)


def test_a_network_whose_feature_map_is_not_known_is_refused_with_those_that_can():
    with pytest.raises(
        BackboneError, match=r"'mobilenet_v2' cannot be explained; choose one of: alexnet, vgg16"
    ):
        grad_cam(network("mobilenet_v2"), torch.rand(1, 3, 32, 32), 0)


def test_joined_networks_have_the_sum_of_their_maps():
    joined = build_classifier("vgg_msd+musicnn_msd", classes=3, weights="none", freeze="head").eval()
    images, width = (
        torch.rand(2, 3, 96, 187),
        joined.body.parts["vgg_msd"](torch.rand(1, 3, 96, 187)).shape[1],
    )
    found = grad_cam(joined, images, 1)
    with torch.no_grad():
        joined.head.linear.weight[:, :width] = 0
    music = grad_cam(joined, images, 1)
    assert found.shape == music.shape == (2, 6, 187)
    assert torch.allclose(music, music[:, :1].expand_as(music))  # musicnn's map has one row
    assert (found[:, 0] != found[:, 5]).any()  # that of the VGG has six
