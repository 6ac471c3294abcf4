"""Gradient checkpointing changes memory and time, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from skyclass.core.errors import SkyclassError
from skyclass.models.fine_tuning import freeze
from skyclass.models.gradient_checkpointing import checkpoint_blocks, residual_blocks
from skyclass.models.network import Network, build_network
from skyclass.recipes.model_settings import ModelSettings

BACKBONES = {
    "resnet20_cifar": 9,
    "resnet18": 8,
    "resnet26": 8,  # bottlenecks
    "test_resnet": 4,
    "test_efficientnet": 4,
    "test_convnext": 9,
    "regnetx_002": 13,
}
IMAGES = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def network_of(backbone: str, **changes: object) -> Network:
    torch.manual_seed(0)
    return build_network(ModelSettings(backbone=backbone, **changes), 3, 4)


def steps(network: Network, images: Tensor = IMAGES) -> tuple[list[Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Outputs of two training steps and one in eval, the last gradients, and the tensors afterwards."""
    torch.manual_seed(3)  # of the dropout
    optimizer = torch.optim.SGD([one for one in network.parameters() if one.requires_grad], lr=0.01)
    outputs = []
    for _ in range(2):
        optimizer.zero_grad()
        logits = network.train()(images)
        nn.functional.cross_entropy(logits, torch.arange(len(images))).backward()
        optimizer.step()
        outputs.append(logits.detach())
    outputs.append(network.eval()(images).detach())
    gradients = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
    return outputs, gradients, dict(network.state_dict())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_outputs_gradients_and_running_statistics_are_the_same(backbone: str) -> None:
    plain = network_of(backbone, head="refined", dropout=0.3)
    other = copy.deepcopy(plain)
    assert checkpoint_blocks(other) == BACKBONES[backbone]
    expected, found = steps(plain), steps(other)
    for one, two in zip(expected[0], found[0], strict=True):
        assert torch.equal(one, two)
    for one, two in zip(expected[1:], found[1:], strict=True):
        assert list(one) == list(two)
        for name in one:
            assert torch.equal(one[name], two[name]), name
    counts = [value for name, value in found[2].items() if name.endswith("num_batches_tracked")]
    assert len(counts) >= 2  # those of the head at least
    assert set(map(int, counts)) == {2}


def test_dropout_inside_the_blocks_repeats_itself() -> None:
    torch.manual_seed(0)
    plain = network_of("test_convnext")
    for block in residual_blocks(plain.backbone):
        block.mlp.drop1 = nn.Dropout(0.5)
    other = copy.deepcopy(plain)
    checkpoint_blocks(other)
    expected, found = steps(plain), steps(other)
    for name, gradient in expected[1].items():
        assert torch.equal(gradient, found[1][name]), name


@contextmanager
def counted(network: Network) -> Iterator[list[int]]:
    """Runs of a convolution in each block."""
    runs = [0]

    def hook(*_: object) -> None:
        runs[0] += 1

    handles = [block.conv1.register_forward_hook(hook) for block in residual_blocks(network.backbone)]
    yield runs
    for handle in handles:
        handle.remove()


def test_blocks_run_twice_in_training_with_gradients_and_once_otherwise() -> None:
    network = network_of("resnet20_cifar")
    n_blocks = checkpoint_blocks(network)
    with counted(network) as runs:
        network.train()(IMAGES).sum().backward()
        assert runs == [2 * n_blocks]
    with counted(network) as runs:
        network.eval()(IMAGES).sum().backward()
        assert runs == [n_blocks]
    with counted(network) as runs, torch.no_grad():
        network.train()(IMAGES)
        assert runs == [n_blocks]


def kept_bytes(network: Network, images: Tensor) -> int:
    """Bytes that the graph keeps for the backward pass, parameters aside."""
    kept: dict[int, int] = {}
    own = {one.data_ptr() for one in network.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = network.train()(images).sum()
    loss.backward()
    return sum(kept.values())


def test_the_published_network_keeps_less_for_the_backward_pass() -> None:
    """SYSTEMS, 2, at a small size: refined head, uncertainty head, checkpointed residual blocks."""
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(2))
    plain = network_of("resnet18", head="refined", uncertainty=True, dropout=0.3)
    other = copy.deepcopy(plain)
    checkpoint_blocks(other)
    # Most of what is left is the stem, which stands before the blocks.
    assert kept_bytes(other, images) < 0.6 * kept_bytes(plain, images)


def test_a_copy_runs_its_own_layers() -> None:
    """Averaged weights and the learning-rate finder work on copies."""
    network = network_of("resnet20_cifar")
    checkpoint_blocks(network)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.backbone.layer2.parameters():
            parameter.zero_()
    assert not torch.allclose(twin.train()(IMAGES), network.train()(IMAGES))
    twin(IMAGES).sum().backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert twin.backbone.layer1[0].conv1.weight.grad is not None


def test_what_is_frozen_stays_as_it_is() -> None:
    network = network_of("resnet20_cifar")
    freeze(network, ["conv1", "bn1", "layer1", "layer2.0"])
    checkpoint_blocks(network)
    before = {name: value.clone() for name, value in network.backbone.layer1.state_dict().items()}
    steps(network)
    assert all(torch.equal(value, before[name]) for name, value in network.backbone.layer1.state_dict().items())
    assert network.backbone.layer2[1].conv1.weight.grad is not None


def test_bfloat16_repeats_in_bfloat16() -> None:
    plain = network_of("resnet20_cifar")
    other = copy.deepcopy(plain)
    checkpoint_blocks(other)
    gradients = []
    for network in (plain, other):
        with torch.autocast("cpu", torch.bfloat16):
            loss = network.train()(IMAGES).square().sum()
        loss.backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


def test_a_backbone_without_blocks_is_refused() -> None:
    network = network_of("resnet20_cifar")
    network.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 64, 3))
    with pytest.raises(SkyclassError, match="no residual blocks were found") as refusal:
        checkpoint_blocks(network)
    assert refusal.value.where == "training.gradient_checkpointing"
