"""Training: the Trainer against a plain loop, interruptions, what validation sees, checkpoints, and every option."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from skyclass.classifier import Classifier
from skyclass.data.pack import Pack
from skyclass.errors import SkyclassError
from skyclass.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from skyclass.run import Run
from skyclass.training.losses import LOSSES, class_weights
from skyclass.training.optimizers import OPTIMIZERS, SCHEDULES
from skyclass.training.task import Task
from skyclass.training.watching import Checkpoints
from skyclass.verbs.train import train
from toys import toy_pack, toy_recipe, write_recipe
from trainings import fit_toy, last_state, new_network, plain_loop

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


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


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
    "before the checkpoints": (Checkpoints, "on_train_epoch_end"),
    "between the best and the last checkpoint": (Checkpoints, "_save_none_monitor_checkpoint"),
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


def test_the_last_checkpoint_is_the_last_epoch_even_when_no_epoch_is_better(tmp_path: Path, pack: Pack) -> None:
    settings = {"epochs": 4, "schedule": "none", "learning_rate": 1e-12}  # validation only gets worse
    fit_toy(toy_recipe(training=settings), pack, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["epoch"] == 3
    assert [name[:9] for name in names_in(checkpoints)] == ["epoch=000", "last.ckpt"]


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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_resumed(tmp_path: Path, pack: Pack, how: signal.Signals) -> None:
    recipe = long_recipe("onecycle", epochs=20)
    expected = run_of(tmp_path / "whole", pack, recipe)
    file, run = write_recipe(tmp_path, recipe), Run(tmp_path / "run")
    command = [sys.executable, "-m", "skyclass", "train", str(file), str(pack.path), "--out", str(run.path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        while not run.last_checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(how)
        assert process.wait(60) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert run.last_checkpoint.is_file()
    assert not run.finished
    train(resume=run.path, device="cpu")
    assert_same_end(run, expected)


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
    from skyclass.data.pack import Chunk, write_pack

    chunk = Chunk(np.array(pack.images)[keep], pack.catalog[keep])
    return write_pack([chunk], folder, pack.pixels, classes=None, source={})


# A loss that is no number


def test_a_loss_that_is_not_finite_stops_with_the_rows_at_fault(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", dtype="float32")
    with pytest.raises(SkyclassError) as refusal:
        run_of(tmp_path, pack, toy_recipe(training={"learning_rate": 1e30, "schedule": "none"}))
    assert refusal.value.what.startswith(("the loss is nan at epoch 1, step ", "the loss is inf at epoch 1, step "))
    assert "lower training.learning_rate" in str(refusal.value.fix)
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
    kept = {int(path.name[6:9]) + 1: path for path in run.checkpoints.glob("epoch=*.ckpt")}
    assert len(kept) == 3
    assert sorted(better[list(kept)]) == sorted(better)[:3]
    state = torch.load(kept[best], weights_only=True)["state_dict"]
    weights = load_file(run.classifier / "model.safetensors")
    assert same({name.removeprefix("network."): value for name, value in state.items()}, weights)
    assert names_in(run.checkpoints)[-1] == "last.ckpt"


def test_tensorboard_and_history_hold_the_same_numbers(tmp_path: Path, pack: Pack) -> None:
    run = run_of(tmp_path, pack, toy_recipe(training={"epochs": 3}))
    log = EventAccumulator(str(run.path / "log"))
    log.Reload()
    history = pd.read_csv(run.history_file)
    assert history["epoch"].tolist() == [1, 2, 3]
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy", "val_auroc"):
        assert [event.value for event in log.Scalars(name)] == pytest.approx(history[name].tolist(), rel=1e-6)
    assert run.curves_file.stat().st_size > 1000


# Every option changes something


def steps_of(pack: Pack, recipe: Recipe) -> int:
    return -(-int((pack.catalog["split"] == "train").sum()) // recipe.training.batch_size) * recipe.training.epochs


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
    "training.plateau_factor": ({"plateau_factor": 0.7}, PLATEAU),
    "training.plateau_patience": ({"plateau_patience": 9}, PLATEAU),
    "training.precision": ({"precision": "bfloat16"}, {}),
    "model.backbone": ({"backbone": "test_resnet"}, {}),
    "model.freeze": ({"freeze": ["layer1"]}, {}),
    "model.dropout": ({"dropout": 0.5}, {}),
    "data.exclude": ({"exclude": ["ring"]}, {}),
}
ELSEWHERE = {
    "training.loss": "test_recipe: its one choice is the one function",
    "training.monitor": "test_the_classifier_is_the_best_epoch_and_the_best_are_kept",
    "training.keep_best": "test_the_classifier_is_the_best_epoch_and_the_best_are_kept",
    "training.early_stopping": "test_early_stopping_stops",
    "training.channels_last": "test_channels_last_is_the_order_in_memory",
    "model.head": "test_recipe: its one choice is the one function",
    "data.votes": "test_folds: test_votes_label_a_pack_that_has_no_labels, test_votes for its settings",
    "data.folds": "test_folds: test_folds_take_the_place_of_the_packs_splits",
    "data.fold": "test_folds: test_folds_take_the_place_of_the_packs_splits",
    "model.weights": "test_weights",
}


def test_every_option_is_tested() -> None:
    sections = {"training": TrainingRecipe, "model": ModelRecipe, "data": DataRecipe}
    options = {f"{section}.{name}" for section, model in sections.items() for name in model.model_fields}
    assert set(CHANGES) | set(ELSEWHERE) == options
    assert not set(CHANGES) & set(ELSEWHERE)


@pytest.fixture(scope="module")
def unbalanced(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """The pack without most training images of one class."""
    catalog = pack.catalog
    rare = (catalog["split"] == "train") & (catalog["label"] == "ring") & ~catalog["image_id"].str.endswith(("0", "1"))
    return cut(pack, tmp_path_factory.mktemp("packs") / "unbalanced", ~rare.to_numpy())


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_changes_the_trained_weights(tmp_path: Path, unbalanced: Pack, option: str) -> None:
    change, beside = CHANGES[option]
    section = option.split(".")[0]
    before = toy_recipe(**({section: beside} if beside else {}))
    after = toy_recipe(**{section: {**beside, **change}})
    assert before != after
    one = fit_toy(before, unbalanced, tmp_path / "before")[1]
    other = fit_toy(after, unbalanced, tmp_path / "after")[1]
    assert not same(one, other)


def test_early_stopping_stops(tmp_path: Path, pack: Pack) -> None:
    settings = {"epochs": 8, "schedule": "none", "learning_rate": 1e-12}  # validation only gets worse
    lengths = []
    for patience in (None, 1, 3):
        run = run_of(tmp_path / str(patience), pack, toy_recipe(training={**settings, "early_stopping": patience}))
        lengths.append(len(pd.read_csv(run.history_file)))
    assert lengths == [8, 2, 4]


def test_channels_last_is_the_order_in_memory(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original = Task._step

    def step(self: Task, batch: Any, stage: str) -> torch.Tensor:
        weight = self.network.backbone.get_submodule("layer3.0.conv1").weight
        seen.append(weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous())
        return original(self, batch, stage)

    monkeypatch.setattr(Task, "_step", step)
    for wanted in (True, False):
        seen.clear()
        fit_toy(toy_recipe(training={"channels_last": wanted}), pack, tmp_path / str(wanted))
        assert set(seen) == {wanted}


# Losses and weights of classes


def test_cross_entropy_by_hand() -> None:
    """Mean of w_y [(1 - e) (-ln p_y)] + e / K sum_k w_k (-ln p_k) over the sum of w_y."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, generator=generator), torch.tensor([0, 1, 2, 2, 1, 0])
    weights, smoothing = torch.tensor([0.5, 1.0, 2.0]), 0.1
    log_p = np.log(np.exp(logits.double().numpy()) / np.exp(logits.double().numpy()).sum(1, keepdims=True))
    w = weights.double().numpy()
    own = -w[labels] * log_p[np.arange(6), labels] * (1 - smoothing)
    spread = -(w * log_p).sum(1) * smoothing / 3
    expected = (own + spread).sum() / w[labels].sum()
    found = LOSSES["cross_entropy"](logits, labels, weights, TrainingRecipe(label_smoothing=smoothing))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_class_weights() -> None:
    labels = np.repeat([0, 1, 2], [8, 2, 2])
    assert class_weights(labels, ["a", "b", "c"], "none") is None
    balanced, root = (class_weights(labels, ["a", "b", "c"], how) for how in ("balanced", "sqrt"))
    assert balanced is not None
    assert root is not None
    assert balanced.numpy()[1:] / balanced.numpy()[0] == pytest.approx([4.0, 4.0])
    assert root.numpy()[1:] / root.numpy()[0] == pytest.approx([2.0, 2.0])
    for weights in (balanced, root):
        assert weights.numpy()[labels].mean() == pytest.approx(1.0)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.random.default_rng(0).integers(0, 4, 50)
    found = class_weights(labels, list("abcd"), "balanced")
    assert found is not None
    np.testing.assert_allclose(found.numpy(), compute_class_weight("balanced", classes=np.arange(4), y=labels), 1e-6)


