"""Every option of a training changes something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from helpers.toys import toy_recipe
from helpers.trainings import State, cut, fit_toy, run_of, same
from skyclass.data.packs.pack import Pack
from skyclass.recipes.data_settings import DataSettings
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.recipe import Recipe, dump_recipe
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop.task import Task

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

SGD = {"optimizer": "sgd", "schedule": "none"}
PLATEAU = {"schedule": "plateau", "plateau_patience": 0, "epochs": 4, "learning_rate": 1e-5}
# What is changed, and what stands beside it on both sides.
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "training.epochs": ({"epochs": 3}, {}),
    "training.batch_size": ({"batch_size": 5}, {}),
    "training.label_smoothing": ({"label_smoothing": 0.2}, {}),
    "training.class_weights": ({"class_weights": "balanced"}, {}),
    "training.optimizer": ({"optimizer": "adam"}, {"weight_decay": 0.1}),
    "training.learning_rate": ({"learning_rate": 1e-4}, {}),
    "training.betas": ({"betas": [0.5, 0.9]}, {}),
    "training.eps": ({"eps": 1e-2}, {}),
    "training.weight_decay": ({"weight_decay": 0.5}, {}),
    "training.schedule": ({"schedule": "none"}, {}),
    "training.warmup": ({"warmup": 0.7}, {}),
    "training.start_divisor": ({"start_divisor": 2.0}, {}),
    "training.end_divisor": ({"end_divisor": 1.0}, {}),
    "training.accumulate": ({"accumulate": 2}, {}),
    "training.loss": ({"loss": "focal"}, {}),
    "training.focal_gamma": ({"focal_gamma": 0.5}, {"loss": "focal"}),
    "training.rates": ({"rates": {"head": 1e-4}}, {}),
    "training.momentum": ({"momentum": 0.5}, SGD),
    "training.nesterov": ({"nesterov": True}, SGD),
    "training.clip": ({"clip": 0.01}, SGD),
    "training.step_epochs": ({"step_epochs": 1}, {"schedule": "step"}),
    "training.step_factor": ({"step_factor": 0.7}, {"schedule": "step", "step_epochs": 1}),
    "training.averaging": ({"averaging": "ema"}, {}),
    "training.ema_decay": ({"ema_decay": 0.1}, {"averaging": "ema"}),
    "training.swa_start": ({"swa_start": 0.0}, {"averaging": "swa"}),
    "training.plateau_factor": ({"plateau_factor": 0.7}, PLATEAU),
    "training.plateau_patience": ({"plateau_patience": 9}, PLATEAU),
    "training.precision": ({"precision": "bfloat16"}, {}),
    "model.backbone": ({"backbone": "test_resnet"}, {}),
    "model.freeze": ({"freeze": ["layer1"]}, {}),
    "model.dropout": ({"dropout": 0.5}, {}),
    "data.exclude": ({"exclude": ["ring"]}, {}),
}
ELSEWHERE = {
    "training.uncertainty_weight": "test_losses: test_the_total_is_the_loss_and_the_weighted_error_loss",
    "training.plateau_monitor": "test_the_plateau_watches_what_it_is_told_to",
    "training.validations_per_epoch": "test_validations_have_their_pace",
    "training.validate_every_steps": "test_validations_have_their_pace",
    "training.keep_every": "test_a_checkpoint_is_kept_every_so_many_epochs",
    "training.checkpoint_steps": "test_checkpoints_change_no_weight, test_resume",
    "training.gradient_checkpointing": "test_checkpointing",
    "training.watch_every_steps": "test_tensorboard",
    "training.watch_images": "test_tensorboard",
    "training.monitor": "test_the_classifier_is_the_best_epoch_and_the_best_are_kept",
    "training.keep_best": "test_the_classifier_is_the_best_epoch_and_the_best_are_kept",
    "training.early_stopping": "test_early_stopping_stops",
    "training.channels_last": "test_channels_last_is_the_order_in_memory",
    "model.lora": "test_lora",
    "model.head": "test_heads",
    "model.uncertainty": "test_heads, test_the_scores_of_a_validation",
    "data.votes": "test_folds: test_votes_label_a_pack_that_has_no_labels, test_votes for its settings",
    "data.folds": "test_folds: test_folds_take_the_place_of_the_packs_splits",
    "data.fold": "test_folds: test_folds_take_the_place_of_the_packs_splits",
    "model.weights": "test_weights",
}


def test_every_option_is_tested() -> None:
    sections = {"training": TrainingSettings, "model": ModelSettings, "data": DataSettings}
    options = {f"{section}.{name}" for section, model in sections.items() for name in model.model_fields}
    assert set(CHANGES) | set(ELSEWHERE) == options
    assert not set(CHANGES) & set(ELSEWHERE)


@pytest.fixture(scope="module")
def unbalanced(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """The pack without most training images of one class."""
    catalog = pack.catalog
    rare = (catalog["split"] == "train") & (catalog["label"] == "ring") & ~catalog["image_id"].str.endswith(("0", "1"))
    return cut(pack, tmp_path_factory.mktemp("packs") / "unbalanced", ~rare.to_numpy())


@pytest.fixture(scope="module")
def trained(unbalanced: Pack, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], State]:
    """The network's tensors after a training by a recipe, which many options have beside them: trained once."""
    states: dict[str, State] = {}

    def state_of(recipe: Recipe) -> State:
        text = dump_recipe(recipe)
        if text not in states:
            states[text] = fit_toy(recipe, unbalanced, tmp_path_factory.mktemp("trained") / "run")[1]
        return states[text]

    return state_of


