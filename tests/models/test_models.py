"""Networks: their two halves, bands, freezing, and the ResNet-20."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helpers.toys import toy_pack, toy_recipe
from helpers.trainings import fit_toy
from skyclass.core.devices import computes_bfloat16, device_name, free_memory, pick_device, pick_precision
from skyclass.core.errors import SkyclassError
from skyclass.models.fine_tuning import count_parameters, describe_trained, freeze
from skyclass.models.network import architecture_of, build_network, check_backbone
from skyclass.models.resnet_cifar import Block, ResNetCifar, resnet20_cifar
from skyclass.recipes.model_settings import ModelSettings

BACKBONES = ("resnet20_cifar", "test_resnet", "test_efficientnet")
CPU = torch.device("cpu")


def network_of(backbone: str, n_bands: int = 3, n_classes: int = 4, **changes: object):
    torch.manual_seed(0)
    return build_network(ModelSettings(backbone=backbone, **changes), n_bands, n_classes)


# Two halves


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("n_bands", [1, 3, 5])
def test_the_halves_make_the_whole_on_images_of_any_bands_and_shape(backbone: str, n_bands: int) -> None:
    network = network_of(backbone, n_bands).eval()
    images = torch.rand(2, n_bands, 64, 96)
    with torch.no_grad():
        features = network.features(images)
        logits = network.classify(features)
        assert torch.equal(logits, network(images))
    assert features.ndim == 4
    assert features.shape[3] / features.shape[2] == 1.5  # the map is as wide as the image
    assert logits.shape == (2, 4)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_head_is_a_linear_layer_on_what_the_backbone_pools(backbone: str) -> None:
    network = network_of(backbone).eval()
    images = torch.rand(2, 3, 64, 48)
    linear = network.head[1]
    with torch.no_grad():
        pooled = network.backbone(images)
        assert torch.allclose(network(images), pooled @ linear.weight.T + linear.bias, atol=1e-6)
    assert isinstance(network.head[0], nn.Dropout)


def test_dropout_acts_in_training_only() -> None:
    features = torch.rand(2, 64, 3, 4)
    network = network_of("resnet20_cifar", dropout=0.5)
    assert not torch.equal(network.train().classify(features), network.classify(features))
    assert torch.equal(network.eval().classify(features), network.classify(features))
    plain = network_of("resnet20_cifar").train()
    assert torch.equal(plain.classify(features), plain.classify(features))


@pytest.mark.parametrize("name", ["resnet188", "resnet20_cifarr", "nothing-like-it", ""])
def test_an_unknown_backbone_is_refused(name: str) -> None:
    with pytest.raises(SkyclassError, match="no backbone is called") as refusal:
        build_network(ModelSettings(backbone=name), 3, 2)
    assert refusal.value.where == "model.backbone"
    assert refusal.value.fix


def test_an_unknown_backbone_names_near_ones() -> None:
    with pytest.raises(SkyclassError, match=r"near names are .*resnet"):
        check_backbone("resnet19")


def test_a_backbone_of_the_hub_without_a_connection_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.create_model", unreachable)
    with pytest.raises(SkyclassError, match="no route to host") as refusal:
        build_network(ModelSettings(backbone="hf_hub:owner/name"), 3, 2)
    assert refusal.value.where == "model.backbone"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_architecture_rebuilds_the_network(backbone: str) -> None:
    settings = ModelSettings(backbone=backbone)
    network = build_network(settings, 5, 3)
    again = build_network(settings, 5, 3, architecture_of(network, settings))
    again.load_state_dict(network.state_dict())
    images = torch.rand(1, 5, 64, 96)
    with torch.no_grad():
        assert torch.equal(again.eval()(images), network.eval()(images))


def test_a_tagged_name_has_the_plain_architecture() -> None:
    settings = ModelSettings(backbone="test_resnet.r160_in1k")
    assert architecture_of(build_network(settings, 3, 2), settings) == "test_resnet"


# Freezing


def test_frozen_modules_have_no_gradient_and_stay_in_eval() -> None:
    network = network_of("resnet20_cifar")
    freeze(network, ["layer1", "layer2.0"])
    frozen = [network.backbone.layer1, network.backbone.layer2[0]]
    for _ in range(2):
        network.train()
        assert not any(module.training for part in frozen for module in part.modules())
        assert network.backbone.layer2[1].training
        assert network.backbone.training
        assert network.head.training
        network.eval()
        assert not any(module.training for module in network.modules())
    network.train()
    network(torch.rand(2, 3, 12, 16)).sum().backward()
    for part in frozen:
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in part.parameters())
    assert all(parameter.grad is not None for parameter in network.backbone.layer2[1].parameters())


@pytest.mark.parametrize("name", ["layer9", "layer1.7", "fc", "head"])
def test_an_unknown_module_is_refused(name: str) -> None:
    with pytest.raises(SkyclassError, match=f"the backbone has no module {name!r}") as refusal:
        freeze(network_of("resnet20_cifar"), [name])
    assert refusal.value.where == "model.freeze"
    assert "did you mean 'layer" in str(refusal.value) or "it has conv1, bn1, layer1" in str(refusal.value)


def test_what_is_frozen_does_not_move_in_a_training_and_the_rest_does(tmp_path: Path) -> None:
    """DESIGN, rule 9: neither weights nor running statistics, in a real training by Lightning with validation."""
    pack = toy_pack(tmp_path / "pack")
    recipe = toy_recipe(model={"freeze": ["conv1", "bn1", "layer1"]}, training={"weight_decay": 0.1})
    before, after = fit_toy(recipe, pack, tmp_path / "run")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("backbone.conv1.", "backbone.bn1.", "backbone.layer1."))}
    assert {name for name in frozen if "running_mean" in name}
    assert moved == set(before) - frozen


def test_without_freezing_every_tensor_moves(tmp_path: Path) -> None:
    before, after = fit_toy(toy_recipe(), toy_pack(tmp_path / "pack"), tmp_path / "run")
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_the_share_that_is_trained() -> None:
    network = network_of("resnet20_cifar", n_bands=1, n_classes=3)
    stem, head = 16 * 9, 64 * 3 + 3
    trained, total = count_parameters(network)
    assert trained == total
    assert describe_trained(network) == f"Training {total:,} of {total:,} parameters (100.0%)"
    freeze(network, ["conv1"])
    assert count_parameters(network) == (total - stem, total)
    assert describe_trained(network).endswith("%); frozen: conv1")
    freeze(network, [name for name, _ in network.backbone.named_children()])
    assert count_parameters(network) == (head, total)


# ResNet-20


def test_resnet20_has_20_weighted_layers_and_the_size_of_the_paper() -> None:
    """He et al. 2016, table 6: 20 layers and 0.27 million parameters with 10 classes and 3 bands."""
    network = network_of("resnet20_cifar", 3, 10)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [type(layer) for layer in layers] == [nn.Conv2d] * 19 + [nn.Linear]
    assert round(count_parameters(network)[1] / 1e6, 2) == 0.27
    assert all(layer.kernel_size == (3, 3) for layer in layers[:-1])  # shortcuts of option A have no weights


@pytest.mark.parametrize(("size", "out"), [((32, 32), (8, 8)), ((75, 75), (19, 19)), ((31, 50), (8, 13))])
def test_resnet20_map(size: tuple[int, int], out: tuple[int, int]) -> None:
    backbone = resnet20_cifar(2).eval()
    with torch.no_grad():
        images = torch.rand(3, 2, *size)
        features = backbone.forward_features(images)
        assert features.shape == (3, 64, *out)
        assert torch.allclose(backbone(images), features.flatten(2).mean(2), atol=1e-6)


def shortcut_by_hand(x: Tensor, channels: int) -> Tensor:
    """Option A in loops: every second pixel, new channels of zeros."""
    out = torch.zeros(x.shape[0], channels, (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2)
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            out[:, : x.shape[1], row, column] = x[:, :, 2 * row, 2 * column]
    return out


def test_the_shortcut_of_a_block_subsamples_and_pads_with_zeros() -> None:
    block = Block(2, 5, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)  # so that only the shortcut is left
    x = torch.rand(2, 2, 7, 10)
    with torch.no_grad():
        assert torch.equal(block(x), shortcut_by_hand(x, 5))


def test_resnet20_has_no_logits_of_its_own() -> None:
    with pytest.raises(ValueError, match="no classifier of its own"):
        ResNetCifar(3).forward_head(torch.rand(1, 64, 2, 2), pre_logits=False)


# The machine


def test_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SkyclassError, match="'gpu9' is no device"):
        pick_device("gpu9")
    if not torch.cuda.is_available():
        with pytest.raises(SkyclassError, match="no CUDA device"):
            pick_device("cuda")
    assert device_name(CPU).startswith("cpu, ")
    assert free_memory(CPU) > 2**20


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(SkyclassError, match="this machine has no CUDA device number 1"):
        pick_device("cuda:1")
    with pytest.raises(SkyclassError, match="'meta' is no device"):
        pick_device("meta")


def test_precision_follows_the_hardware_only_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_it, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("skyclass.core.devices.computes_bfloat16", lambda _, answer=has_it: answer)
        assert pick_precision("auto", CPU) == expected
        assert pick_precision("float32", CPU) == torch.float32
        assert pick_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize(("flags", "answer"), [("fma avx512_bf16 x", True), ("amx_bf16", True), ("avx2 fma", False)])
def test_bfloat16_is_read_from_the_processor_flags(monkeypatch: pytest.MonkeyPatch, flags: str, answer: bool) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"flags : {flags}\n")
    assert computes_bfloat16(CPU) is answer
    assert computes_bfloat16(torch.device("meta")) is False
