"""Optimisers and schedules: their settings, the parts of a network, and the rates that each part really has."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from skyclass.core.errors import SkyclassError
from skyclass.models.fine_tuning import adapt, freeze, parameter_groups
from skyclass.models.network import Network, build_network
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop.optimizers import OPTIMIZERS, SCHEDULES, build_optimizer

BACKBONES = {
    "resnet20_cifar": (("conv1", "bn1", "layer1"), ("layer2",), ("layer3",)),
    "resnet18": (("conv1", "bn1", "layer1"), ("layer2", "layer3"), ("layer4",)),
    # The last normalisation counts as a group of its own behind the stem and the four stages.
    "convnext_atto": (("stem", "stages.0"), ("stages.1", "stages.2"), ("stages.3", "head")),
    "efficientnet_b0": (
        ("conv_stem", "bn1", "blocks.0", "blocks.1"),
        ("blocks.2", "blocks.3", "blocks.4"),
        ("blocks.5", "blocks.6", "conv_head", "bn2"),
    ),
}


def network_of(backbone: str = "resnet20_cifar", **changes: object) -> Network:
    torch.manual_seed(0)
    return build_network(ModelSettings(backbone=backbone, **changes), 3, 4)


def names_of(network: Network) -> dict[str, list[str]]:
    """Names of the parameters in each part."""
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    return {part: [name_of[id(one)] for one in group] for part, group in parameter_groups(network).items()}


# Parts of a network


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_backbone_is_cut_in_thirds_of_its_stages(backbone: str) -> None:
    network = network_of(backbone, head="refined", uncertainty=True)
    found = names_of(network)
    assert list(found) == ["early", "middle", "late", "head"]
    assert sorted(name for names in found.values() for name in names) == sorted(dict(network.named_parameters()))
    for part, modules in zip(found, BACKBONES[backbone], strict=False):
        prefixes = tuple(f"backbone.{module}." for module in modules)
        expected = [name for name, _ in network.named_parameters() if name.startswith(prefixes)]
        assert sorted(found[part]) == sorted(expected)
        assert expected
    assert all(name.startswith(("head.", "error_head.")) for name in found["head"])


def test_the_depth_of_a_vision_transformer_grows_from_part_to_part() -> None:
    found = names_of(network_of("vit_tiny_patch16_224"))
    blocks = {part: {int(name.split(".")[2]) for name in names if ".blocks." in name} for part, names in found.items()}
    assert blocks == {"early": {0, 1, 2, 3}, "middle": {4, 5, 6, 7}, "late": {8, 9, 10, 11}, "head": set()}
    assert "backbone.pos_embed" in found["early"]
    assert "backbone.norm.weight" in found["late"]


def test_what_is_frozen_is_in_no_part() -> None:
    network = network_of()
    freeze(network, ["conv1", "bn1", "layer1", "layer3.0"])
    found = names_of(network)
    assert list(found) == ["middle", "late", "head"]
    assert not any(".layer3.0." in name for name in found["late"])
    assert any(".layer3.1." in name for name in found["late"])


def test_adapters_are_in_the_part_of_their_layer() -> None:
    network = network_of(lora={})
    adapt(
        network, ModelSettings(backbone="resnet20_cifar", lora={"targets": ["layer1", "layer3"], "train_norms": False})
    )
    found = names_of(network)
    assert list(found) == ["early", "late", "head"]
    assert all(".layer1." in name and ".lora_" in name for name in found["early"])
    assert all(".layer3." in name and ".lora_" in name for name in found["late"])


def test_a_backbone_without_a_grouping_is_refused() -> None:
    network = network_of()
    network.backbone = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(SkyclassError, match="cannot be divided into parts") as refusal:
        parameter_groups(network)
    assert refusal.value.where == "training.rates"


# Optimisers


def test_every_choice_of_the_settings_is_there() -> None:
    assert set(OPTIMIZERS) == set(get_args(TrainingSettings.model_fields["optimizer"].annotation))
    assert set(SCHEDULES) == set(get_args(TrainingSettings.model_fields["schedule"].annotation))


def test_the_optimiser_gets_its_settings() -> None:
    settings = TrainingSettings(
        learning_rate=0.02, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.03, momentum=0.7, nesterov=True
    )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    assert set(kinds) == set(OPTIMIZERS)
    for name, kind in kinds.items():
        optimizer = OPTIMIZERS[name]([nn.Parameter(torch.zeros(2))], settings)
        assert type(optimizer) is kind
        own = {"momentum": 0.7, "nesterov": True} if name == "sgd" else {"betas": (0.8, 0.9), "eps": 1e-5}
        expected = {"lr": 0.02, "weight_decay": 0.03, **own}
        assert {key: optimizer.defaults[key] for key in expected} == expected


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_by_hand(nesterov: bool) -> None:
    """v = m v + g, x -= lr (g + m v) with Nesterov's momentum and x -= lr v without; g has the decay in it."""
    settings = TrainingSettings(learning_rate=0.1, momentum=0.6, weight_decay=0.01, nesterov=nesterov)
    parameter = nn.Parameter(torch.tensor([2.0]))
    optimizer = OPTIMIZERS["sgd"]([parameter], settings)
    x, v = 2.0, 0.0
    for _ in range(5):
        optimizer.zero_grad()
        (parameter**2).sum().backward()
        optimizer.step()
        g = 2 * x + 0.01 * x
        v = 0.6 * v + g
        x -= 0.1 * (g + 0.6 * v if nesterov else v)
    assert float(parameter.detach()) == pytest.approx(x, rel=1e-5)


