"""TensorBoard: what it shows, that resuming leaves no rows twice, and that watching changes nothing."""

from __future__ import annotations

import errno
import io
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as pillow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.toys import SHAPES, toy_recipe, write_recipe
from helpers.trainings import last_state, new_network, same
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core.console import ShownProgress
from skyclass.core.devices import peak_memory
from skyclass.core.plotting import displayed
from skyclass.data.packs.pack import Pack
from skyclass.explanation.figures import beside_overlay, enlargement
from skyclass.explanation.gradcam import grad_cam, heatmaps
from skyclass.images.preprocess import channel_statistics
from skyclass.models.network import build_network
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.recipe import Recipe
from skyclass.training.loop import fit as fit_module
from skyclass.training.loop import tensorboard
from skyclass.training.loop.task import Task
from skyclass.training.loop.tensorboard import TensorBoardCallback, gradient_norms, parts_of, sampled_weights

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

EVERYTHING = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}


def log_of(run: Path) -> EventAccumulator:
    log = EventAccumulator(str(run / "log"), size_guidance=EVERYTHING)
    log.Reload()
    return log


def steps_in(log: EventAccumulator, tag: str) -> list[int]:
    return [event.step for event in log.Scalars(tag)]


def run_of(folder: Path, pack: Pack, recipe: Recipe) -> Path:
    return train(write_recipe(folder, recipe), pack.path, out=folder / "run", device="cpu")


