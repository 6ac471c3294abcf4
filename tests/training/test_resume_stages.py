"""Going on with a run: more epochs behind its best checkpoint, or back to any other."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from helpers.commands import done, refused
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run, Stage
from skyclass.commands.evaluate import evaluate
from skyclass.commands.explain import explain
from skyclass.commands.report import report
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.core.files.replacing import REPLACING
from skyclass.recipes.recipe import Recipe
from skyclass.training.loop.checkpoints import BestCheckpoints
from skyclass.training.loop.task import Task

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

SETTINGS: dict[str, Any] = {"epochs": 2, "validations_per_epoch": 2, "checkpoint_steps": 1, "keep_every": 1}
MORE = "training.epochs=+1"


def recipe_of(**training: Any) -> Recipe:
    return toy_recipe(model={"dropout": 0.3}, training={**SETTINGS, **training})


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two epochs with onecycle that has ended, and its evaluation."""
    root = tmp_path_factory.mktemp("stages")
    pack = toy_pack(root / "pack")
    run = Run(train(write_recipe(root, recipe_of()), pack.path, out=root / "run", device="cpu"))
    evaluate(run.path)
    return run


@pytest.fixture
def run(ended: Run, tmp_path: Path) -> Run:
    shutil.copytree(ended.path, tmp_path / "run")
    return Run(tmp_path / "run")


def state_of(run: Run, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(run.checkpoints / name, weights_only=True)


def same_weights(one: Run, other: Run) -> bool:
    first, second = state_of(one)["state_dict"], state_of(other)["state_dict"]
    return all(torch.equal(first[name], second[name]) for name in first)


def best_epoch(run: Run) -> float:
    history = pd.read_csv(run.history_file)
    return float(history["epoch"][history["val_loss"].idxmin()])


@pytest.mark.slow
def test_more_epochs_begin_at_the_best_checkpoint(run: Run) -> None:
    before, best = pd.read_csv(run.history_file), best_epoch(run)
    train(resume=run.path, overrides=[MORE], device="cpu")
    end = -int(-best // 1) + 1
    history = pd.read_csv(run.history_file)
    assert history["epoch"].tolist() == [k / 2 for k in range(1, 2 * end + 1)]
    kept = before[before["epoch"] <= best]
    pd.testing.assert_frame_equal(history[: len(kept)], kept, check_exact=True)
    assert run.finished
    assert run.recipe().training.epochs == end
    stage = run.stages()[1]
    assert (stage.batch, stage.step, stage.epochs) == (int(4 * best), int(4 * best), end)
    assert str(stage.checkpoint).startswith(f"epoch={best:.2f}-")
    assert Classifier.load(run.path, "cpu").made_from["best_epoch"] == best_epoch(run)


def rates_in(monkeypatch: pytest.MonkeyPatch, run: Run, **more: Any) -> list[tuple[float, float]]:
    """Learning rate and first moment's decay of each step while the run goes on."""
    seen: list[tuple[float, float]] = []
    original = Task.on_before_optimizer_step

    def step(task: Task, optimizer: torch.optim.Optimizer) -> None:
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group["betas"][0]))
        original(task, optimizer)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "on_before_optimizer_step", step)
        train(resume=run.path, device="cpu", **more)
    return seen