@pytest.mark.slow
@pytest.mark.parametrize("option", CHANGES)
def test_an_option_changes_the_trained_weights(trained: Callable[[Recipe], State], option: str) -> None:
    change, beside = CHANGES[option]
    section = option.split(".")[0]
    before = toy_recipe(**({section: beside} if beside else {}))
    after = toy_recipe(**{section: {**beside, **change}})
    assert before != after
    assert not same(trained(before), trained(after))


@pytest.mark.slow
def test_early_stopping_stops(tmp_path: Path, pack: Pack) -> None:
    settings = {"epochs": 8, "schedule": "none", "learning_rate": 1e-12}  # validation only gets worse
    lengths = []
    for patience in (None, 1, 3):
        run = run_of(tmp_path / str(patience), pack, toy_recipe(training={**settings, "early_stopping": patience}))
        lengths.append(len(pd.read_csv(run.history_file)))
    assert lengths == [8, 2, 4]


@pytest.mark.slow
def test_channels_last_is_the_order_in_memory(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original = Task.forward_output

    def forward_output(self: Task, images: torch.Tensor) -> Any:
        weight = self.network.backbone.get_submodule("layer3.0.conv1").weight
        seen.append(weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous())
        return original(self, images)

    monkeypatch.setattr(Task, "forward_output", forward_output)
    for wanted in (True, False):
        seen.clear()
        fit_toy(toy_recipe(training={"channels_last": wanted}), pack, tmp_path / str(wanted))
        assert set(seen) == {wanted}


@pytest.mark.slow
def test_the_plateau_watches_what_it_is_told_to(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = torch.optim.lr_scheduler.ReduceLROnPlateau.step

    def step(self: Any, metrics: float, *rest: Any) -> None:
        seen.append(metrics)
        original(self, metrics, *rest)

    monkeypatch.setattr(torch.optim.lr_scheduler.ReduceLROnPlateau, "step", step)
    for watched, expected in ((None, "val_loss"), ("val_auroc", "val_auroc")):
        seen.clear()
        settings = {**PLATEAU, "plateau_monitor": watched, "validations_per_epoch": 2}
        fit_toy(toy_recipe(training=settings), pack, tmp_path / expected)
        history = pd.read_csv(tmp_path / expected / "history.csv")
        assert seen == history[expected].tolist()[1::2]  # once an epoch, at its last validation
