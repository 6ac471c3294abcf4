"""Averaged weights against plain recomputation from the weights after each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.toys import toy_pack, toy_recipe
from helpers.trainings import fit_toy, last_state
from skyclass.classifier.run import Run
from skyclass.recipes.recipe import Recipe
from skyclass.training.loop.task import Task
from skyclass.training.loop.weight_averaging import Averaging, ema, swa

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

NAME = "network.backbone.conv1.weight"
STATISTICS = "network.backbone.bn1.running_mean"


@given(st.floats(0.0, 0.9999), st.integers(0, 10**6))
def test_the_share_of_ema(decay: float, n: int) -> None:
    share = ema(decay)(n)
    assert share == pytest.approx(max(1 - decay, 9 / (10 + n)))


@given(st.integers(0, 50), st.lists(st.floats(-5, 5), min_size=1, max_size=60))
def test_swa_is_the_mean_from_its_begin_on(begin: int, values: list[float]) -> None:
    average = 0.0
    for n, value in enumerate(values):
        average += swa(begin)(n) * (value - average)
    rest = values[begin:]
    assert average == pytest.approx(sum(rest) / len(rest) if rest else values[-1], abs=1e-9)


def watched(recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The state after each optimiser step of a training."""
    states: list[dict[str, torch.Tensor]] = []
    original = Averaging.on_train_batch_end

    def watch(self: Averaging, trainer: Any, pl_module: Task, *rest: Any) -> None:
        if trainer.global_step > len(states):
            states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        original(self, trainer, pl_module, *rest)

    monkeypatch.setattr(Averaging, "on_train_batch_end", watch)
    fit_toy(recipe, toy_pack(folder / "pack"), folder / "run")
    return states


@pytest.mark.parametrize("settings", [{"averaging": "ema", "ema_decay": 0.6}, {"averaging": "swa", "swa_start": 0.5}])
def test_a_training_keeps_the_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    recipe = toy_recipe(model={"freeze": ["layer3"]}, training={"epochs": 3, "accumulate": 2, **settings})
    states = watched(recipe, tmp_path, monkeypatch)
    assert len(states) == 6
    average = {name: value.double() for name, value in states[0].items()}
    for n, state in enumerate(states[1:], 1):
        if settings["averaging"] == "ema":
            decay = min(0.6, (1 + n) / (10 + n))
        else:
            decay = 0.0 if n < 3 else 1 - 1 / (n - 3 + 1)
        average = {name: decay * average[name] + (1 - decay) * state[name] for name in state}
    checkpoint = torch.load(Run(tmp_path / "run").last_checkpoint, weights_only=True)
    for name in (NAME, STATISTICS):
        torch.testing.assert_close(checkpoint["state_dict"][name].double(), average[name], rtol=1e-5, atol=1e-7)
        assert torch.equal(checkpoint["current_model_state"][name], states[-1][name])
        assert not torch.equal(checkpoint["state_dict"][name], states[-1][name])
    frozen = "network.backbone.layer3.0.conv1.weight"
    assert torch.equal(checkpoint["state_dict"][frozen], states[0][frozen])  # to the last bit
    counted = "network.backbone.bn1.num_batches_tracked"
    assert checkpoint["state_dict"][counted] == states[-1][counted] == 12


def test_averaging_leaves_the_training_alone(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack")
    plain = fit_toy(toy_recipe(), pack, tmp_path / "plain")[1]
    fit_toy(toy_recipe(training={"averaging": "ema"}), pack, tmp_path / "ema")
    checkpoint = torch.load(Run(tmp_path / "ema").last_checkpoint, weights_only=True)
    assert all(torch.equal(checkpoint["current_model_state"][f"network.{name}"], plain[name]) for name in plain)
    assert not torch.equal(last_state(tmp_path / "ema")["backbone.conv1.weight"], plain["backbone.conv1.weight"])
