"""Folded batch normalisations: the same function, and only where it is safe."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from skyclass.models.batchnorm import folded
from skyclass.models.network import Network, build_network
from skyclass.recipes.model_settings import ModelSettings


def network(backbone: str, head: str = "linear") -> Network:
    """A random network in eval mode whose batch normalisations are far from the identity."""
    torch.manual_seed(0)
    built = build_network(ModelSettings(backbone=backbone, head=head, weights="none"), 3, 4)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return built.eval()


def n_norms(module: nn.Module) -> int:
    return sum(isinstance(one, nn.BatchNorm2d) for one in module.modules())


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 48, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("backbone", "head", "left"),
    [
        ("resnet20_cifar", "linear", 0),
        ("resnet18", "convolutional", 0),
        ("resnet10t", "linear", 0),
        ("mobilenetv3_small_050", "linear", 0),  # its normalisations hold the activations
        ("densenet121", "linear", None),  # most of its normalisations come before their convolutions
        ("convnext_atto", "linear", 0),  # it has none
    ],
)
def test_a_folded_network_gives_the_same_scores(backbone: str, head: str, left: int | None, images: Tensor) -> None:
    original = network(backbone, head)
    before = {name: value.clone() for name, value in original.state_dict().items()}
    fast = folded(original, images[:1])
    if left is None:
        assert 0 < n_norms(fast) < n_norms(original)
    else:
        assert n_norms(fast) == left
    with torch.no_grad():
        expected, features = original(images), original.features(images)
        torch.testing.assert_close(fast(images), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
        found = fast.features(images)
    torch.testing.assert_close(found, features, rtol=1e-3, atol=1e-4 * float(features.abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in fast.modules())


def output_of(net: Network, name: str, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = net.get_submodule(name).register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    with torch.no_grad():
        net(images)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("backbone", "layer", "left"),
    [
        ("resnet18", "layer3", 0),
        ("resnet18", "layer3.0.conv1", 1),  # only this pair stays
        ("resnet18", "layer3.0.bn1", 0),
        ("resnet18", "layer3.0.downsample", 0),
        ("mobilenetv3_small_050", "bn1", 0),
        ("mobilenetv3_small_050", "bn1.act", 1),  # folded, the module of that name would be gone
        ("densenet121", "features.denseblock1.denselayer1.conv1", None),
    ],
)
def test_a_layer_that_is_kept_gives_what_it_gave(backbone: str, layer: str, left: int | None, images: Tensor) -> None:
    original, name = network(backbone), f"backbone.{layer}"
    fast = folded(original, images[:1], name)
    assert n_norms(fast) == left or (left is None and 0 < n_norms(fast) < n_norms(original))
    expected = output_of(original, name, images)
    torch.testing.assert_close(
        output_of(fast, name, images), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )


class Tricky(nn.Module):
    """A convolution whose result is used twice, one that runs twice, and one that may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.twice, self.shared = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.good, self.folds = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.num_features = self.head_hidden_size = 8

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = torch.relu_(self.norm(x)) + x
        x = self.shared(self.twice(self.shared(self.twice(x))))
        made: Tensor = self.folds(self.good(x))
        return made.relu()

    def forward_head(self, x: Tensor, pre_logits: bool = True) -> Tensor:
        return x.mean(dim=(2, 3))


def tricky() -> Network:
    built = network("resnet20_cifar")
    torch.manual_seed(2)
    built.backbone = Tricky()
    built.head = nn.Linear(8, 4)  # type: ignore[assignment]
    built.head.takes_map, built.head.refine, built.head.score = False, nn.Identity(), built.head.forward
    for norm in (built.backbone.norm, built.backbone.shared, built.backbone.folds):
        nn.init.normal_(norm.running_mean, std=0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return built.eval()


def test_only_a_result_that_goes_nowhere_else_is_folded(images: Tensor) -> None:
    original = tricky()
    fast = folded(original, images[:1])
    assert [isinstance(getattr(fast.backbone, name), nn.Identity) for name in ("norm", "shared", "folds")] == [
        False,
        False,
        True,
    ]
    with torch.no_grad():
        torch.testing.assert_close(fast.features(images), original.features(images), rtol=1e-4, atol=1e-4)


def test_a_convolution_that_changes_its_weights_on_the_way_is_not_folded(images: Tensor) -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
            return self._conv_forward(x, weight, self.bias)

    changed = network("resnet20_cifar")
    first = next(module for module in changed.modules() if isinstance(module, nn.Conv2d))
    first.__class__ = Standardised
    fast = folded(changed, images[:1])
    assert n_norms(fast) == 1
    with torch.no_grad():
        torch.testing.assert_close(fast(images), changed(images), rtol=1e-3, atol=1e-4)
