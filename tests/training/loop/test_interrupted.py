"""Interrupted trainings end as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from helpers.toys import toy_pack, toy_recipe, write_recipe
from helpers.trainings import AUGMENT, fit_toy, last_state, names_in, run_of, same
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack
from skyclass.recipes.recipe import Recipe
from skyclass.training.loop.checkpoints import BestCheckpoints, CheckpointIO, LastCheckpoint
from skyclass.training.loop.task import Task

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]

SCHEDULED = {
    "onecycle": {"schedule": "onecycle"},
    "plateau": {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.5, "learning_rate": 1e-5},
    "none": {"schedule": "none", "optimizer": "adam"},
}


def long_recipe(schedule: str, epochs: int = 4) -> Recipe:
    training = {"epochs": epochs, "keep_best": 2, **SCHEDULED[schedule]}
    return toy_recipe(augment=AUGMENT, model={"dropout": 0.3}, training=training)


@pytest.fixture(scope="module")
def uninterrupted(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of four epochs for each schedule."""
    return {name: run_of(tmp_path_factory.mktemp("whole"), pack, long_recipe(name, epochs=4)) for name in SCHEDULED}


def assert_same_end(run: Run, expected: Run) -> None:
    """Weights after the last epoch and of the best one, history, kept checkpoints and predictions are the same."""
    assert run.history_file.read_text() == expected.history_file.read_text()
    assert same(last_state(run.path), last_state(expected.path))
    assert same(load_file(run.classifier / "model.safetensors"), load_file(expected.classifier / "model.safetensors"))
    assert names_in(run.checkpoints) == names_in(expected.checkpoints)
    found, wanted = (pd.read_parquet(one.predictions_file) for one in (run, expected))
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def at_epoch(original: Callable[..., Any], epoch: int, error: BaseException) -> Callable[..., Any]:
    """The method, which raises `error` in that epoch (from 0), at its second call there where it has batches."""

    def method(self: Any, *arguments: Any) -> Any:
        trainer = next((one.trainer if isinstance(one, Task) else one) for one in (self, *arguments) if _has_epoch(one))
        batch_index = next((one for one in arguments if isinstance(one, int)), 1)
        if trainer.current_epoch == epoch and batch_index == 1:
            raise error
        return original(self, *arguments)

    return method


def _has_epoch(one: object) -> bool:
    return isinstance(one, Task) or hasattr(one, "current_epoch")


PLACES = {
    "in the middle of an epoch": (Task, "training_step"),
    "in validation": (Task, "on_validation_epoch_end"),
    "before the checkpoints": (BestCheckpoints, "on_train_epoch_end"),
    "between the best and the last checkpoint": (LastCheckpoint, "on_train_epoch_end"),
}


