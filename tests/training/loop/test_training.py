"""Training: the Trainer against a plain loop, interruptions, what validation sees, checkpoints, and every option."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from helpers.toys import toy_pack, toy_recipe, write_recipe
from helpers.trainings import State, fit_toy, last_state, new_network, plain_loop, same
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack
from skyclass.images.preprocess import channel_statistics
from skyclass.models.network import NetworkOutput
from skyclass.recipes.data_settings import DataSettings
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.recipe import Recipe, dump_recipe
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop import task
from skyclass.training.loop.checkpoints import BestCheckpoints, CheckpointIO, LastCheckpoint
from skyclass.training.loop.losses import loss_terms, total_loss
from skyclass.training.loop.optimizers import OPTIMIZERS, SCHEDULES
from skyclass.training.loop.task import Task

AUGMENT = {
    "flip_horizontal": 0.5,
    "rotation": 30.0,
    "scale": [0.9, 1.1],
    "shift": 0.1,
    "brightness": 0.2,
    "noise": 0.02,
    "mirror_swaps": [["blob", "bar"]],
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """27 training, 12 validation and 9 test images of 12x16 pixels."""
    return toy_pack(tmp_path_factory.mktemp("packs") / "pack")


def run_of(folder: Path, pack: Pack, recipe: Recipe) -> Run:
    """A whole training through the verb."""
    return Run(train(write_recipe(folder, recipe), pack.path, out=folder / "run", device="cpu"))


# The plain loop


def test_the_trainer_does_what_a_plain_loop_does(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", bands=3)
    recipe = toy_recipe(seed=3, augment=AUGMENT, model={"dropout": 0.2}, training={"label_smoothing": 0.1})
    expected = plain_loop(recipe, pack)
    run = run_of(tmp_path, pack, recipe)
    found = last_state(run.path)
    assert set(found) == set(expected)
    assert same(found, expected)  # to the last bit
    assert not torch.equal(expected["backbone.conv1.weight"], new_network(recipe, 3, 3).backbone.conv1.weight)


def test_the_same_recipe_twice_is_the_same_to_the_last_bit_and_another_seed_is_not(tmp_path: Path, pack: Pack) -> None:
    recipe = toy_recipe(augment=AUGMENT, model={"dropout": 0.2})
    first, again = (fit_toy(recipe, pack, tmp_path / name)[1] for name in ("first", "again"))
    assert same(first, again)
    other = fit_toy(recipe.model_copy(update={"seed": 1}), pack, tmp_path / "other")[1]
    assert not same(first, other)


# Interrupted trainings

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


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
    return run_of(tmp_path_factory.mktemp("long"), pack, long_recipe("onecycle", epochs=20))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_resumed(tmp_path: Path, pack: Pack, long_run: Run, how: signal.Signals) -> None:
    recipe = long_recipe("onecycle", epochs=20)
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


# What validation and test see


def test_validation_and_test_see_every_image_and_no_augmentation(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", classes=("blob", "ring"), splits={"train": 7, "val": 11, "test": 17})
    recipe = toy_recipe(augment={**AUGMENT, "mirror_swaps": [], "noise": 0.5}, model={"dropout": 0.5})
    run = run_of(tmp_path, pack, recipe)
    classifier = Classifier.load(run.path, "cpu")
    network = new_network(recipe, 1, 2)
    network.load_state_dict(last_state(run.path))
    truth = np.array([pack.classes.index(label) for label in pack.catalog["label"]])
    split = pack.catalog["split"].to_numpy()
    pixels = torch.from_numpy(np.array(pack.images)).float() / 255
    inputs = (pixels - classifier.mean[0]) / classifier.std[0]
    with torch.no_grad():
        logits = network.eval()(inputs[split == "val"]).double()
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth[split == "val"]))
        network.load_state_dict(load_file(run.classifier / "model.safetensors"))
        p = torch.softmax(network(inputs[split != "train"]).double(), 1)
    history = pd.read_csv(run.history_file)
    assert history["val_loss"].iloc[-1] == pytest.approx(float(loss), rel=1e-5)
    hits = (logits.argmax(1).numpy() == truth[split == "val"]).mean()
    assert history["val_accuracy"].iloc[-1] == pytest.approx(hits, abs=1e-6)
    predictions = pd.read_parquet(run.predictions_file)
    assert predictions["image_id"].tolist() == pack.catalog["image_id"][split != "train"].tolist()
    assert predictions["label"].tolist() == pack.catalog["label"][split != "train"].tolist()
    assert set(predictions["split"]) == {"val", "test"}
    np.testing.assert_allclose(predictions[["p_blob", "p_ring"]].to_numpy(), p.numpy(), atol=1e-5)


@pytest.mark.parametrize("monitor", ["val_loss", "val_balanced_accuracy", "val_auroc"])
def test_a_class_that_validation_lacks_is_no_trouble(tmp_path: Path, pack: Pack, monitor: str) -> None:
    keep = (pack.catalog["split"] != "val") | (pack.catalog["label"] != "ring")
    folder = cut(pack, tmp_path / "pack", keep.to_numpy())
    run = run_of(tmp_path, folder, toy_recipe(training={"monitor": monitor}))
    assert pd.read_csv(run.history_file)["val_auroc"].between(0, 1).all()


def test_a_single_class_in_validation_is_no_trouble(tmp_path: Path, pack: Pack) -> None:
    keep = (pack.catalog["split"] != "val") | (pack.catalog["label"] == "ring")
    folder = cut(pack, tmp_path / "pack", keep.to_numpy())
    run = run_of(tmp_path, folder, toy_recipe(training={"monitor": "val_auroc"}))
    assert pd.read_csv(run.history_file)["val_auroc"].isna().all()
    assert run.finished


def cut(pack: Pack, folder: Path, keep: np.ndarray) -> Pack:
    """A pack of some rows of another."""
    from skyclass.data.packs.pack import PackChunk, write_pack

    chunk = PackChunk(np.array(pack.images)[keep], pack.catalog[keep])
    return write_pack([chunk], folder, pack.pixels, classes=None, source={})


# A loss that is no number


def test_a_loss_that_is_not_finite_stops_with_the_images_at_fault(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", dtype="float32")
    with pytest.raises(SkyclassError) as refusal:
        run_of(tmp_path, pack, toy_recipe(training={"learning_rate": 1e30, "schedule": "none"}))
    assert refusal.value.what.startswith(("the loss is nan at epoch 1, step ", "the loss is inf at epoch 1, step "))
    assert re.search(
        r"lower training.learning_rate, .* of this step: train-(blob|ring|bar)-\d, ", str(refusal.value.fix)
    )
    assert not Run(tmp_path / "run").finished


# Checkpoints, logs


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_the_classifier_is_the_best_epoch_and_the_best_are_kept(tmp_path: Path, pack: Pack, monitor: str) -> None:
    # Only the running statistics move, which makes an early epoch the best.
    settings = {"epochs": 7, "monitor": monitor, "keep_best": 3, "learning_rate": 1e-12, "schedule": "none"}
    run = run_of(tmp_path, pack, toy_recipe(training=settings))
    scores = pd.read_csv(run.history_file).set_index("epoch")[monitor]
    better = scores if monitor == "val_loss" else -scores
    best = Classifier.load(run.path, "cpu").made_from["best_epoch"]
    assert better[best] == better.min()
    assert best < 7
    kept = {float(path.name.split("-")[0][6:]): path for path in run.checkpoints.glob("epoch=*.ckpt")}
    assert len(kept) == 3
    assert sorted(better[list(kept)]) == sorted(better)[:3]
    state = torch.load(kept[best], weights_only=True)["state_dict"]
    weights = load_file(run.classifier / "model.safetensors")
    assert same({name.removeprefix("network."): value for name, value in state.items()}, weights)
    assert names_in(run.checkpoints)[-1] == "last.ckpt"


def test_the_history_has_a_row_a_validation_and_is_drawn(tmp_path: Path, pack: Pack) -> None:
    run = run_of(tmp_path, pack, toy_recipe(training={"epochs": 3}))
    assert pd.read_csv(run.history_file)["epoch"].tolist() == [1, 2, 3]
    assert run.curves_file.stat().st_size > 1000


# Every option changes something


def steps_of(pack: Pack, recipe: Recipe) -> int:
    return -(-int((pack.catalog["split"] == "train").sum()) // recipe.training.batch_size) * recipe.training.epochs


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


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_changes_the_trained_weights(trained: Callable[[Recipe], State], option: str) -> None:
    change, beside = CHANGES[option]
    section = option.split(".")[0]
    before = toy_recipe(**({section: beside} if beside else {}))
    after = toy_recipe(**{section: {**beside, **change}})
    assert before != after
    assert not same(trained(before), trained(after))


def test_early_stopping_stops(tmp_path: Path, pack: Pack) -> None:
    settings = {"epochs": 8, "schedule": "none", "learning_rate": 1e-12}  # validation only gets worse
    lengths = []
    for patience in (None, 1, 3):
        run = run_of(tmp_path / str(patience), pack, toy_recipe(training={**settings, "early_stopping": patience}))
        lengths.append(len(pd.read_csv(run.history_file)))
    assert lengths == [8, 2, 4]


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


# Validations and checkpoints


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


def test_patience_is_in_epochs(tmp_path: Path, pack: Pack) -> None:
    settings = {"epochs": 8, "schedule": "none", "learning_rate": 1e-12, "early_stopping": 2}
    for pace, expected in (({"validations_per_epoch": 4}, 4), ({"validate_every_steps": 3}, 3)):
        folder = tmp_path / str(expected)
        fit_toy(toy_recipe(training={**settings, **pace}), pack, folder)
        history = pd.read_csv(folder / "history.csv")
        best = int(history["val_loss"].idxmin())
        waited = 2 * 4 if expected == 4 else -(-2 * 4 // 3)
        assert len(history) - 1 - best == waited


def test_no_epochs_take_the_network_as_it_begins(tmp_path: Path, pack: Pack) -> None:
    """The published way of judging a pretrained network; all that follows a training works."""
    from skyclass.commands.evaluate import evaluate
    from skyclass.commands.explain import explain
    from skyclass.commands.report import report

    recipe = toy_recipe(training={"epochs": 0})
    run = run_of(tmp_path, pack, recipe)
    assert same(load_file(run.classifier / "model.safetensors"), new_network(recipe, 1, 3).state_dict())
    assert Classifier.load(run.path, "cpu").made_from["best_epoch"] == 0
    assert pd.read_csv(run.history_file).empty
    assert not run.curves_file.exists()
    assert evaluate(run.path)["n"] == 9
    explain(run.path, per_class=1, device="cpu")
    assert "the classifier is the network as it begins" in report(run.path).read_text()


# The schedule


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
