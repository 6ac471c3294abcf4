"""The check of a training's first step: what gets no gradient, and what moved though it is frozen, is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers.logged import Logged
from helpers.toys import toy_recipe, write_recipe
from helpers.trainings import copied, fit_toy, last_state, new_network
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack
from skyclass.models.network import Network
from skyclass.recipes.recipe import Recipe
from skyclass.training.loop import first_step
from skyclass.training.loop.losses import total_loss
from skyclass.training.loop.task import Task

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

FROZEN = {"freeze": ["conv1", "bn1", "layer1"]}
SOUND: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "frozen": (FROZEN, {"accumulate": 2, "averaging": "swa", "swa_start": 0.0}),
    "adapted": ({"lora": {"train_norms": False}}, {"averaging": "ema", "clip": 0.1, "optimizer": "sgd"}),
    "checkpointed": ({**FROZEN, "head": "refined", "uncertainty": True}, {"gradient_checkpointing": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_training_passes_and_nothing_is_told(
    tmp_path: Path, pack: Pack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In each session: also the one that goes on, and the stage that is added."""
    seen: list[int] = []
    original = first_step.FirstStepCheck.on_train_batch_end

    def on_train_batch_end(self: Any, *arguments: Any) -> None:
        copies = len(self._copies)
        original(self, *arguments)
        if copies and not self._copies:
            seen.append(copies)

    monkeypatch.setattr(first_step.FirstStepCheck, "on_train_batch_end", on_train_batch_end)
    model, training = SOUND[name]
    recipe = toy_recipe(model=model, training=training)
    file, run = write_recipe(tmp_path, recipe), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", interrupted_in_epoch(1))
        with pytest.raises(KeyboardInterrupt):
            train(file, pack.path, out=run, device="cpu")
    train(resume=run, device="cpu")
    train(resume=run, overrides=["training.epochs=+1"], device="cpu")
    assert "Warning" not in capsys.readouterr().err
    network = new_network(recipe, 1, 3)
    assert seen == [len(first_step.frozen_tensors(network))] * 3
    # What the check holds is what the end of the training has of the beginning.
    before, after = copied(network), last_state(run)
    still = set(first_step.frozen_tensors(network))
    assert still == {key for key, value in before.items() if torch.equal(value, after[key])} & still
    assert any(not torch.equal(value, after[key]) for key, value in before.items())


def interrupted_in_epoch(epoch: int) -> Any:
    original = Task.training_step

    def step(task: Task, *arguments: Any) -> Any:
        if task.current_epoch == epoch:
            raise KeyboardInterrupt
        return original(task, *arguments)

    return step