@pytest.mark.parametrize("schedule", SCHEDULED)
@pytest.mark.parametrize("place", PLACES)
def test_an_interrupted_training_ends_as_if_nothing_had_been(
    tmp_path: Path, pack: Pack, uninterrupted: dict[str, Run], schedule: str, place: str
) -> None:
    owner, name = PLACES[place]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, at_epoch(getattr(owner, name), 2, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run_of(tmp_path, pack, long_recipe(schedule))
    run = Run(tmp_path / "run")
    assert not run.finished
    assert torch.load(run.last_checkpoint, weights_only=True)["epoch"] == 1
    assert train(resume=run.path, device="cpu") == run.path
    assert_same_end(run, uninterrupted[schedule])


def test_a_checkpoint_that_calls_the_uncertainty_head_doubt_goes_on(tmp_path: Path, pack: Pack) -> None:
    """As those of Skyclass 0.1 do, also in the averages of the weights."""
    recipe = toy_recipe(model={"uncertainty": True}, training={"epochs": 3, "averaging": "ema"})
    whole = run_of(tmp_path / "whole", pack, recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "training_step", at_epoch(Task.training_step, 2, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run_of(tmp_path, pack, recipe)
    run = Run(tmp_path / "run")
    for file in run.checkpoints.glob("*.ckpt"):
        checkpoint = torch.load(file, weights_only=True)
        for part in ("state_dict", "current_model_state"):
            tensors = checkpoint[part]
            checkpoint[part] = {name.replace("error_head.", "doubt."): value for name, value in tensors.items()}
            assert "network.doubt.0.weight" in checkpoint[part]
        CheckpointIO().save_checkpoint(checkpoint, file)
    train(resume=run.path, device="cpu")
    assert_same_end(run, whole)


def test_the_last_checkpoint_is_the_last_epoch_even_when_no_epoch_is_better(tmp_path: Path, pack: Pack) -> None:
    settings = {"epochs": 4, "schedule": "none", "learning_rate": 1e-12}  # validation only gets worse
    fit_toy(toy_recipe(training=settings), pack, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["epoch"] == 3
    assert [name[:9] for name in names_in(checkpoints)] == ["epoch=1.0", "last.ckpt"]


def test_the_plateau_did_lower_the_rate(uninterrupted: dict[str, Run]) -> None:
    """Otherwise the test above would say little."""
    rates = pd.read_csv(uninterrupted["plateau"].history_file)["learning_rate"]
    assert 1 < rates.nunique() <= 4
    assert rates.is_monotonic_decreasing


def test_ctrl_c_works_again_after_an_interrupted_training(tmp_path: Path, pack: Pack) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "training_step", at_epoch(Task.training_step, 0, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run_of(tmp_path, pack, toy_recipe())
    assert signal.getsignal(signal.SIGINT) is before
    assert not Run(tmp_path / "run").last_checkpoint.exists()
    train(resume=tmp_path / "run", device="cpu")  # nothing was saved: it begins anew
    expected = run_of(tmp_path / "whole", pack, toy_recipe())
    assert_same_end(Run(tmp_path / "run"), expected)


def test_a_training_that_ended_before_its_predictions_only_predicts(
    tmp_path: Path, pack: Pack, uninterrupted: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            run_of(tmp_path, pack, long_recipe("onecycle"))
    monkeypatch.setattr(Task, "training_step", lambda *_: pytest.fail("it trained"))
    train(resume=tmp_path / "run", device="cpu")
    assert_same_end(Run(tmp_path / "run"), uninterrupted["onecycle"])
    written = Run(tmp_path / "run").predictions_file.stat().st_mtime_ns
    train(resume=tmp_path / "run", device="cpu")  # a finished run is left alone
    assert Run(tmp_path / "run").predictions_file.stat().st_mtime_ns == written


def test_a_run_that_stopped_early_trains_no_further_epoch(tmp_path: Path, pack: Pack) -> None:
    settings = {"epochs": 9, "early_stopping": 1, "schedule": "none", "learning_rate": 1e-12}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            run_of(tmp_path, pack, toy_recipe(training=settings))
    run = Run(tmp_path / "run")
    history = run.history_file.read_text()
    assert 2 <= len(history.splitlines()) - 1 < 9
    train(resume=run.path, device="cpu")
    assert run.history_file.read_text() == history
    assert run.finished


def test_a_run_that_was_moved_goes_on(tmp_path: Path, pack: Pack, uninterrupted: dict[str, Run]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "training_step", at_epoch(Task.training_step, 2, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run_of(tmp_path, pack, long_recipe("onecycle"))
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere")
    train(resume=moved, device="cpu")
    assert_same_end(Run(moved), uninterrupted["onecycle"])
    assert not (tmp_path / "run").exists()


def interruptible() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and so would be what the tests start there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def long_run(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """So long that a process is killed before its end."""
    return run_of(tmp_path_factory.mktemp("long"), pack, long_recipe("onecycle", epochs=8))


@pytest.mark.kill
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_resumed(tmp_path: Path, pack: Pack, long_run: Run, how: signal.Signals) -> None:
    recipe = long_recipe("onecycle", epochs=8)
    file, run = write_recipe(tmp_path, recipe), Run(tmp_path / "run")
    command = [sys.executable, "-m", "skyclass", "train", str(file), str(pack.path), "--out", str(run.path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, preexec_fn=interruptible) as process:
        deadline = time.monotonic() + 100
        while not run.last_checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(how)
        assert process.wait(60) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert run.last_checkpoint.is_file()
    assert not run.finished
    train(resume=run.path, device="cpu")
    assert_same_end(run, long_run)


def test_a_changed_pack_is_not_trained_on(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "training_step", at_epoch(Task.training_step, 1, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run_of(tmp_path, toy_pack(tmp_path / "pack"), toy_recipe())
    toy_pack(tmp_path / "pack", splits={"train": 8, "val": 4, "test": 3})
    with pytest.raises(SkyclassError, match="the pack has changed since this run began"):
        train(resume=tmp_path / "run", device="cpu")
