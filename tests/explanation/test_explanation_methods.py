"""Grad-CAM++, Layer-CAM and integrated gradients against plain implementations on the graph of the whole network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from skyclass.core.errors import SkyclassError
from skyclass.explanation.gradcam import Layer, grad_cam_plus_plus, layer_cam
from skyclass.explanation.methods import METHODS, STEPS, integrated_gradients, method_called


class Toy(nn.Module):
    """Two convolutions, and a head whose gradient differs from pixel to pixel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(2, 5, 3, stride=2), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), nn.Linear(36, 16), nn.Tanh())
        self.head.append(nn.Linear(16, 3))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(images))
        return scores


@pytest.fixture(scope="module")
def network() -> Toy:
    return Toy().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(4, 2, 20, 28, generator=torch.Generator().manual_seed(2))


TARGETS = torch.tensor([0, 2, 1, 2])


def plain_gradient(network: Toy, image: Tensor, target: int, layer: nn.Module) -> tuple[np.ndarray, np.ndarray, float]:
    """A (F, h, w), dy/dA, and y, of one image: one backward pass through the whole graph."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    hook = layer.register_forward_hook(keep)
    y = network(image[None])[0, target]
    y.backward()
    hook.remove()
    assert kept[0].grad is not None
    return kept[0].detach()[0].numpy(), kept[0].grad[0].numpy(), float(y.detach())


def plain_grad_cam_plus_plus(activation: np.ndarray, gradient: np.ndarray, y: float) -> np.ndarray:
    """The equations of the paper, with its exp(y): first, second and third derivatives of exp(y)."""
    first, second, third = (np.exp(y) * gradient**k for k in (1, 2, 3))
    sums = activation.sum(axis=(1, 2))[:, None, None]
    denominator = 2.0 * second + sums * third
    alpha = np.divide(second, denominator, out=np.zeros_like(second), where=denominator != 0)
    weights = (alpha * np.maximum(first, 0.0)).sum(axis=(1, 2))
    return np.maximum(np.tensordot(weights, activation, axes=1), 0.0) / np.exp(y)


def plain_layer_cam(activation: np.ndarray, gradient: np.ndarray, _: float) -> np.ndarray:
    return np.maximum((np.maximum(gradient, 0.0) * activation).sum(axis=0), 0.0)


@pytest.mark.parametrize(
    ("ours", "plain"), [(grad_cam_plus_plus, plain_grad_cam_plus_plus), (layer_cam, plain_layer_cam)]
)
def test_maps_are_those_of_the_equations(
    ours: Callable[..., tuple[Tensor, ...]], plain: Callable[..., np.ndarray], network: Toy, images: Tensor
) -> None:
    for layer, size in ((network.body, (7, 11)), (network.body[1], (9, 13))):
        place = None if layer is network.body else Layer("1", layer)
        maps, logits, targets = ours(network.body, network.head, images, TARGETS, place)
        expected = np.stack([plain(*plain_gradient(network, images[i], int(TARGETS[i]), layer)) for i in range(4)])
        assert maps.shape == (4, *size)
        assert expected.max() > 0
        np.testing.assert_allclose(maps.numpy(), expected, rtol=1e-4, atol=1e-5 * expected.max())
        torch.testing.assert_close(logits, network(images).detach())
        assert torch.equal(targets, TARGETS)


def test_grad_cam_plus_plus_stays_finite_where_activations_are_negative() -> None:
    features = torch.tensor([[[[-1.0, -3.0]], [[2.0, 1.0]]]])  # (1, 2, 1, 2); the first channel's sum is -4
    result = grad_cam_plus_plus(lambda x: x, lambda x: x.sum(dim=(2, 3)) @ torch.tensor([[0.5], [1.0]]), features)
    # weights: 2 pixels of 0.5 / 2, and 2 pixels of 1 / (2 + 3)
    torch.testing.assert_close(result.maps, torch.tensor([[[-0.5 + 0.8, 0.0]]]))


def test_integrated_gradients_are_the_plain_sum_along_the_path(network: Toy, images: Tensor) -> None:
    result = integrated_gradients(network.body, network.head, images, TARGETS)
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    total = torch.zeros_like(images)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        batch = (images * float(point)).requires_grad_()
        score = network(batch)[torch.arange(4), TARGETS].sum()
        total += float(weight) * torch.autograd.grad(score, batch)[0]
    attribution = total * images
    change = network(images) - network(torch.zeros_like(images))
    torch.testing.assert_close(  # completeness
        attribution.sum(dim=(1, 2, 3)), change.detach()[torch.arange(4), TARGETS], atol=0.02, rtol=0.05
    )
    expected = gaussian_filter(attribution.abs().sum(dim=1).numpy(), (0, 1, 1), mode="mirror", radius=(0, 3, 3))
    assert result.maps.shape == (4, 20, 28)
    np.testing.assert_allclose(result.maps.numpy(), expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_integrated_gradients_compute_a_batch_at_a_time(network: Toy, images: Tensor) -> None:
    sizes: list[int] = []

    def body(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        out: Tensor = network.body(batch)
        return out

    integrated_gradients(body, network.head, images, TARGETS)
    assert max(sizes) == len(images)
    assert len(sizes) > STEPS


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_the_prediction_alone_and_in_batches_and_leaves_the_network(
    name: str, images: Tensor
) -> None:
    network = Toy().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    explain = method_called(name)
    batch = explain(network.body, network.head, images, None)
    assert torch.equal(batch.targets, network(images).argmax(dim=1))
    assert batch.maps.dtype == torch.float32
    assert batch.maps.min() >= 0
    assert batch.maps.max() > 0
    assert not batch.maps.requires_grad
    other = explain(network.body, network.head, images, (batch.targets + 1) % 3)
    assert not torch.allclose(other.maps, batch.maps)
    with torch.inference_mode():
        single = explain(network.body, network.head, images[1:2] * 1.0, batch.targets[1:2])
    torch.testing.assert_close(single.maps[0], batch.maps[1])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(SkyclassError, match="targets of shape"):
        explain(network.body, network.head, images, TARGETS[:2])


def test_an_unknown_method_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(SkyclassError, match=r"called 'lime'; the methods are gradcam, gradcam\+\+, layercam, integ"):
        method_called("lime")
