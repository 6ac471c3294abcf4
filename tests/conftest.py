"""What several test files share: two small runs on real files, each trained once a session."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# One thread in the tests and in the processes that they start: sums over another number of threads differ in the last
# bit, and two test processes with two threads each on two cores wait for each other. Torch reads it when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from matplotlib.figure import Figure

from helpers.commands import train_toy
from helpers.figures import save_blank
from helpers.logged import Logged
from helpers.make_data import class_folders
from helpers.toys import SHAPES, toy_recipe, write_recipe
from skyclass.commands.pack import pack
from skyclass.commands.train import train

torch.set_num_threads(1)

SAVEFIG = Figure.savefig


@contextmanager
def drawing() -> Iterator[None]:
    """Draw pictures, also where the module that asks first has `blank_figures`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", SAVEFIG)
        yield


class SmallRun(NamedTuple):
    """Where the files, the pack made of them and the run trained on it lie."""

    files: Path
    pack: Path
    run: Path


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Three classes of PNG images of 15x20 pixels, packed as they are, trained at 12x16."""
    root = tmp_path_factory.mktemp("small_run")
    class_folders(root / "files", SHAPES, size=(15, 20), splits={"train": 8, "val": 3, "test": 5})
    pack(root / "files", root / "pack", duplicates=False)
    recipe = toy_recipe(
        pixels={"size": [12, 16], "stretch": "sqrt", "dtype": "float32"},
        augment={"flip_horizontal": 0.5, "rotation": 20.0},
        training={"epochs": 4, "learning_rate": 1e-2},
    )
    with drawing():
        run = train(write_recipe(root, recipe), root / "pack", out=root / "run", device="cpu")
    return SmallRun(root / "files", root / "pack", run)


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `images`, `pack`, `toy.yaml` and a finished `run`, made by the command line: to be read only.

    `helpers.commands.copy_toy_run` makes a copy that a test may change.
    """
    with drawing():
        return train_toy(tmp_path_factory.mktemp("toy_run"))


@pytest.fixture(scope="module")
def blank_figures() -> Iterator[None]:
    """PNG files of one pixel, for modules that train or evaluate many runs and do not look at their pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_blank)
        yield


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """A function that gives what the library has logged since its last call."""
    caplog.set_level(logging.INFO, logger="skyclass")

    def messages() -> str:
        text = "".join(f"{message}\n" for message in caplog.messages)
        caplog.clear()
        return text

    return messages


@pytest.fixture
def drawn_figures(blank_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures as they are after all, for one test of such a module."""
    monkeypatch.setattr(Figure, "savefig", SAVEFIG)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that kill processes come first: their runs take long, and are made again where the suite's processes share
    a file between them, as they do at the end of the work.
    """
    killing = {item.path for item in items if item.get_closest_marker("kill")}
    items.sort(key=lambda item: item.path not in killing)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are called by their argument: archives hold the time, which two processes of a run may see differently."""
    return argname if isinstance(val, bytes) else None
