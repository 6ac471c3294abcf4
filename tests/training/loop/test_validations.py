"""Validations and checkpoints have their pace, and the schedule spans the whole training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.toys import toy_recipe
from helpers.trainings import fit_toy, last_state, names_in, new_network, same
from skyclass.data.packs.pack import Pack
from skyclass.images.preprocess import channel_statistics
from skyclass.models.network import NetworkOutput
from skyclass.recipes.recipe import Recipe
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop import task
from skyclass.training.loop.losses import loss_terms, total_loss
from skyclass.training.loop.optimizers import OPTIMIZERS, SCHEDULES
from skyclass.training.loop.task import Task

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        ({}, [1, 2]),
        ({"validations_per_epoch": 2}, [0.5, 1, 1.5, 2]),
        ({"validations_per_epoch": 99}, [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]),
        ({"validate_every_steps": 3}, [0.75, 1.5, 2]),
        ({"validate_every_steps": 6, "checkpoint_steps": 2}, [1.5, 2]),
    ],
)
def test_validations_have_their_pace(tmp_path: Path, pack: Pack, pace: dict[str, int], expected: list[float]) -> None:
    told: list[tuple[float, dict[str, float]]] = []
    recipe = toy_recipe(training=pace)  # four batches an epoch
    fit_toy(recipe, pack, tmp_path / "run", on_validation=lambda epochs, scores: told.append((epochs, scores)))
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["epoch"].tolist() == expected
    assert history["step"].tolist() == [4 * epochs for epochs in expected]
    assert [epochs for epochs, _ in told] == expected
    assert [scores["val_loss"] for _, scores in told] == history["val_loss"].tolist()


@pytest.mark.slow
def test_the_training_scores_are_those_since_the_last_validation(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float, int]] = []

    def terms_of(output: NetworkOutput, labels: torch.Tensor, *others: Any) -> Any:
        loss = total_loss(output, labels, *others)
        seen.append((float(loss.detach()), float((output.logits.argmax(1) == labels).sum()), len(labels)))
        return loss_terms(output, labels, *others)

    monkeypatch.setattr(task, "loss_terms", terms_of)  # that of a training step
    fit_toy(toy_recipe(training={"validate_every_steps": 3, "checkpoint_steps": 1}), pack, tmp_path / "run")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    for row, some in zip(history.itertuples(), (seen[:3], seen[3:6], seen[6:]), strict=True):
        n = sum(count for _, _, count in some)
        assert row.train_loss == pytest.approx(sum(loss * count for loss, _, count in some) / n)
        assert row.train_accuracy == pytest.approx(sum(hits for _, hits, _ in some) / n)


@pytest.mark.slow
def test_checkpoints_change_no_weight(tmp_path: Path, pack: Pack) -> None:
    """Without dropout, whose random numbers begin anew with each segment."""
    settings = {"epochs": 2, "accumulate": 2, "validations_per_epoch": 2, "averaging": "swa", "swa_start": 0.2}
    states = [
        fit_toy(toy_recipe(training={**settings, "checkpoint_steps": steps}), pack, tmp_path / str(steps))[1]
        for steps in (1, 200)
    ]
    assert same(*states)
    one, other = (pd.read_csv(tmp_path / name / "history.csv") for name in ("1", "200"))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.slow
def test_a_checkpoint_is_kept_every_so_many_epochs(tmp_path: Path, pack: Pack) -> None:
    kept = {}
    for every, pace in ((None, {}), (1, {}), (2, {}), (2, {"validate_every_steps": 7})):
        folder = tmp_path / f"{every}-{len(pace)}"
        fit_toy(toy_recipe(training={"epochs": 5, "keep_every": every, **pace}), pack, folder)
        names = [name for name in names_in(folder / "checkpoints") if name.startswith("epoch-")]
        kept[every, len(pace)] = names
        for name in names:
            checkpoint = torch.load(folder / "checkpoints" / name, weights_only=True)
            epochs = checkpoint["skyclass"]["batch"] / 4
            # At the first checkpoint there or behind: validations at 7, 14 and 20 batches of four an epoch.
            assert epochs == (int(name[6:9]) if not pace else {2: 3.5, 4: 5.0}[int(name[6:9])])
    assert kept[None, 0] == []
    assert kept[1, 0] == [f"epoch-00{epoch}.ckpt" for epoch in (1, 2, 3, 4, 5)]
    assert kept[2, 0] == kept[2, 1] == ["epoch-002.ckpt", "epoch-004.ckpt"]


@pytest.mark.slow
@pytest.mark.parametrize("averaged", ["none", "ema", "swa"])
def test_the_scores_of_a_validation(tmp_path: Path, pack: Pack, averaged: str) -> None:
    """All of them by scikit-learn, from the weights in the last checkpoint: with averaging, the average."""
    from sklearn import metrics

    training = {"averaging": averaged, "swa_start": 0.5, "uncertainty_weight": 0.5}
    recipe = toy_recipe(model={"uncertainty": True}, training=training)
    fit_toy(recipe, pack, tmp_path / "run")
    network = new_network(recipe, 1, 3).eval()
    network.load_state_dict(last_state(tmp_path / "run"))
    split = pack.catalog["split"].to_numpy()
    mean, std = channel_statistics(pack.images, np.flatnonzero(split == "train"))
    x = (torch.from_numpy(pack.images[split == "val"]).float() / 255 - mean[0]) / std[0]
    truth = np.array([sorted(pack.classes).index(label) for label in pack.catalog["label"][split == "val"]])
    with torch.no_grad():
        logits, error_logits = network.head_output(network.features(x))
    assert error_logits is not None
    p, chance = torch.softmax(logits.double(), 1).numpy(), torch.sigmoid(error_logits.double()).numpy()
    predicted = p.argmax(1)
    wrong = torch.from_numpy(predicted != truth)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth))
    loss += 0.5 * torch.nn.functional.binary_cross_entropy_with_logits(error_logits, wrong.float())
    expected = {
        "val_loss": float(loss),
        "val_accuracy": metrics.accuracy_score(truth, predicted),
        "val_balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
        "val_macro_f1": metrics.f1_score(truth, predicted, average="macro", zero_division=0.0),
        "val_auroc": metrics.roc_auc_score(truth, p, multi_class="ovr"),
        "val_log_loss": metrics.log_loss(truth, p),
        "val_uncertainty": chance.mean(),
        "val_error_auroc": metrics.roc_auc_score(wrong.numpy(), chance),
        **{
            f"val_accuracy_{name}": float((predicted[truth == k] == k).mean())
            for k, name in enumerate(sorted(pack.classes))
        },
    }
    found = pd.read_csv(tmp_path / "run" / "history.csv").iloc[-1]
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=2e-4)


@pytest.mark.slow
def test_patience_is_in_epochs(tmp_path: Path, pack: Pack) -> None:
    settings = {"epochs": 8, "schedule": "none", "learning_rate": 1e-12, "early_stopping": 2}
    for pace, expected in (({"validations_per_epoch": 4}, 4), ({"validate_every_steps": 3}, 3)):
        folder = tmp_path / str(expected)
        fit_toy(toy_recipe(training={**settings, **pace}), pack, folder)
        history = pd.read_csv(folder / "history.csv")
        best = int(history["val_loss"].idxmin())
        waited = 2 * 4 if expected == 4 else -(-2 * 4 // 3)
        assert len(history) - 1 - best == waited


# The schedule


def steps_of(pack: Pack, recipe: Recipe) -> int:
    return -(-int((pack.catalog["split"] == "train").sum()) // recipe.training.batch_size) * recipe.training.epochs


def rates_of(settings: TrainingSettings, steps: int) -> list[float]:
    optimizer = OPTIMIZERS[settings.optimizer]([torch.nn.Parameter(torch.zeros(2))], settings)
    schedule = SCHEDULES[settings.schedule](optimizer, settings, steps, 1.0)
    assert schedule is not None
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.slow
def test_the_schedule_spans_the_whole_training(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = Task.training_step

    def step(self: Task, batch: Any, batch_index: int) -> torch.Tensor:
        seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return original(self, batch, batch_index)

    monkeypatch.setattr(Task, "training_step", step)
    recipe = toy_recipe(training={"epochs": 3})
    fit_toy(recipe, pack, tmp_path / "run")
    assert seen == pytest.approx(rates_of(recipe.training, steps_of(pack, recipe)))
    assert seen[-1] < 1e-3 * seen[0]
