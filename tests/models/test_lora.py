"""Low-rank adapters: which layers get them, what is trained, and that merging leaves the same plain network."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.logged import Logged
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.models.fine_tuning import adapt, count_parameters, describe_trained, merge_lora
from skyclass.models.gradient_checkpointing import checkpoint_blocks
from skyclass.models.network import Network, build_network
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.model_settings import ModelSettings

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

IMAGES = torch.rand(4, 3, 24, 32, generator=torch.Generator().manual_seed(1))


def plain_network(backbone: str = "resnet20_cifar") -> Network:
    torch.manual_seed(0)
    return build_network(ModelSettings(backbone=backbone), 3, 4)


def adapted(backbone: str = "resnet20_cifar", **lora: object) -> Network:
    network = plain_network(backbone)
    adapt(network, ModelSettings(backbone=backbone, lora=lora))
    return network


def train_a_little(network: Network, images: Tensor = IMAGES, steps: int = 3) -> None:
    """Some steps with a rate at which everything that is trained moves."""
    optimizer = torch.optim.SGD([one for one in network.parameters() if one.requires_grad], lr=0.05, momentum=0.9)
    network.train()
    labels = torch.arange(len(images)) % 4
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()


def tensors(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def layer_names(network: Network) -> list[str]:
    return [name for name, module in network.backbone.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


# Which layers, of which rank


@torch.no_grad()
def test_as_it_begins_an_adapted_network_is_the_plain_one() -> None:
    assert torch.equal(adapted().eval()(IMAGES), plain_network().eval()(IMAGES))


def test_every_convolution_and_linear_layer_is_adapted_unless_targets_are_named() -> None:
    assert list(adapted().adapted) == layer_names(plain_network())
    vit = adapted("test_vit")
    assert list(vit.adapted) == layer_names(plain_network("test_vit"))
    assert {type(vit.backbone.get_submodule(name).get_base_layer()) for name in vit.adapted} == {nn.Conv2d, nn.Linear}
    # conv1 is the stem alone, and no conv1 inside a block.
    some = adapted(targets=["conv1", "layer3.0", "layer2.1.conv2"])
    assert some.adapted == ("conv1", "layer2.1.conv2", "layer3.0.conv1", "layer3.0.conv2")


def test_ranks_alpha_and_dropout_reach_the_adapters() -> None:
    network = adapted(rank=4, alpha=12.0, ranks={"layer3": 6, "layer3.0": 2, "conv1": 3}, dropout=0.25)
    for name, rank in {
        "conv1": 3,
        "layer1.0.conv1": 4,
        "layer2.0.conv1": 4,
        "layer3.0.conv1": 2,
        "layer3.1.conv2": 6,
    }.items():
        layer = network.backbone.get_submodule(name)
        assert layer.lora_A["default"].weight.shape[0] == rank
        assert layer.lora_B["default"].weight.shape[1] == rank
        assert layer.scaling["default"] == 12.0 / rank
        assert layer.lora_dropout["default"].p == 0.25


@torch.no_grad()
def test_the_output_of_an_adapted_layer_by_hand() -> None:
    """W x + alpha / rank * B (A x)."""
    network = adapted(rank=2, alpha=5.0)
    layer = network.backbone.conv1
    nn.init.normal_(layer.lora_B["default"].weight)
    x, a, b = IMAGES, layer.lora_A["default"].weight, layer.lora_B["default"].weight
    weight = torch.einsum("or,rchw->ochw", b[:, :, 0, 0], a) * 5.0 / 2 + layer.get_base_layer().weight
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, weight, padding=1), atol=1e-5, rtol=1e-4)


def test_depthwise_convolutions_are_left_out_and_told_of(logged: Logged) -> None:
    network = adapted("test_efficientnet")
    grouped = [
        name
        for name, module in plain_network("test_efficientnet").backbone.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
    ]
    assert grouped
    assert not set(grouped) & set(network.adapted)
    assert set(grouped) | set(network.adapted) == set(layer_names(plain_network("test_efficientnet")))
    told = logged()
    assert f"No adapters for {len(grouped)} grouped, dilated or reparametrised layers: {grouped[0]}" in told
    adapted("resnet20_cifar")
    assert "No adapters" not in logged()
    with pytest.raises(SkyclassError, match=r"no layer of .* can have an adapter"):
        adapted("test_efficientnet", targets=[grouped[0]])


@pytest.mark.parametrize("kind", ["dilated", "reparametrised", "reflecting"])
def test_layers_of_which_an_adapter_would_not_be_a_copy_are_left_out(kind: str) -> None:
    from timm.layers import StdConv2d

    network = plain_network()
    network.backbone.layer1[0].conv1 = {
        "dilated": nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        "reparametrised": StdConv2d(16, 16, 3, padding=1),
        "reflecting": nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
    }[kind]
    adapt(network, ModelSettings(backbone="resnet20_cifar", lora={}))
    assert "layer1.0.conv1" not in network.adapted
    assert "layer1.0.conv2" in network.adapted


# Wrong names


@pytest.mark.parametrize("key", ["targets", "train_also", "ranks"])
@pytest.mark.parametrize("name", ["layer9", "layer1.7", "fc", ""])
def test_names_that_the_backbone_lacks_are_refused(key: str, name: str) -> None:
    with pytest.raises(SkyclassError, match=f"the backbone has no module {name!r}") as refusal:
        adapted(**{key: {name: 2} if key == "ranks" else [name]})
    assert refusal.value.where == f"model.lora.{key}"
    assert "did you mean 'layer" in str(refusal.value) or "it has conv1, bn1, layer1" in str(refusal.value)


def test_names_of_what_cannot_be_adapted_are_refused() -> None:
    with pytest.raises(SkyclassError, match="no layer of bn1 can have an adapter; choose among conv1, layer1") as one:
        adapted(targets=["layer1", "bn1"])
    assert one.value.where == "model.lora.targets"
    with pytest.raises(SkyclassError, match="no layer of layer2 gets an adapter; choose among layer1") as other:
        adapted(targets=["layer1"], ranks={"layer2": 4})
    assert other.value.where == "model.lora.ranks"
    with pytest.raises(SkyclassError, match="no layer of layer1 can have an adapter"):
        adapted(targets=["layer1"], train_also=["layer1"])


# What is trained


def moved_by_training(network: Network) -> set[str]:
    before = tensors(network)
    train_a_little(network)
    return {name for name, value in tensors(network).items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("train_norms", [True, False])
@pytest.mark.parametrize("train_also", [[], ["conv1", "layer3.2"]])
def test_adapters_and_the_head_are_trained_and_the_rest_as_asked(train_norms: bool, train_also: list[str]) -> None:
    network = adapted(train_norms=train_norms, train_also=train_also)
    fully = tuple(f"backbone.{name}." for name in train_also)
    expected = {
        name
        for name in network.state_dict()
        if ".lora_" in name
        or name.startswith(("head.", *fully))
        or (train_norms and ".bn" in name)  # gains, biases and running statistics
    }
    assert moved_by_training(network) == expected
    assert not any(name.startswith(fully) and ".lora_" in name for name in expected if fully)


def test_normalisations_that_are_not_trained_stay_in_eval_through_any_change_of_mode() -> None:
    network = adapted(train_norms=False, train_also=["layer2.0"])
    norms = {name: one for name, one in network.backbone.named_modules() if isinstance(one, nn.BatchNorm2d)}
    for _ in range(2):
        network.train()
        assert {name for name, one in norms.items() if one.training} == {"layer2.0.bn1", "layer2.0.bn2"}
        assert network.backbone.layer1[0].conv1.training  # for the dropout of the adapters
        network.eval()
        assert not any(module.training for module in network.modules())


def test_the_dropout_of_the_adapters_acts_in_training_only() -> None:
    network = adapted(dropout=0.5, train_norms=False)
    train_a_little(network, steps=2)
    assert not torch.equal(network(IMAGES), network(IMAGES))
    network.eval()
    assert torch.equal(network(IMAGES), network(IMAGES))


def test_the_share_is_that_of_the_plain_network() -> None:
    total = count_parameters(plain_network())[1]
    network = adapted(rank=2, targets=["layer3"], train_norms=False)
    shapes = [(64, 32), *[(64, 64)] * 5]
    adapters = sum(2 * inputs * 9 + outputs * 2 for outputs, inputs in shapes)
    trained = adapters + 64 * 4 + 4
    assert count_parameters(network) == (trained, total)
    share = f"{trained / total:.1%}"
    assert describe_trained(network) == (
        f"Training {trained:,} of {total:,} parameters ({share}); low-rank adapters on 6 layers"
    )
    merge_lora(network)
    assert describe_trained(network) == f"Training {total:,} of {total:,} parameters (100.0%)"


def test_a_resnet50_is_adapted_within_five_percent() -> None:
    """SYSTEMS, 4: at most 5 % of the parameters."""
    trained, total = count_parameters(adapted("resnet50"))
    assert trained / total < 0.05


# Merging


@pytest.mark.parametrize(
    "backbone", ["resnet20_cifar", "test_resnet", "test_efficientnet", "test_convnext", "tf_efficientnet_lite0"]
)
@torch.no_grad()
def test_merged_it_gives_the_same_answers_under_the_names_of_the_plain_network(backbone: str) -> None:
    images = torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    network = adapted(backbone, rank=3, dropout=0.1)
    with torch.enable_grad():
        train_a_little(network, images)
    expected = network.eval()(images)
    assert merge_lora(network)
    torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=1e-5)
    plain = plain_network(backbone)
    assert list(network.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in network.modules()] == [type(module) for module in plain.modules()]
    assert (network(images) - plain.eval()(images)).abs().max() > 1e-3  # it has learned something
    assert not merge_lora(network)
    plain.load_state_dict(network.state_dict())
    assert torch.equal(plain(images), network(images))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_vision_transformer_merges_too() -> None:
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(2))
    network = adapted("test_vit", train_norms=False)
    train_a_little(network, images)
    with torch.no_grad():
        expected = network.eval()(images)
        assert merge_lora(network)
        torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=1e-5)


def test_a_plain_network_has_nothing_to_merge() -> None:
    network = plain_network()
    before = tensors(network)
    assert not merge_lora(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def test_a_checkpoint_is_loaded_into_the_adapted_network_and_merged_then(tmp_path: Path) -> None:
    """The order of a training: the best state is copied, training goes on, the best is loaded, merged and saved."""
    settings = ModelSettings(backbone="resnet20_cifar", lora={"rank": 2, "train_also": ["conv1"]})
    network = plain_network()
    adapt(network, settings)
    with torch.enable_grad():
        train_a_little(network)
        best = tensors(network)
        expected = network.eval()(IMAGES)
        train_a_little(network)
    assert not torch.allclose(network.eval()(IMAGES), expected, atol=1e-3)
    network.load_state_dict(best)
    assert torch.equal(network(IMAGES), expected)
    assert merge_lora(network)
    bands, mean, std = ("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3
    pixels = [PixelSettings(bands=bands, dtype="float32")]
    classifier = Classifier([network], settings, list("abcd"), bands, pixels, mean, std).to("cpu")
    again = Classifier.load(classifier.save(tmp_path / "classifier"), "cpu")
    p = torch.softmax(expected.double(), 1).numpy()
    for one in (classifier, again):
        np.testing.assert_allclose(one.predict_proba(IMAGES), p, atol=1e-5)
    assert again.model == settings


def test_a_training_through_the_verb_leaves_a_plain_classifier_with_its_predictions(tmp_path: Path) -> None:
    """Adapters, a refined head, an uncertainty head, checkpointed blocks and rates by part together."""
    pack = toy_pack(tmp_path / "pack")
    recipe = toy_recipe(
        model={"head": "refined", "uncertainty": True, "dropout": 0.3, "lora": {"rank": 2}},
        training={"loss": "focal", "gradient_checkpointing": True, "rates": {"head": 0.01}, "epochs": 1},
    )
    folder = train(write_recipe(tmp_path, recipe), pack.path, out=tmp_path / "run", device="cpu")
    frame, classes, _ = read_predictions(Run(folder).predictions_file)
    classifier = Classifier.load(folder, "cpu")
    torch.manual_seed(0)
    plain = build_network(recipe.model, 1, 3)
    assert list(classifier.networks[0].state_dict()) == list(plain.state_dict())
    rows = [list(pack.catalog["image_id"]).index(name) for name in frame["image_id"]]
    p, chance = classifier.predict_proba_and_error(pack.images[rows])
    np.testing.assert_allclose(frame[[f"p_{name}" for name in classes]], p, atol=1e-5)
    np.testing.assert_allclose(frame["uncertainty"], chance, atol=1e-5)


# Beside other things


def test_a_copy_of_an_adapted_network_is_its_own() -> None:
    network = adapted(rank=2)
    twin = copy.deepcopy(network)
    train_a_little(twin)
    assert torch.equal(network.eval()(IMAGES), plain_network().eval()(IMAGES))
    expected = twin.eval()(IMAGES)
    assert merge_lora(twin)
    torch.testing.assert_close(twin(IMAGES), expected, atol=1e-5, rtol=1e-5)
    assert network.adapted


@pytest.mark.parametrize("train_norms", [True, False])
def test_channels_last_bfloat16_and_gradient_checkpointing(train_norms: bool) -> None:
    network = adapted(rank=2, train_norms=train_norms).to(memory_format=torch.channels_last)
    assert checkpoint_blocks(network) == 9
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nn.functional.cross_entropy(network.train()(images), torch.arange(4))
    loss.backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all())
        assert parameter.dtype == torch.float32
    train_a_little(network, images)
    with torch.no_grad():
        expected = network.eval()(images)
        assert merge_lora(network)
        torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert float((network(images) - expected).abs().max()) < 0.1 * float(expected.abs().max())