class Seen:
    """What was there at each optimiser step of a training, by a task that takes notes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.rates: list[dict[str, float]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.losses: list[float] = []
        step, batch = Task.on_before_optimizer_step, Task.training_step

        def on_before_optimizer_step(task: Task, optimizer: torch.optim.Optimizer) -> None:
            step(task, optimizer)
            self.rates.append(dict(task.rates))
            self.gradients.append(
                {name: one.grad.clone() for name, one in task.network.named_parameters() if one.grad is not None}
            )

        def training_step(task: Task, *arguments: Any) -> torch.Tensor:
            loss = batch(task, *arguments)
            self.losses.append(float(loss.detach()))
            return loss

        patch.setattr(Task, "on_before_optimizer_step", on_before_optimizer_step)
        patch.setattr(Task, "training_step", training_step)


@pytest.mark.slow
def test_the_row_of_a_step(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second of four steps, of two batches each; norms before the clipping."""
    seen = Seen(monkeypatch)
    rates = {"rates": {"early": 1e-4}, "clip": 1e-3}
    settings = {"accumulate": 2, "watch_every_steps": 2, "optimizer": "sgd", **rates}
    log = log_of(run_of(tmp_path, pack, toy_recipe(training=settings)))
    assert len(seen.rates) == 4
    for tag in ("loss", "peak_memory_gb", "gradient_norm/all", "learning_rate/head"):
        assert steps_in(log, tag) == [2, 4]
    found = [event.value for event in log.Scalars("loss")]
    assert found == pytest.approx([np.mean(seen.losses[:4]), np.mean(seen.losses[4:])], rel=1e-5)
    for part in ("early", "middle", "late", "head"):
        values = [event.value for event in log.Scalars(f"learning_rate/{part}")]
        assert values == pytest.approx([seen.rates[k][part] for k in (1, 3)], rel=1e-5)
    for row, k in enumerate((1, 3)):
        flat = torch.cat([one.flatten() for one in seen.gradients[k].values()]).double()
        assert float(flat.norm()) > 1e-2  # the clipping would have been felt
        assert log.Scalars("gradient_norm/all")[row].value == pytest.approx(float(flat.norm()), rel=1e-4)
        head = torch.cat([one.flatten() for name, one in seen.gradients[k].items() if name.startswith("head.")])
        assert log.Scalars("gradient_norm/head")[row].value == pytest.approx(float(head.norm()), rel=1e-4)
        parts = [log.Scalars(f"gradient_norm/{part}")[row].value for part in ("early", "middle", "late", "head")]
        assert math.hypot(*parts) == pytest.approx(float(flat.norm()), rel=1e-4)
    memory = [event.value for event in log.Scalars("peak_memory_gb")]
    # The kernel counts pages in batches: its peak may lag by some hundred kilobytes.
    assert 0.1 < memory[0] <= memory[1] + 0.01 <= peak_memory(torch.device("cpu")) / 1e9 + 0.02


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_error_and_no_traceback_of_a_thread(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stopped: list[ShownProgress] = []
    hook = threading.excepthook
    monkeypatch.setattr(ShownProgress, "stop", lambda shown: stopped.append(shown))  # a function, to be bound
    monkeypatch.setattr("tensorboard.compat.tensorflow_stub.io.gfile.LocalFileSystem._write", full)
    with pytest.raises(OSError, match="No space left"):
        run_of(tmp_path, pack, toy_recipe())
    assert threading.excepthook is hook
    assert "Traceback" not in capfd.readouterr().err
    assert len(stopped) == 1  # the bar of the training


@pytest.mark.slow
def test_every_score_of_the_history_is_shown(tmp_path: Path, pack: Pack) -> None:
    """Losses, accuracy of each class, mean chance of an error, and how well it ranks the errors."""
    recipe = toy_recipe(model={"uncertainty": True}, training={"validations_per_epoch": 2})
    run = run_of(tmp_path, pack, recipe)
    log, history = log_of(run), pd.read_csv(run / "history.csv")
    names = [name for name in history if name.startswith(("train_", "val_"))]
    assert {"val_uncertainty", "val_error_auroc", *(f"val_accuracy_{shape}" for shape in SHAPES)} < set(names)
    for name in names:
        known = history[history[name].notna()]
        assert steps_in(log, name) == known["step"].tolist()
        assert [event.value for event in log.Scalars(name)] == pytest.approx(known[name].tolist(), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("averaged", ["none", "swa"])
def test_weights_and_maps_are_those_that_are_validated(tmp_path: Path, pack: Pack, averaged: str) -> None:
    recipe = toy_recipe(training={"watch_images": 3, "averaging": averaged, "swa_start": 0.3})
    run = run_of(tmp_path, pack, recipe)
    log, state = log_of(run), last_state(run)
    tags = log.Tags()["histograms"]
    assert tags == [f"weights/{name}" for name, one in state.items() if one.ndim > 1]
    for tag in tags:
        events = log.Histograms(tag)
        assert [event.step for event in events] == [4, 8]
        known, value = events[-1].histogram_value, state[tag.removeprefix("weights/")].double()
        assert known.num == value.numel()
        assert known.sum == pytest.approx(float(value.sum()), abs=1e-4 * value.numel() ** 0.5)
        assert (known.min, known.max) == pytest.approx((float(value.min()), float(value.max())))
        assert len(known.bucket) <= tensorboard.BINS + 1
    # One image of each class, and for each what Grad-CAM says of the weights in the last checkpoint.
    network = new_network(recipe, 1, 3).eval()
    network.load_state_dict(state)
    split, ids = pack.catalog["split"].to_numpy(), pack.catalog["image_id"].tolist()
    mean, std = channel_statistics(pack.images, np.flatnonzero(split == "train"))
    names = [tag.removeprefix("grad_cam/") for tag in log.Tags()["images"]]
    assert [name.split("-")[:2] for name in names] == [["val", shape] for shape in sorted(SHAPES)]
    lines = text_of(log, "grad_cam/text_summary").splitlines()[2:]
    for name, line in zip(names, lines, strict=True):
        image = np.array(pack.images[ids.index(name)])
        x = (torch.from_numpy(image[None]).float() / 255 - mean[0]) / std[0]
        result = grad_cam(network.features, network.classify, x)
        events = log.Images(f"grad_cam/{name}")
        assert [event.step for event in events] == [4, 8]
        shown = np.asarray(pillow.open(io.BytesIO(events[-1].encoded_image_string))) / 255
        expected = beside_overlay(image, heatmaps(result.maps, (12, 16))[0].numpy())
        assert shown.shape == expected.shape
        assert np.abs(shown - expected).max() < 0.02
        times = enlargement((12, 16))
        assert np.abs(shown[::times, : 16 * times : times] - displayed(image)[..., None]).max() < 0.01
        chance = float(torch.softmax(result.logits, 1).max())
        predicted = sorted(SHAPES)[int(result.targets)]
        assert line == f"| {name} | {name.split('-')[1]} | {predicted} | {chance:.3f} |"


def text_of(log: EventAccumulator, tag: str) -> str:
    return log.Tensors(tag)[-1].tensor_proto.string_val[0].decode()


@pytest.mark.slow
def test_how_often_and_how_many_are_settings(tmp_path: Path, pack: Pack) -> None:
    for every, images in ((1, 0), (3, 5), (9, 99)):
        settings = {"watch_every_steps": every, "watch_images": images, "validations_per_epoch": 2}
        log = log_of(run_of(tmp_path / str(every), pack, toy_recipe(training=settings)))
        assert log.Tags()["scalars"].count("loss") == (every < 9)
        if every < 9:
            assert steps_in(log, "loss") == list(range(every, 9, every))
        assert len(log.Tags()["images"]) == min(images, 12)


@pytest.mark.slow
def test_a_resumed_training_shows_each_step_once(tmp_path: Path, pack: Pack) -> None:
    """What a killed session had shown of steps behind its last checkpoint, and what is given up, is not shown."""
    settings = {"epochs": 3, "watch_every_steps": 1}
    original = Task.training_step
    with pytest.MonkeyPatch.context() as patch:

        def stopped(task: Task, batch: Any, batch_index: int) -> Any:
            if (task.current_epoch, batch_index) == (1, 3):
                raise KeyboardInterrupt
            return original(task, batch, batch_index)

        patch.setattr(Task, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_of(tmp_path, pack, toy_recipe(training=settings))
    run = tmp_path / "run"
    assert steps_in(log_of(run), "loss") == [1, 2, 3, 4, 5, 6, 7]
    train(resume=run, device="cpu")
    log = log_of(run)
    assert steps_in(log, "loss") == steps_in(log, "gradient_norm/all") == list(range(1, 13))
    assert steps_in(log, "val_loss") == [4, 8, 12]
    assert [event.value for event in log.Scalars("val_loss")] == pytest.approx(
        pd.read_csv(Run(run).history_file)["val_loss"].tolist(), rel=1e-6
    )
    best = int(pd.read_csv(Run(run).history_file)["val_loss"].idxmin()) + 1
    train(resume=run, overrides=["training.epochs=+1"], device="cpu")
    assert steps_in(log_of(run), "loss") == list(range(1, 4 * (best + 1) + 1))


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"model": {"head": "refined", "dropout": 0.4, "uncertainty": True}},
    "averaged": {"model": {"dropout": 0.4}, "training": {"averaging": "ema", "accumulate": 2, "clip": 0.5}},
    "adapted": {"model": {"lora": {"dropout": 0.2}}, "training": {"gradient_checkpointing": True}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_watching_changes_nothing(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    training = {"watch_every_steps": 1, "validations_per_epoch": 2, **SETTINGS[name].get("training", {})}
    recipe = toy_recipe(augment={"rotation": 30.0}, model=SETTINGS[name]["model"], training=training)
    watched = run_of(tmp_path / "watched", pack, recipe)
    assert log_of(watched).Tags()["images"]
    original = fit_module._callbacks
    others = (TensorBoardCallback, fit_module.FirstStepCheck, fit_module.CostCallback)

    def callbacks(*arguments: Any) -> list[Any]:
        return [one for one in original(*arguments) if not isinstance(one, others)]

    monkeypatch.setattr(fit_module, "_callbacks", callbacks)
    alone = run_of(tmp_path / "alone", pack, recipe)
    assert not (alone / "log").exists()
    assert same(last_state(watched), last_state(alone))
    assert (watched / "history.csv").read_text() == (alone / "history.csv").read_text()


@pytest.mark.slow
def test_a_backbone_without_a_map_is_told_of_and_trained(
    tmp_path: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = toy_recipe(model={"backbone": "test_vit"}, pixels={"size": [160, 160]}, training={"epochs": 1})
    log = log_of(run_of(tmp_path, pack, recipe))
    assert not log.Tags()["images"]
    assert capsys.readouterr().err.count("TensorBoard shows no Grad-CAM: class activation maps need a feature map") == 1
    assert len(log.Scalars("val_loss")) == 1


# The parts


def test_a_backbone_that_cannot_be_divided_has_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(ModelSettings(backbone="resnet20_cifar"), 1, 2)
    assert list(parts_of(network)) == ["early", "middle", "late", "head"]
    monkeypatch.setattr(type(network.backbone), "group_matcher", None)
    parts = parts_of(network)
    assert {name: len(some) for name, some in parts.items()} == {
        "backbone": len(list(network.backbone.parameters())),
        "head": 2,
    }
    network.backbone.requires_grad_(False)
    assert list(parts_of(network)) == ["head"]
    parts["head"][0].grad = torch.full_like(parts["head"][0], 2.0)  # 128 numbers; the bias has none
    norm = 2 * math.sqrt(128)
    assert gradient_norms(parts) == pytest.approx({"all": norm, "backbone": 0.0, "head": norm})


def test_the_weights_shown_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_network(ModelSettings(backbone="resnet20_cifar"), 1, 2)
    matrices = [name for name, one in network.named_parameters() if one.ndim > 1]
    assert list(sampled_weights(network)) == matrices
    monkeypatch.setattr(tensorboard, "HISTOGRAMS", 5)
    monkeypatch.setattr(tensorboard, "VALUES", 100)
    with torch.no_grad():
        dict(network.named_parameters())[matrices[0]][0, 0, 0, 0] = float("nan")
    network.head.requires_grad_(False)
    found = sampled_weights(network)
    assert evenly(matrices, list(found))
    assert all(50 < len(values) <= 100 for values in found.values())


def evenly(all_: Sequence[str], some: Sequence[str]) -> bool:
    """Whether `some` are every n-th of `all_`, but for the first one, which has no finite values."""
    steps = np.diff([all_.index(name) for name in some])
    return 3 <= len(some) <= 5 and len(set(steps)) == 1 and all_[0] not in some and all_[-1] not in some