def test_nesterov_without_a_momentum_is_refused() -> None:
    with pytest.raises(SkyclassError, match="needs a momentum above 0") as refusal:
        OPTIMIZERS["sgd"]([nn.Parameter(torch.zeros(1))], TrainingSettings(momentum=0.0, nesterov=True))
    assert refusal.value.where == "training.nesterov"


def test_without_rates_there_is_one_group_of_what_is_trained_in_its_order() -> None:
    network = network_of()
    freeze(network, ["layer1"])
    (group,) = build_optimizer(network, TrainingSettings(learning_rate=0.3)).param_groups
    assert (group["name"], group["lr"]) == ("all", 0.3)
    assert [id(one) for one in group["params"]] == [id(one) for one in network.parameters() if one.requires_grad]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_part_without_a_rate_takes_the_general_one(optimizer: str) -> None:
    settings = TrainingSettings(optimizer=optimizer, learning_rate=0.3, rates={"early": 1e-4, "head": 2.0})
    groups = build_optimizer(network_of(), settings).param_groups
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {"early": 1e-4, "middle": 0.3, "late": 0.3, "head": 2.0}
    assert sum(len(group["params"]) for group in groups) == len(list(network_of().parameters()))


def test_a_rate_for_a_part_in_which_nothing_is_trained_is_refused() -> None:
    network = network_of()
    freeze(network, ["conv1", "bn1", "layer1", "layer3"])
    for part in ("early", "late"):
        with pytest.raises(SkyclassError, match=f"the part '{part}', of which nothing is trained") as refusal:
            build_optimizer(network, TrainingSettings(rates={part: 0.1}))
        assert refusal.value.where == f"training.rates.{part}"
        assert refusal.value.fix == "leave it out: middle, head are trained"
    build_optimizer(network, TrainingSettings(rates={"middle": 0.1, "head": 0.1}))


# Schedules


def rates_of(
    settings: TrainingSettings, steps: int, network: Network | None = None, per_epoch: float = 1.0
) -> np.ndarray:
    """(steps, groups): the rates that the optimiser has in each step, the first of them included."""
    optimizer = build_optimizer(network or network_of(), settings)
    schedule = SCHEDULES[settings.schedule](optimizer, settings, steps, per_epoch)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return np.array(rates)


def onecycle(top: float, settings: TrainingSettings, steps: int) -> list[float]:
    """Two half cosines: from rate / start up to rate at step warmup * steps - 1, down to rate / start / end."""
    low = top / settings.start_divisor
    last, turn = low / settings.end_divisor, settings.warmup * steps - 1
    return [
        top + (low - top) / 2 * (1 + np.cos(np.pi * step / turn))
        if step <= turn
        else last + (top - last) / 2 * (1 + np.cos(np.pi * (step - turn) / (steps - 1 - turn)))
        for step in range(steps)
    ]


def cosine(top: float, settings: TrainingSettings, steps: int) -> list[float]:
    return [top / 2 * (1 + np.cos(np.pi * step / steps)) for step in range(steps)]


