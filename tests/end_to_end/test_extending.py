"""The examples of docs/extending.md: registered, trained, drawn or run on toy images, and taken out again."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from helpers.paths import PROJECT
from helpers.toys import toy_pack, toy_recipe
from helpers.trainings import fit_toy, new_network
from skyclass.cli import app
from skyclass.commands.train import train
from skyclass.explanation import methods
from skyclass.explanation.gradcam import grad_cam
from skyclass.explanation.maps import class_maps
from skyclass.models.heads import HEADS
from skyclass.models.network import build_network
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.recipe import load_recipe
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop.losses import LOSSES

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def example(title: str, language: str) -> str:
    """The example under a heading."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", section(title), flags=re.DOTALL)
    return str(code)


def added(title: str) -> None:
    """Execute each part of an example in the module that its first line names, with the names of the parts before."""
    parts = re.split(r"^# src/(.+)\.py\n", example(title, "python"), flags=re.MULTILINE)[1:]
    own: dict[str, Any] = {}
    for name, code in zip(parts[::2], parts[1::2], strict=True):
        module = vars(import_module(name.replace("/", ".")))
        known = set(module)
        scope = {**module, **own}
        exec(compile(code, f"docs/extending.md: {name}", "exec"), scope)
        own |= {key: value for key, value in scope.items() if key not in known}


@pytest.fixture(autouse=True)
def taken_out() -> Iterator[None]:
    """The tables as they were, when a test has ended."""
    tables: list[dict[str, Any]] = [HEADS, LOSSES, methods.CLASS_ACTIVATION, app.COMMANDS]
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def test_a_head_is_trained(tmp_path: Path) -> None:
    added("A head")
    recipe = toy_recipe()
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"head": "gem", "uncertainty": True})})
    before, after = fit_toy(recipe, toy_pack(tmp_path / "pack"), tmp_path / "run")
    for name in ("head.power", "head.layers.1.weight", "error_head.0.weight"):
        assert not torch.equal(before[name], after[name])


def test_a_head_that_takes_the_map_gets_its_channels() -> None:
    added("A head")
    settings = ModelSettings(backbone="mobilenetv3_small_050").model_copy(update={"head": "gem"})
    network = build_network(settings, 1, 3).eval()  # a backbone whose pooled features are wider than its map
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


def test_a_loss_is_trained(tmp_path: Path) -> None:
    added("A loss")
    logits, labels, weights = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1.0, 2.0, 3.0])
    terms = ((logits.softmax(1) - F.one_hot(labels, 3)) ** 2).sum(1)
    settings = TrainingSettings()
    assert float(LOSSES["brier"](logits, labels, None, settings)) == pytest.approx(float(terms.mean()))
    weighted = float((terms * weights[labels]).sum() / weights[labels].sum())
    assert float(LOSSES["brier"](logits, labels, weights, settings)) == pytest.approx(weighted)
    recipe = toy_recipe()
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"loss": "brier"})})
    before, after = fit_toy(recipe, toy_pack(tmp_path / "pack"), tmp_path / "run")
    assert not torch.equal(before["head.1.weight"], after["head.1.weight"])


def test_a_method_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    added("A method of explanation")
    monkeypatch.setattr(methods, "METHODS", (*methods.CLASS_ACTIVATION, methods.INTEGRATED))
    network = new_network(toy_recipe(), 1, 3).eval()
    images = torch.from_numpy(np.random.default_rng(0).random((4, 1, 24, 32), dtype=np.float32))
    maps = class_maps(network, images, None, nullcontext, "hirescam", "layer2")
    assert maps.shape == (4, 12, 16)
    assert float(maps.min()) >= 0.0
    assert float(maps.max()) > 0.0
    # Behind the last feature map is a mean over its pixels: all have one gradient, and the two methods agree.
    last = class_maps(network, images, None, nullcontext, "hirescam", None)
    torch.testing.assert_close(last, grad_cam(network.features, network.classify, images).maps)


def test_a_recipe_is_complete_and_trains(tmp_path: Path) -> None:
    text = example("A recipe", "yaml")
    assert text.startswith("# src/skyclass/recipes/shipped/rings.yaml\n")
    file = tmp_path / "rings.yaml"
    file.write_text(text, encoding="utf-8")
    about = load_recipe(file).about
    assert all((about.question, about.command, about.cost, about.score))
    run = train(str(file), toy_pack(tmp_path / "pack").path, out=tmp_path / "run", device="cpu")
    assert (run / "predictions.parquet").is_file()


def test_a_command_is_run_and_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("skyclass.commands.count")
    module.__package__ = "skyclass.commands"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    command, table = example("A command", "python").split("# src/skyclass/cli/app.py\n")
    exec(compile(command, "docs/extending.md: count", "exec"), vars(module))
    exec(compile(table, "docs/extending.md: table", "exec"), vars(app))
    assert module.count.__doc__ == app.COMMANDS["count"]
    pack = toy_pack(tmp_path / "pack")
    words = ["count", str(pack.path), "--split", "test", "--split", "train", "--out", str(tmp_path / "a.csv")]
    app.command_line()(words, prog_name="skyclass", standalone_mode=False)
    counts = pd.read_csv(tmp_path / "a.csv", index_col=0)
    pd.testing.assert_frame_equal(counts, pack.counts()[["test", "train"]], check_names=False)
    module.count(pack.path, out=tmp_path / "b.csv", split=["test", "train"])
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "a.csv").read_text()


def test_what_was_added_is_gone_again() -> None:
    for title, table, name in (("A head", HEADS, "gem"), ("A loss", LOSSES, "brier")):
        assert name in section(title)
        assert name not in table
    assert "hirescam" not in methods.CLASS_ACTIVATION
    assert "count" not in app.COMMANDS
