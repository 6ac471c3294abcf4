"""What a training leaves of the program that called it: arguments, environment, random numbers, loggers, signals."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core import distributed
from skyclass.core.console import console
from skyclass.data.packs.pack import Pack
from skyclass.recipes.recipe import parse_recipe
from skyclass.training.run import begin_run


def surroundings() -> dict[str, object]:
    return {
        "arguments": list(sys.argv),
        "environment": dict(os.environ),
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "random": random.getstate(),
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "excepthooks": (sys.excepthook, threading.excepthook),
        "warnings": list(warnings.filters),
        "loggers": {
            name: (logging.getLogger(name).level, list(logging.getLogger(name).handlers))
            for name in ("", "skyclass", "lightning.pytorch", "lightning.fabric")
        },
        "quiet": console.quiet,
        "folder": Path.cwd(),
    }


@pytest.mark.slow
def test_a_training_leaves_its_surroundings_as_they_were(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", splits={"train": 6, "val": 3, "test": 3})
    recipe = write_recipe(tmp_path, toy_recipe(model={"dropout": 0.2}, training={"epochs": 1}))
    before = surroundings()
    train(recipe, pack.path, out=tmp_path / "run", device="cpu")
    after = surroundings()
    assert [name for name in before if before[name] != after[name]] == []


@pytest.fixture
def toy(tmp_path: Path) -> Pack:
    return toy_pack(tmp_path / "pack", splits={"train": 3, "val": 1, "test": 1})


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/opt/bin/skyclass", "train", "a b"], "skyclass train 'a b'"),
        (["/opt/lib/skyclass/__main__.py", "train", "x"], "skyclass train x"),
        (["/opt/ipykernel_launcher.py", "-f", "/run/kernel-7.json"], "called from Python"),
        (["/home/me/skyclass/train.py", "now"], "called from Python"),
        ([""], "called from Python"),
    ],
)
def test_the_command_of_a_run_is_none_of_a_notebook(
    toy: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    run, _ = begin_run(parse_recipe(toy_recipe()), toy, tmp_path / "run", "cpu")
    assert json.loads((Run(run.path).path / "environment.json").read_text())["command"] == command


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if this were one of two processes of `srun`, without meeting the other."""
    environment = SimpleNamespace(main_address="node7", main_port=4711)
    monkeypatch.setattr(distributed, "launcher", lambda: environment)
    monkeypatch.setattr(distributed, "_join", lambda *_: None)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    yield
    console.quiet = False


@pytest.mark.parametrize("fails", [False, True])
def test_joined_processes_leave_the_environment_and_the_console(joined: None, fails: bool) -> None:
    for quiet in (False, True):
        console.quiet = quiet
        try:
            with distributed.process_group(torch.device("cpu")):
                assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("node7", "4711")
                assert console.quiet
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert fails
        assert "MASTER_ADDR" not in os.environ
        assert os.environ["MASTER_PORT"] == "1"
        assert console.quiet is quiet
