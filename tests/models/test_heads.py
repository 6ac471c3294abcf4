"""Heads: their layers by hand, the uncertainty head, and Grad-CAM through each of them."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn import functional as F

from skyclass.core.errors import SkyclassError
from skyclass.explanation.gradcam import grad_cam
from skyclass.models.network import Network, build_network
from skyclass.recipes.model_settings import ModelSettings

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

HEADS = ("linear", "refined", "convolutional")
IMAGES = torch.rand(4, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def network_of(head: str, backbone: str = "resnet20_cifar", **changes: object) -> Network:
    """A random network in eval mode whose batch normalisations are no identities."""
    torch.manual_seed(0)
    network = build_network(ModelSettings(backbone=backbone, head=head, **changes), 3, 5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


def affine(x: Tensor, layer: nn.Linear) -> Tensor:
    return x @ layer.weight.T + layer.bias


def normalised(x: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, var, gain, bias = (
        one.reshape(shape) for one in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / torch.sqrt(var + norm.eps) * gain + bias


def refined_by_hand(network: Network, features: Tensor) -> Tensor:
    """What the head hands to its scores and to the uncertainty head."""
    head = network.head
    pooled = features.mean(dim=(2, 3))
    kind = type(head).__name__
    if kind == "LinearHead":
        return pooled
    layers = head.layers
    if kind == "RefinedHead":
        for start in (0, 4):
            pooled = normalised(affine(pooled, layers[start]), layers[start + 1]).relu()
        return pooled
    x = features
    for start in (0, 4, 8):
        x = normalised(F.conv2d(x, layers[start].weight, padding=1), layers[start + 1]).relu()
    return x.mean(dim=(2, 3))


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_logits_of_classes_and_of_the_error_by_hand(head: str) -> None:
    network = network_of(head, uncertainty=True)
    features = network.features(IMAGES)
    refined = refined_by_hand(network, features)
    gated = refined
    if head == "refined":
        first, _, second, _ = network.head.gate
        gated = refined * torch.sigmoid(affine(affine(refined, first).relu(), second))
    last = network.head[1] if head == "linear" else network.head.classes
    hidden, _, _, out = network.error_head
    found = network.head_output(features)
    torch.testing.assert_close(found.logits, affine(gated, last), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        found.error_logits, affine(affine(refined, hidden).relu(), out)[:, 0], atol=1e-5, rtol=1e-4
    )
    assert torch.equal(network.classify(features), found.logits)
    assert torch.equal(network(IMAGES), found.logits)


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(one.weight.shape) for one in module.modules() if isinstance(one, nn.Linear | nn.Conv2d)]


def test_the_sizes_are_the_published_ones() -> None:
    """512 -> 512 -> 512, a gate of 512 -> 256 -> 512; convolutions of 512, 256, 128 channels; 256 for errors."""
    refined = network_of("refined", "resnet18", uncertainty=True)
    assert shapes(refined.head) == [(512, 512), (512, 512), (256, 512), (512, 256), (5, 512)]
    assert shapes(refined.error_head) == [(256, 512), (1, 256)]
    convolutional = network_of("convolutional", "resnet18", uncertainty=True)
    assert shapes(convolutional.head) == [(512, 512, 3, 3), (256, 512, 3, 3), (128, 256, 3, 3), (5, 128)]
    assert shapes(convolutional.error_head) == [(256, 128), (1, 256)]
    assert shapes(network_of("linear", "resnet18", uncertainty=True).error_head) == [(256, 512), (1, 256)]


def test_weights_that_call_the_uncertainty_head_doubt_are_loaded() -> None:
    """As those of Skyclass 0.1 do."""
    network, other = network_of("linear", uncertainty=True), network_of("linear", uncertainty=True)
    nn.init.zeros_(other.error_head[0].weight)
    old = {name.replace("error_head.", "doubt."): value for name, value in network.state_dict().items()}
    assert sum(name.startswith("doubt.") for name in old) == 4
    other.load_state_dict(old)
    assert torch.equal(other.error_head[0].weight, network.error_head[0].weight)
    assert "error_head.0.weight" in other.state_dict()


@pytest.mark.parametrize("head", HEADS)
def test_without_an_uncertainty_head_there_are_no_error_logits_and_the_rest_is_the_same(head: str) -> None:
    plain, uncertain = network_of(head), network_of(head, uncertainty=True)
    assert (plain.error_head is None, uncertain.error_head is None) == (True, False)
    assert plain.head_output(plain.features(IMAGES)).error_logits is None
    names = set(plain.state_dict())
    assert {name for name in uncertain.state_dict() if not name.startswith("error_head.")} == names
    assert not any(name.startswith("error_head.") for name in names)


@pytest.mark.parametrize("head", HEADS)
def test_dropout_acts_in_training_only_in_the_head_and_in_the_uncertainty_head(head: str) -> None:
    features = network_of(head).features(IMAGES).detach()
    network = network_of(head, dropout=0.5, uncertainty=True)
    for one, other in zip(network.head_output(features), network.head_output(features), strict=True):
        assert torch.equal(one, other)
    network.train()
    for one, other in zip(network.head_output(features), network.head_output(features), strict=True):
        assert not torch.equal(one, other)
    plain = network_of(head, uncertainty=True).train()
    for one, other in zip(plain.head_output(features), plain.head_output(features), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_gets_a_gradient_from_the_logits_of_classes_and_of_the_error(head: str) -> None:
    network = network_of(head, uncertainty=True).train()
    logits, error_logits = network.head_output(network.features(IMAGES))
    (logits.square().sum() + error_logits.square().sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("uncertainty", [True, False])
def test_grad_cam_agrees_with_captum(head: str, uncertainty: bool) -> None:
    network = network_of(head, uncertainty=uncertainty)
    for k in range(5):
        targets = torch.full((len(IMAGES),), k)
        cam = LayerGradCam(network, network.backbone.layer3)
        expected = cam.attribute(IMAGES, targets, relu_attributions=True).detach()
        result = grad_cam(network.features, network.classify, IMAGES, targets)
        scale = float(expected.max()) or 1.0
        torch.testing.assert_close(result.maps, expected[:, 0], atol=1e-4 * scale, rtol=1e-3)
        torch.testing.assert_close(result.logits, network(IMAGES).detach())
    assert result.maps.shape == (4, 16, 12)


@pytest.mark.parametrize("head", HEADS)
def test_bfloat16_autocast_gives_float32_answers_near_the_exact_ones(head: str) -> None:
    network = network_of(head, uncertainty=True).to(memory_format=torch.channels_last)
    exact = network.head_output(network.features(IMAGES))
    with torch.autocast("cpu", torch.bfloat16):
        found = network.head_output(network.features(IMAGES))
        network.train()
        logits, error_logits = network.head_output(network.features(IMAGES))
    (logits.sum() + error_logits.sum()).backward()
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        assert not torch.equal(one, other)
        assert float((one - other).detach().abs().max()) < 0.1 * float(other.detach().abs().max()) + 0.02


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "test_resnet"])
@pytest.mark.parametrize("head", HEADS)
def test_heads_fit_backbones_that_pool_in_their_own_ways(backbone: str, head: str) -> None:
    network = network_of(head, backbone)
    assert network(IMAGES).shape == (4, 5)


def test_a_backbone_that_widens_its_pooled_features_has_another_width_for_the_map() -> None:
    for head, width in (("linear", 1024), ("convolutional", 576)):
        network = network_of(head, "mobilenetv3_small_100")
        assert shapes(network.head)[0][1] == width
        assert network(IMAGES).shape == (4, 5)


def test_a_backbone_without_a_map_is_refused_by_the_convolutional_head() -> None:
    network = build_network(ModelSettings(backbone="test_vit", head="convolutional"), 3, 2)
    with pytest.raises(SkyclassError, match="needs a feature map") as refusal:
        network(torch.rand(2, 3, 160, 160))
    assert refusal.value.where == "model.head"
    assert build_network(ModelSettings(backbone="test_vit", head="refined"), 3, 2)(torch.rand(2, 3, 160, 160)).shape


def test_one_image_in_training_is_refused_where_the_head_normalises_over_the_batch() -> None:
    network = network_of("refined")
    assert network(IMAGES[:1]).shape == (1, 5)  # in evaluation it is welcome
    with pytest.raises(SkyclassError, match="holds a single image") as refusal:
        network.train()(IMAGES[:1])
    assert refusal.value.where == "training.batch_size"
    network = network_of("convolutional").train()
    assert network(IMAGES[:1]).shape == (1, 5)  # its map has many pixels
    with pytest.raises(SkyclassError, match="holds a single image"):
        network.classify(torch.rand(1, 64, 1, 1))
    assert network_of("linear").train()(IMAGES[:1]).shape == (1, 5)