@pytest.mark.slow
def test_onecycle_begins_anew_over_the_added_steps(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates_in(monkeypatch, run, overrides=["training.epochs=+2"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=len(seen))
    expected = []
    for _ in seen:
        expected.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step()
        schedule.step()
    assert len(seen) >= 8
    assert [rate for rate, _ in seen] == pytest.approx([rate for rate, _ in expected])
    assert [beta for _, beta in seen] == pytest.approx([beta for _, beta in expected])


@pytest.mark.slow
@pytest.mark.parametrize(
    "training",
    [
        {"schedule": "none"},
        {"schedule": "step", "step_epochs": 1, "step_factor": 0.5},
        {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.5},
    ],
)
def test_other_schedules_go_on_as_in_one_training(tmp_path: Path, training: dict[str, Any]) -> None:
    """From the last checkpoint, two epochs and two more are four epochs."""
    pack = toy_pack(tmp_path / "pack")
    whole = train(write_recipe(tmp_path / "a", recipe_of(**training, epochs=4)), pack.path, out=tmp_path / "whole")
    parts = train(write_recipe(tmp_path / "b", recipe_of(**training)), pack.path, out=tmp_path / "parts")
    train(resume=parts, overrides=["training.epochs=+2"], checkpoint="last")
    assert Run(parts).history_file.read_text() == Run(whole).history_file.read_text()
    assert same_weights(Run(parts), Run(whole))


@pytest.mark.slow
def test_a_worse_leg_keeps_the_old_best(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    best, weights = best_epoch(run), (run.classifier / "model.safetensors").read_bytes()
    original = Task._validation_scores
    monkeypatch.setattr(Task, "_validation_scores", lambda task, outputs: {**original(task, outputs), "val_loss": 99.0})
    train(resume=run.path, overrides=[MORE], device="cpu")
    assert len(run.stages()) == 2
    assert Classifier.load(run.path, "cpu").made_from["best_epoch"] == best
    assert (run.classifier / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_a_run_goes_back_to_any_checkpoint_and_ends_alike(ended: Run, run: Run) -> None:
    for name in ("epoch-001", "epoch-001.ckpt", "best", "last", *(path.name for path in run.checkpoints.iterdir())):
        train(resume=run.path, checkpoint=name, device="cpu")
        assert run.history_file.read_text() == ended.history_file.read_text()
        assert same_weights(run, ended)
        assert sorted(path.name for path in run.checkpoints.iterdir()) == sorted(
            path.name for path in ended.checkpoints.iterdir()
        )
        assert run.stages() == ended.stages()


@pytest.mark.slow
def test_going_back_behind_a_leg_forgets_it(ended: Run, run: Run) -> None:
    train(resume=run.path, overrides=[MORE], device="cpu")
    assert len(run.stages()) == 2
    train(resume=run.path, checkpoint="epoch-001", device="cpu")
    assert run.stages() == ended.stages()
    assert run.recipe() == ended.recipe()
    assert run.history_file.read_text() == ended.history_file.read_text()


@pytest.mark.slow
def test_more_epochs_from_an_early_checkpoint_give_up_what_followed(run: Run) -> None:
    train(resume=run.path, overrides=["training.epochs=+3"], checkpoint="epoch-001", device="cpu")
    assert run.stages()[1] == Stage(4, 4, 4, 4, "epoch-001.ckpt", (3, "epoch-001"))
    assert pd.read_csv(run.history_file)["epoch"].max() == 4
    names = {path.name for path in run.checkpoints.iterdir()}
    assert {f"epoch-00{epoch}.ckpt" for epoch in (1, 2, 3, 4)} < names


def killed_while_replacing(folder: Path, key: str) -> None:
    """Leave in `folder` what a command leaves that is killed before it puts its new files in place."""
    shutil.copytree(folder, folder.with_name("new"), ignore=lambda *_: {"mine.txt", "README.md"})
    (folder.with_name("new") / ".order.json").write_text(json.dumps({"key": key, "remove": []}))
    folder.with_name("new").rename(folder / REPLACING)


@pytest.mark.slow
def test_results_of_the_old_leg_are_not_taken_for_the_new_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    explain(run.path, per_class=1, device="cpu")
    report(run.path)
    (run.explanations / "mine.txt").write_text("a note")
    killed_while_replacing(run.classifier, "classifier.json")
    killed_while_replacing(run.explanations, "explanations.csv")
    monkeypatch.setattr(Task, "training_step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        train(resume=run.path, overrides=[MORE], device="cpu")
    assert not run.finished
    assert not run.report_file.exists()
    assert [path.name for path in run.explanations.iterdir()] == ["mine.txt"]
    assert not list(run.classifier.iterdir())
    for verb in (evaluate, report):
        with pytest.raises(SkyclassError, match="the run has not ended"):
            verb(run.path)
    with pytest.raises(SkyclassError, match="unfinished run"):
        Classifier.load(run.path)
    monkeypatch.undo()
    train(resume=run.path, device="cpu")  # a plain resume goes on with the stage
    with pytest.raises(SkyclassError, match="no evaluation"):
        report(run.path)
    evaluate(run.path)
    assert "None were made" in report(run.path).read_text()


@pytest.mark.slow
def test_epochs_are_not_added_to_a_run_that_has_not_ended(run: Run) -> None:
    run.predictions_file.unlink()
    sentence = refused("train", "--resume", run.path, "--set", MORE)
    assert "this one has not; end it first: skyclass train --resume" in sentence
    done("train", "--resume", run.path, "--device", "cpu")
    done("train", "--resume", run.path, "--set", MORE, "--device", "cpu")
    assert len(run.stages()) == 2


def test_a_new_run_has_no_epochs_to_add_to(tmp_path: Path) -> None:
    sentence = refused("train", "lensing-demo", tmp_path / "pack", "--out", tmp_path / "run", "--set", MORE)
    assert "skyclass train --resume" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["training.epochs=9", "training.epochs=+0", "training.epochs=+x", "seed=+1"])
def test_nothing_else_is_changed_in_a_run(run: Run, change: str) -> None:
    sentence = refused("train", "--resume", run.path, "--set", change)
    assert "resumed by its own recipe" in sentence
    assert "training.epochs=+N" in sentence


@pytest.mark.slow
def test_an_unknown_checkpoint_is_refused_with_those_there_are(run: Run) -> None:
    sentence = refused("train", "--resume", run.path, "--checkpoint", "epoch-009")
    assert "the run has no checkpoint 'epoch-009'; it has epoch-001.ckpt, epoch-002.ckpt, epoch=" in sentence
    assert "a checkpoint belongs to a run" in refused("train", "r.yaml", "pack", "--checkpoint", "best")
    assert run.finished


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "empty", "text", "foreign"])
def test_a_damaged_checkpoint_is_refused_with_a_way_out(run: Run, how: str) -> None:
    run.predictions_file.unlink()
    whole = run.last_checkpoint.read_bytes()
    if how == "foreign":
        torch.save({"state_dict": {}}, run.last_checkpoint)
    else:
        run.last_checkpoint.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[how])
    sentence = refused("train", "--resume", run.path, "--device", "cpu")
    assert re.search(r"last.ckpt: (the checkpoint is damaged|this is no checkpoint)", sentence)
    assert "--checkpoint NAME`: epoch-001.ckpt" in sentence
    said = done("train", "--resume", run.path, "--checkpoint", "epoch-001", "--device", "cpu").err
    assert "Going on from epoch-001, behind epoch 1, to epoch" in said
    assert run.finished


@pytest.mark.slow
def test_a_best_checkpoint_that_is_gone_is_replaced(run: Run) -> None:
    for path in run.checkpoints.glob("epoch=*"):
        path.unlink()
    run.predictions_file.unlink()
    assert "the last one takes its place" in done("train", "--resume", run.path, "--device", "cpu").err
    assert Classifier.load(run.path, "cpu").made_from["best_epoch"] == 2
    done("train", "--resume", run.path, "--checkpoint", "epoch-001", "--device", "cpu")
    assert len(list(run.checkpoints.glob("epoch=*"))) == 1


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_are_found_again_where_they_lie_now(tmp_path: Path, mode: str) -> None:
    training = recipe_of(monitor="val_loss" if mode == "min" else "val_auroc", keep_best=2).training
    names = ["a.ckpt", "b.ckpt", "c.ckpt"]
    for name in names[:2]:
        (tmp_path / name).touch()
    scores = dict(zip(names, map(torch.tensor, (0.5, 0.2, 0.1)), strict=True))
    callback = BestCheckpoints(tmp_path, training, None)  # type: ignore[arg-type]
    saved = {f"/elsewhere/{name}": score for name, score in scores.items()}
    callback.load_state_dict({"best_k_models": saved, "current_score": None})
    assert [Path(path).name for path in callback.best_k_models] == ["a.ckpt", "b.ckpt"]
    low, high = str(tmp_path / "b.ckpt"), str(tmp_path / "a.ckpt")
    assert callback.best_model_path == (low if mode == "min" else high)
    assert callback.kth_best_model_path == (high if mode == "min" else low)