def refusal_of(tmp_path: Path, pack: Pack, recipe: Recipe) -> SkyclassError:
    with pytest.raises(SkyclassError) as refusal:
        train(write_recipe(tmp_path, recipe), pack.path, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    return refusal.value


UNUSED = {"backbone": "test_convnext", "head": "convolutional"}


@pytest.mark.slow
def test_what_takes_no_part_is_refused_and_the_way_out_works(tmp_path: Path, pack: Pack) -> None:
    """The norm before the classes of a ConvNeXt is behind the map that the convolutional head takes."""
    pixels = {"size": [32, 32]}
    training = {"epochs": 1}
    error = refusal_of(tmp_path, pack, toy_recipe(model=UNUSED, pixels=pixels, training=training))
    assert error.what == (
        "backbone.head.norm.weight, backbone.head.norm.bias shall be trained, and takes no part in the loss"
    )
    found = re.fullmatch(r"freeze what is not used with --set 'model.freeze=\[(.*)\]'", str(error.fix))
    assert found
    model = {**UNUSED, "freeze": ["stem"]}
    error = refusal_of(tmp_path, pack, toy_recipe(model=model, pixels=pixels, training=training))
    assert str(error.fix).endswith("'model.freeze=[stem, head.norm]'")
    file = write_recipe(tmp_path, toy_recipe(model=UNUSED, pixels=pixels, training=training))
    train(file, pack.path, out=tmp_path / "run", overrides=[f"model.freeze=[{found[1]}]"], device="cpu")
    assert Run(tmp_path / "run").finished
    adapted = toy_recipe(model={**UNUSED, "lora": {}}, pixels=pixels, training=training)
    assert refusal_of(tmp_path / "adapted", pack, adapted).fix == "take another head or backbone"


def test_a_gradient_that_stays_zero_is_told_of(tmp_path: Path, pack: Pack, logged: Logged) -> None:
    """With a weight of zero the error logits are computed, and move nothing."""
    recipe = toy_recipe(model={"uncertainty": True}, training={"uncertainty_weight": 0.0, "epochs": 1})
    fit_toy(recipe, pack, tmp_path / "run")
    told = [line for line in logged().splitlines() if line.startswith("Warning")]
    assert told == [
        "Warning: the gradient of error_head.0.weight, error_head.0.bias, error_head.3.weight, error_head.3.bias is "
        "zero in the first two steps: the loss does not see it"
    ]


def test_statistics_that_move_in_a_frozen_part_are_found(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Network, "train", nn.Module.train)  # which knows of no frozen part
    error = refusal_of(tmp_path, pack, toy_recipe(model=FROZEN))
    assert error.what.startswith(
        "backbone.bn1.running_mean, backbone.bn1.running_var, backbone.bn1.num_batches_tracked"
    )
    assert re.search(r" and \d+ more moved in the first step, and is frozen$", error.what)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_frozen_weights_that_move_are_found(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    """By the smallest step that there is, in the last batch of the first step."""
    original = Task.training_step

    def step(task: Task, batch: Any, batch_index: int) -> Any:
        if batch_index == accumulate - 1:
            with torch.no_grad():
                weight = task.network.backbone.get_parameter("layer1.0.conv1.weight")[3, 2, 1]
                weight.copy_(torch.nextafter(weight, weight + 1))
        return original(task, batch, batch_index)

    monkeypatch.setattr(Task, "training_step", step)
    error = refusal_of(tmp_path, pack, toy_recipe(model=FROZEN, training={"accumulate": accumulate}))
    assert error.what == "backbone.layer1.0.conv1.weight moved in the first step, and is frozen"


def test_a_frozen_parameter_with_a_gradient_is_refused() -> None:
    network = new_network(toy_recipe(model=FROZEN), 1, 3)
    output = network.head_output(network.features(torch.rand(4, 1, 12, 16)))
    total_loss(output, torch.tensor([0, 1, 2, 0]), None, toy_recipe().training).backward()
    first_step.check_gradients(network)
    network.backbone.get_parameter("conv1.weight").grad = torch.zeros(16, 1, 3, 3)
    with pytest.raises(SkyclassError, match=r"conv1.weight has a gradient, and is frozen"):
        first_step.check_gradients(network)


# Numbers that are none


def spoiled(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """From step number `at` (from 0), the loss is finite and its gradient is none."""
    original, calls = Task.training_step, [0]

    def step(task: Task, *arguments: Any) -> torch.Tensor:
        loss = original(task, *arguments)
        calls[0] += 1
        if calls[0] == at + 1:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss

    monkeypatch.setattr(Task, "training_step", step)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_that_is_no_number_names_the_images_of_its_step(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    """It shows in the loss of the next step, whose images are not to blame."""
    rows: list[torch.Tensor] = []
    original = Task.training_step

    def noted(task: Task, batch: Any, batch_index: int) -> Any:
        rows.append(batch.rows)
        return original(task, batch, batch_index)

    monkeypatch.setattr(Task, "training_step", noted)
    spoiled(monkeypatch, at=2)
    recipe = toy_recipe(training={"accumulate": accumulate, "epochs": 3, "validate_every_steps": 12})
    error = refusal_of(tmp_path, pack, recipe)
    last = 4 if accumulate == 2 else 3  # batches up to the end of the spoiled step
    assert error.what.startswith(f"the loss is nan at epoch {last // 4 + 1}, step {last % 4 + 1}")
    assert ", as the step before left no finite weights in backbone.conv1.weight" in error.what
    culprits = torch.cat(rows[last - accumulate : last]).tolist()
    names = pack.catalog["image_id"].tolist()
    assert str(error.fix).endswith(f"that step: {', '.join(names[row] for row in culprits[:8])}, ...")


def test_weights_that_are_no_numbers_end_the_training_at_the_validation(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled(monkeypatch, at=3)  # the last step of the first epoch
    error = refusal_of(tmp_path, pack, toy_recipe())
    assert error.what == "the validation loss is nan: the weights are no longer of use"
