"""What a training took: `training.json`, over sessions and stages, and what the person is told of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from helpers.commands import done
from helpers.toys import toy_recipe, write_recipe
from helpers.trainings import new_network
from skyclass.classifier.run import Run
from skyclass.classifier.run_documents import Cost
from skyclass.commands.evaluate import evaluate
from skyclass.commands.report import report
from skyclass.commands.train import train
from skyclass.core.devices import peak_memory, reset_peak_memory
from skyclass.data.packs.pack import Pack
from skyclass.training.loop.task import Task

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

CPU = torch.device("cpu")


def cost_of(run: Path) -> Cost:
    cost = Run(run).cost()
    assert cost is not None
    return cost


@pytest.mark.slow
def test_a_training_says_what_it_took(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = toy_recipe(model={"freeze": ["layer1"]}, training={"checkpoint_steps": 1})
    original = Task.training_step

    def slow(task: Task, *arguments: Any) -> Any:
        time.sleep(0.1)
        return original(task, *arguments)

    monkeypatch.setattr(Task, "training_step", slow)
    start = time.monotonic()
    told = done("train", write_recipe(tmp_path, recipe), pack.path, "--out", tmp_path / "run", "--device", "cpu").err
    spent = time.monotonic() - start
    content = json.loads((tmp_path / "run" / "training.json").read_text())
    network = new_network(recipe, 1, 3)
    assert content["trained_parameters"] == sum(one.numel() for one in network.parameters() if one.requires_grad)
    assert content["total_parameters"] == sum(one.numel() for one in network.parameters())
    assert content["trained_parameters"] < content["total_parameters"]
    assert 8 * 0.1 < content["seconds"] < spent
    assert content["images"] == 2 * 27
    assert content["images_per_second"] == pytest.approx(2 * 27 / content["seconds"])
    assert content["epochs"] == 2
    assert content["device"] == "cpu, 1 thread"
    assert 1e8 < content["peak_memory_bytes"] < 1e10
    cost = cost_of(tmp_path / "run")
    assert f"Training took {cost}\n" in told
    evaluate(tmp_path / "run")
    assert f"Training took {cost}, on cpu, 1 thread." in report(tmp_path / "run").read_text()
    (tmp_path / "run" / "training.json").unlink()
    assert "Training took" not in report(tmp_path / "run").read_text()


@pytest.mark.slow
def test_sessions_and_stages_add_up(tmp_path: Path, pack: Pack) -> None:
    """What was trained before the last checkpoint of a session counts, and nothing twice."""
    run, original = tmp_path / "run", Task.training_step
    with pytest.MonkeyPatch.context() as patch:

        def stopped(task: Task, batch: Any, batch_index: int) -> Any:
            if task.current_epoch == 2:
                raise KeyboardInterrupt
            return original(task, batch, batch_index)

        patch.setattr(Task, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(write_recipe(tmp_path, toy_recipe(training={"epochs": 3})), pack.path, out=run, device="cpu")
    first = cost_of(run)
    assert (first.images, first.epochs) == (2 * 27, 2)
    (run / "training.json").write_text(json.dumps({**vars(first), "seconds": 100.0, "peak_memory_bytes": 10**13}))
    train(resume=run, device="cpu")
    whole = cost_of(run)
    assert (whole.images, whole.epochs, whole.peak_memory_bytes) == (3 * 27, 3, 10**13)
    assert 100.0 < whole.seconds < 130.0
    train(resume=run, overrides=["training.epochs=+2"], checkpoint="last", device="cpu")
    more = cost_of(run)
    assert (more.images, more.epochs) == (5 * 27, 5)
    assert whole.seconds < more.seconds < 160.0
    train(resume=run, device="cpu")  # there is nothing to do
    assert cost_of(run) == more


def test_no_training_costs_nothing(tmp_path: Path, pack: Pack) -> None:
    run = train(write_recipe(tmp_path, toy_recipe(training={"epochs": 0})), pack.path, out=tmp_path / "r", device="cpu")
    cost = cost_of(run)
    total = sum(one.numel() for one in new_network(toy_recipe(), 1, 3).parameters())
    assert cost == Cost(
        seconds=0.0,
        images=0,
        images_per_second=None,
        peak_memory_bytes=0,
        trained_parameters=0,
        total_parameters=total,
        epochs=0.0,
        device="cpu, 1 thread",
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.84, "0.8 s"), (42.4, "42 s"), (59.6, "1 min 0 s"), (192.0, "3 min 12 s"), (7499.0, "2 h 4 min")],
)
def test_the_cost_in_words(seconds: float, words: str) -> None:
    cost = Cost(
        seconds=seconds,
        images=100,
        images_per_second=1283.4,
        peak_memory_bytes=1_230_000_000,
        trained_parameters=1,
        total_parameters=1,
        epochs=1.0,
        device="cpu",
    )
    assert str(cost) == f"{words} (1,283 images/s), 1.2 GB at most"
    assert "(1.3 images/s)" in str(cost.model_copy(update={"images_per_second": 1.32}))
    assert str(cost.model_copy(update={"images_per_second": None})) == f"{words}, 1.2 GB at most"


def test_the_peak_is_that_since_it_was_forgotten() -> None:
    base = psutil.Process().memory_info().rss
    reset_peak_memory(CPU)
    assert base - 10**7 < peak_memory(CPU) < base + 5 * 10**7
    much = np.ones(20_000_000)  # 160 MB
    assert psutil.Process().memory_info().rss > base + 1.4e8
    del much
    peak = peak_memory(CPU)
    assert base + 1.4e8 < peak < base + 2.5e8
    reset_peak_memory(CPU)
    assert peak_memory(CPU) < peak - 1e8