def step(top: float, settings: TrainingSettings, steps: int) -> list[float]:
    """Three steps an epoch, two epochs between falls."""
    return [top * settings.step_factor ** (step // 6) for step in range(steps)]


def none(top: float, settings: TrainingSettings, steps: int) -> list[float]:
    return [top] * steps


FORMULAS: dict[str, Callable[[float, TrainingSettings, int], list[float]]] = {
    "onecycle": onecycle,
    "cosine": cosine,
    "step": step,
    "none": none,
}


@pytest.mark.parametrize("schedule", FORMULAS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_group_follows_the_formula_from_its_own_rate(schedule: str, optimizer: str) -> None:
    rates = {"early": 0.01, "middle": 0.02, "late": 0.5, "head": 1.0}
    settings = TrainingSettings(schedule=schedule, optimizer=optimizer, rates=rates, step_epochs=2, step_factor=0.3)
    found = rates_of(settings, 20, per_epoch=3.0)
    assert found.shape == (20, 4)
    for column, top in zip(found.T, rates.values(), strict=True):
        np.testing.assert_allclose(column, FORMULAS[schedule](top, settings, 20), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("backbone", [*BACKBONES, "test_vit"])
def test_the_groups_of_any_backbone_keep_their_ratios(backbone: str) -> None:
    network = network_of(backbone)
    parts = list(parameter_groups(network))
    rates = {part: 10.0 ** -(len(parts) - k) for k, part in enumerate(parts)}
    found = rates_of(TrainingSettings(rates=rates, schedule="onecycle"), 10, network)
    ratios = found / found[:, -1:]
    np.testing.assert_allclose(ratios, np.tile([rate / rates["head"] for rate in rates.values()], (10, 1)))
    assert found[:, -1].max() == pytest.approx(0.1)


@pytest.mark.parametrize(("warmup", "start", "end"), [(0.3, 25.0, 1e4), (0.5, 10.0, 1e4), (0.3, 25.0, 10.0)])
def test_onecycle_takes_its_settings(warmup: float, start: float, end: float) -> None:
    settings = TrainingSettings(learning_rate=0.1, warmup=warmup, start_divisor=start, end_divisor=end)
    np.testing.assert_allclose(rates_of(settings, 20)[:, 0], onecycle(0.1, settings, 20), rtol=1e-9)


def test_the_published_onecycle() -> None:
    """SYSTEMS, 2: 3e-5 -> 3e-4 at 30 % -> 3e-8."""
    settings = TrainingSettings(learning_rate=3e-4, start_divisor=10.0, end_divisor=1e3, warmup=0.3)
    rates = rates_of(settings, 100)[:, 0]
    assert rates[0] == pytest.approx(3e-5)
    assert rates[29] == pytest.approx(3e-4) == rates.max()
    assert rates[-1] == pytest.approx(3e-8)


def test_onecycle_moves_the_momentum_unless_there_is_none() -> None:
    for settings, moves in (({"momentum": 0.9}, True), ({"momentum": 0.0}, False)):
        recipe = TrainingSettings(optimizer="sgd", schedule="onecycle", **settings)
        optimizer = build_optimizer(network_of(), recipe)
        schedule = SCHEDULES["onecycle"](optimizer, recipe, 10, 1.0)
        seen = set()
        for _ in range(9):
            seen.add(optimizer.param_groups[0]["momentum"])
            optimizer.step()
            schedule.step()  # type: ignore[union-attr]
        assert (max(seen) == pytest.approx(0.95) and min(seen) >= 0.85) if moves else seen == {0.0}


def test_step_counts_epochs_of_any_length() -> None:
    """2.5 optimiser steps an epoch, as with accumulation, and falls every 2 epochs: every 5 steps."""
    settings = TrainingSettings(schedule="step", learning_rate=1.0, step_epochs=2, step_factor=0.5)
    assert rates_of(settings, 11, per_epoch=2.5)[:, 0].tolist() == [1.0] * 5 + [0.5] * 5 + [0.25]


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize("watched", [None, "val_loss", "val_auroc"])
def test_plateau_falls_after_its_patience_in_the_direction_of_what_it_watches(
    monitor: str, watched: str | None
) -> None:
    settings = TrainingSettings(
        schedule="plateau",
        learning_rate=1.0,
        rates={"head": 4.0},
        plateau_factor=0.5,
        plateau_patience=2,
        monitor=monitor,
        plateau_monitor=watched,
    )
    values = [3, 2, 2, 2, 2, 1] if (watched or monitor) == "val_loss" else [1, 2, 2, 2, 2, 3]
    optimizer = build_optimizer(network_of(), settings)
    schedule = SCHEDULES["plateau"](optimizer, settings, 0, 1.0)
    rates = []
    for value in values:
        schedule.step(value)  # type: ignore[union-attr, arg-type]
        rates.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[-1]["lr"]))
    assert rates == [(1.0, 4.0)] * 4 + [(0.5, 2.0)] * 2


def test_a_saved_optimiser_with_parts_goes_on() -> None:
    settings = TrainingSettings(rates={"early": 0.01}, schedule="onecycle")
    whole = rates_of(settings, 10)
    network = network_of()
    optimizer = build_optimizer(network, settings)
    schedule = SCHEDULES["onecycle"](optimizer, settings, 10, 1.0)
    for _ in range(4):
        optimizer.step()
        schedule.step()  # type: ignore[union-attr]
    again = build_optimizer(network, settings)
    later = SCHEDULES["onecycle"](again, settings, 10, 1.0)
    again.load_state_dict(optimizer.state_dict())
    later.load_state_dict(schedule.state_dict())  # type: ignore[union-attr]
    assert [group["name"] for group in again.param_groups] == ["early", "middle", "late", "head"]
    assert [group["lr"] for group in again.param_groups] == pytest.approx(whole[4])
    again.step()
    later.step()  # type: ignore[union-attr]
    assert [group["lr"] for group in again.param_groups] == pytest.approx(whole[5])