@pytest.mark.parametrize("how", ["none", "balanced", "sqrt"])
def test_a_class_without_a_training_image_is_refused_with_an_override_that_works(how: str) -> None:
    from skyclass.recipe import load_recipe

    with pytest.raises(SkyclassError, match="class 'no' has no training image") as refusal:
        class_weights(np.array([0, 0, 2]), ["a", "no", "c"], how)
    override = str(refusal.value.fix).split("--set ")[1].strip("'")
    assert load_recipe("lensing-demo", [override]).data.exclude == ("no",)


# Optimisers and schedules


def test_the_optimiser_gets_its_settings() -> None:
    recipe = TrainingRecipe(learning_rate=0.02, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.03)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    for name, kind in kinds.items():
        optimizer = OPTIMIZERS[name]([torch.nn.Parameter(torch.zeros(2))], recipe)
        assert type(optimizer) is kind
        expected = {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-5, "weight_decay": 0.03}
        assert {key: optimizer.defaults[key] for key in expected} == expected


def rates_of(recipe: TrainingRecipe, steps: int) -> list[float]:
    optimizer = OPTIMIZERS[recipe.optimizer]([torch.nn.Parameter(torch.zeros(2))], recipe)
    schedule = SCHEDULES[recipe.schedule](optimizer, recipe, steps)
    assert schedule is not None
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("warmup", "start", "end"), [(0.3, 25.0, 1e4), (0.5, 10.0, 1e4), (0.3, 25.0, 10.0)])
def test_onecycle_follows_its_formula(warmup: float, start: float, end: float) -> None:
    """Two half cosines: from rate / start up to rate at step warmup * steps - 1, down to rate / start / end."""
    steps, top = 20, 0.1
    settings = {"warmup": warmup, "start_divisor": start, "end_divisor": end, "learning_rate": top}
    found = rates_of(TrainingRecipe(schedule="onecycle", **settings), steps)
    low, last, turn = top / start, top / start / end, warmup * steps - 1
    for step, rate in enumerate(found):
        if step <= turn:
            expected = top + (low - top) / 2 * (1 + np.cos(np.pi * step / turn))
        else:
            expected = last + (top - last) / 2 * (1 + np.cos(np.pi * (step - turn) / (steps - 1 - turn)))
        assert rate == pytest.approx(expected, rel=1e-9)


def test_plateau_falls_after_its_patience_in_the_direction_of_the_monitor() -> None:
    recipe = TrainingRecipe(schedule="plateau", learning_rate=1.0, plateau_factor=0.5, plateau_patience=2)
    for monitor, values in (("val_loss", [3, 2, 2, 2, 2, 1]), ("val_accuracy", [1, 2, 2, 2, 2, 3])):
        changed = recipe.model_copy(update={"monitor": monitor})
        optimizer = OPTIMIZERS["adam"]([torch.nn.Parameter(torch.zeros(1))], changed)
        schedule = SCHEDULES["plateau"](optimizer, changed, 0)
        rates = []
        for value in values:
            schedule.step(value)  # type: ignore[union-attr, arg-type]
            rates.append(optimizer.param_groups[0]["lr"])
        assert rates == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


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
