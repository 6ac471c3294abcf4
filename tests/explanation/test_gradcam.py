"""Grad-CAM against captum, and what it must leave alone."""

from collections.abc import Callable

import pytest
import timm
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from skyclass.core.errors import SkyclassError
from skyclass.explanation.gradcam import ClassMaps, Layer, grad_cam, heatmaps

N_CLASSES = 4


class Classify(nn.Module):
    """From the feature map to the logits, by the path that the network itself takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return self.network.forward_head(features)


def residual_network(name: str = "resnet10t") -> nn.Module:
    """A random network in eval mode whose batch normalisation is not the identity."""
    torch.manual_seed(1)
    network = timm.create_model(name, pretrained=False, num_classes=N_CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return residual_network()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(4, 3, 64, 48, generator=torch.Generator().manual_seed(2))


def captum_maps(network: nn.Module, images: Tensor, targets: Tensor, layer: str = "layer4") -> Tensor:
    maps = LayerGradCam(network, network.get_submodule(layer)).attribute(images, targets, relu_attributions=True)
    return maps.detach()[:, 0]  # (N, 1, h, w) -> (N, h, w)


@pytest.mark.parametrize("name", ["resnet10t", "resnet18"])
def test_every_class_agrees_with_captum(name: str, images: Tensor) -> None:
    network = residual_network(name)
    positive = 0
    for k in range(N_CLASSES):
        targets = torch.full((len(images),), k)
        result = grad_cam(network.forward_features, Classify(network), images, targets)
        expected = captum_maps(network, images, targets)
        assert result.maps.shape == (4, 2, 2)  # 64 x 48 over a stride of 32, rounded up
        torch.testing.assert_close(result.maps, expected, atol=1e-4 * float(expected.max()), rtol=1e-4)
        torch.testing.assert_close(result.logits, network(images).detach())
        positive += int((expected > 0).sum())
    assert positive >= 8  # rectified away, all maps agree


def test_a_head_with_layers_agrees_with_captum(network: nn.Module, images: Tensor) -> None:
    torch.manual_seed(3)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
    ).eval()
    whole = nn.Sequential(nn.Sequential(*list(network.children())[:-2]), head)
    targets = torch.tensor([0, 1, 2, 1])
    expected = LayerGradCam(whole, whole[0]).attribute(images, targets, relu_attributions=True).detach()[:, 0]
    result = grad_cam(whole[0], head, images, targets)
    torch.testing.assert_close(result.maps, expected, atol=1e-4 * float(expected.max()), rtol=1e-4)


def at_layer(network: nn.Module, name: str, images: Tensor, targets: Tensor | None = None) -> ClassMaps:
    layer = Layer(name, network.get_submodule(name))
    return grad_cam(network.forward_features, Classify(network), images, targets, layer)


@pytest.mark.parametrize(
    ("name", "size"),
    [("layer3", (4, 3)), ("layer2.0", (8, 6)), ("layer2.0.conv2", (8, 6)), ("bn1", (32, 24)), ("maxpool", (16, 12))],
)
def test_any_layer_agrees_with_captum(name: str, size: tuple[int, int], network: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([3, 0, 2, 1])
    result = at_layer(network, name, images, targets)
    expected = captum_maps(network, images, targets, name)
    assert result.maps.shape == (4, *size)
    assert (expected > 0).sum() >= 5  # rectified away, all maps agree
    torch.testing.assert_close(result.maps, expected, atol=1e-4 * float(expected.max()), rtol=1e-4)
    torch.testing.assert_close(result.logits, network(images).detach())


def test_the_last_layer_is_the_feature_map_itself(network: nn.Module, images: Tensor) -> None:
    expected = grad_cam(network.forward_features, Classify(network), images)
    found = at_layer(network, "layer4", images)
    torch.testing.assert_close(found.maps, expected.maps)
    assert torch.equal(found.targets, expected.targets)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_layer_is_explained_in_one_pass_with_no_graph_before_it(
    mode: Callable[[], torch.no_grad], images: Tensor
) -> None:
    network = residual_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = at_layer(network, "layer2", images)
    seen: dict[str, list[bool]] = {"layer1": [], "layer3": []}
    for name, calls in seen.items():
        network.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, calls=calls: calls.append(out.requires_grad)
        )
    with mode():
        enabled = torch.is_grad_enabled()
        result = at_layer(network, "layer2", images * 1.0, expected.targets * 1)
        assert torch.is_grad_enabled() == enabled
    assert torch.equal(result.maps, expected.maps)
    assert seen == {"layer1": [False], "layer3": [True]}
    assert not network.layer2._forward_hooks
    assert not result.maps.requires_grad
    assert not result.logits.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("backbone", "name", "message"),
    [
        (
            "resnet10t",
            "global_pool",
            r"layer: global_pool gives no feature map \(.*\), but \(4, 512\); name a layer of",
        ),
        ("vit_tiny_patch16_224", "blocks.3", r"blocks.3 gives no feature map .*, but \(4, 13, 192\)"),
        ("swin_tiny_patch4_window7_224", "layers.1", r"layers.1 gives no feature map .*, but \(4, 8, 6, 192\)"),
    ],
)
def test_a_layer_without_a_feature_map_is_refused(backbone: str, name: str, message: str, images: Tensor) -> None:
    sized = {"img_size": (64, 48)} if backbone[0] in "vs" else {}
    network = timm.create_model(backbone, pretrained=False, num_classes=N_CLASSES, **sized).eval()
    with pytest.raises(SkyclassError, match=message):
        at_layer(network, name, images)
    assert not network.get_submodule(name)._forward_hooks
    assert torch.is_grad_enabled()


def test_a_layer_that_does_not_run_exactly_once_is_refused(images: Tensor) -> None:
    twice, never = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
    for module, count in ((twice, 2), (never, 0)):
        with pytest.raises(
            SkyclassError, match=f"layer: conv runs {count} times for an image; name one that runs once"
        ):
            grad_cam(lambda x: twice(twice(x)), lambda x: x.mean(dim=(2, 3)), images, None, Layer("conv", module))


def test_what_an_identity_hands_on_and_is_used_elsewhere_stays_as_it_was() -> None:
    features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(4))
    identity = nn.Identity()
    layer = Layer("identity", identity)
    plain = grad_cam(lambda x: identity(x).relu() + x, lambda x: x.mean(dim=(2, 3)), features, None, layer)
    in_place = grad_cam(lambda x: identity(x).relu_() + x, lambda x: x.mean(dim=(2, 3)), features, None, layer)
    assert torch.equal(plain.maps, in_place.maps)
    assert (plain.maps > 0).any()


def test_the_predicted_class_is_explained_by_default(network: nn.Module, images: Tensor) -> None:
    result = grad_cam(network.forward_features, Classify(network), images)
    predicted = network(images).argmax(dim=1)
    assert torch.equal(result.targets, predicted)
    again = grad_cam(network.forward_features, Classify(network), images, predicted)
    assert torch.equal(result.maps, again.maps)
    other = grad_cam(network.forward_features, Classify(network), images, (predicted + 1) % N_CLASSES)
    assert not torch.allclose(result.maps, other.maps)


def test_a_batch_is_its_images_one_by_one(network: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([3, 0, 2, 1])
    batch = grad_cam(network.forward_features, Classify(network), images, targets)
    for i in range(len(images)):
        single = grad_cam(network.forward_features, Classify(network), images[i : i + 1], targets[i : i + 1])
        torch.testing.assert_close(single.maps[0], batch.maps[i])


def test_a_frozen_backbone_is_explained_alike(images: Tensor) -> None:
    network = residual_network()
    expected = grad_cam(network.forward_features, Classify(network), images)
    network.requires_grad_(False)
    frozen = grad_cam(network.forward_features, Classify(network), images)
    assert torch.equal(frozen.maps, expected.maps)


def test_parameters_buffers_and_modes_are_left_alone(images: Tensor) -> None:
    network = residual_network()
    network.fc.weight.grad = torch.full_like(network.fc.weight, 7.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = images.clone()
    grad_cam(network.forward_features, Classify(network), images)
    assert (network.fc.weight.grad == 7.0).all()
    assert all(p.grad is None for name, p in network.named_parameters() if name != "fc.weight")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert images.grad is None
    assert not images.requires_grad


def test_the_backbone_runs_without_a_graph(network: nn.Module, images: Tensor) -> None:
    seen: list[tuple[bool, bool]] = []

    def spy(batch: Tensor) -> Tensor:
        output = network.forward_features(batch)
        seen.append((torch.is_grad_enabled(), output.grad_fn is None))
        return output

    result = grad_cam(spy, Classify(network), images)
    assert seen == [(False, True)]
    assert torch.is_grad_enabled()
    assert not result.maps.requires_grad
    assert not result.logits.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_switched_off(
    mode: Callable[[], torch.no_grad], network: nn.Module, images: Tensor
) -> None:
    expected = grad_cam(network.forward_features, Classify(network), images)
    with mode():
        result = grad_cam(network.forward_features, Classify(network), images * 1.0)
        features = network.forward_features(images)
        cached = grad_cam(lambda batch: batch, Classify(network), features, expected.targets * 1)
    assert torch.equal(result.maps, expected.maps)
    assert torch.equal(cached.maps, expected.maps)


def test_a_head_that_works_in_place_is_explained_alike() -> None:
    features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(4))
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(5))
    plain = grad_cam(lambda x: x, lambda x: torch.relu(x).mean(dim=(2, 3)) @ weight, features)
    in_place = grad_cam(lambda x: x, lambda x: torch.relu_(x).mean(dim=(2, 3)) @ weight, features)
    assert torch.equal(plain.maps, in_place.maps)


def test_bfloat16_and_channels_last_give_float32_maps_close_to_the_exact_ones(images: Tensor) -> None:
    network = residual_network()
    targets = torch.tensor([0, 1, 2, 3])
    exact = grad_cam(network.forward_features, Classify(network), images, targets)
    reordered = grad_cam(
        network.to(memory_format=torch.channels_last).forward_features,
        Classify(network),
        images.to(memory_format=torch.channels_last),
        targets,
    )
    torch.testing.assert_close(reordered.maps, exact.maps, atol=1e-4 * float(exact.maps.max()), rtol=1e-4)
    half = grad_cam(network.bfloat16().forward_features, Classify(network), images.bfloat16(), targets)
    assert half.maps.dtype == torch.float32
    assert half.logits.dtype == torch.bfloat16
    assert (half.maps - exact.maps).abs().max() < 0.1 * exact.maps.max()


def test_autocast_gives_float32_maps_close_to_the_exact_ones(network: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([0, 1, 2, 3])
    exact = grad_cam(network.forward_features, Classify(network), images, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = grad_cam(network.forward_features, Classify(network), images, targets)
    assert result.maps.dtype == torch.float32
    assert not torch.equal(result.maps, result.maps.bfloat16().float())  # not rounded to 8 bits on the way
    assert (result.maps - exact.maps).abs().max() < 0.1 * exact.maps.max()


def test_by_hand() -> None:
    """Two channels, pooled by a mean over 6 pixels, then weighted 6 and -12: alpha is 1 and -2."""
    features = torch.arange(12.0).reshape(1, 2, 2, 3).flip(1)  # channels 6..11 and 0..5
    result = grad_cam(lambda x: x, lambda x: x.mean(dim=(2, 3)) @ torch.tensor([[6.0], [-12.0]]), features)
    # relu((6 + i) - 2 i) = 6 - i
    torch.testing.assert_close(result.maps, torch.tensor([[[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]]))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 1]), "for 4 images"),
        (torch.tensor([0, 1, 2, 4]), "outside 0 to 3"),
        (-torch.ones(4), "outside"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Tensor, message: str, network: nn.Module, images: Tensor) -> None:
    with pytest.raises(SkyclassError, match=message):
        grad_cam(network.forward_features, Classify(network), images, targets)


def test_features_without_height_and_width_are_refused(images: Tensor) -> None:
    with pytest.raises(SkyclassError, match="need a feature map"):
        grad_cam(lambda x: x.flatten(2), lambda x: x.mean(dim=2), images)
    with pytest.raises(SkyclassError, match=r"need a feature map .* not \(4, 64, 48, 3\)"):  # as of a Swin transformer
        grad_cam(lambda x: x.permute(0, 2, 3, 1), lambda x: x.mean(dim=(1, 2)), images)


def test_heatmaps_are_enlarged_and_peak_at_one() -> None:
    maps = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(6)) * 1e-3
    maps[1] = 0.0
    maps[2] *= 1e6
    heat = heatmaps(maps, (64, 48))
    assert heat.shape == (3, 64, 48)
    assert heat.dtype == torch.float32
    torch.testing.assert_close(heat.amax(dim=(1, 2)), torch.tensor([1.0, 0.0, 1.0]))
    assert heat.min() >= 0.0
    torch.testing.assert_close(heatmaps(1000.0 * maps, (64, 48)), heat)


def test_heatmaps_put_the_peak_where_it_was() -> None:
    maps = torch.zeros(1, 2, 3)
    maps[0, 1, 2] = 5.0
    row, column = divmod(int(heatmaps(maps, (20, 60)).argmax()), 60)
    assert row >= 14  # the lower half, past the centre of its cell
    assert column >= 49
    same_size = torch.rand(2, 7, 9, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(heatmaps(same_size, (7, 9)), same_size / same_size.amax(dim=(1, 2), keepdim=True))
