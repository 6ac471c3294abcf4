"""The examples of docs/extending.md.

Those of heads, losses and methods are registered here, trained or drawn on toy images, and taken out again; all but a
recipe are added to a copy of the package, in which other processes use them as a user would.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from helpers.extending import PAGE, add_to_copy, changes, section
from helpers.make_data import random_pixels, toy_image
from helpers.toys import toy_pack, toy_recipe
from helpers.trainings import fit_toy, new_network
from skyclass.commands.train import train
from skyclass.data.packs.pack import Pack
from skyclass.explanation import methods
from skyclass.explanation.gradcam import grad_cam
from skyclass.explanation.maps import class_maps
from skyclass.models.heads import HEADS
from skyclass.models.network import build_network
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.recipe import load_recipe
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop.losses import LOSSES

# Heading -> files that it touches, as in the table of the page.
TOUCHED = {
    "A metric": 1,
    "A file format": 2,
    "A kind of source": 2,
    "A simulator": 2,
    "A head": 2,
    "A loss": 2,
    "A command": 2,
    "A recipe": 1,
}
IN_COPY = [title for title in TOUCHED if title != "A recipe"]  # which needs no copy


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
    tables: list[dict[str, Any]] = [HEADS, LOSSES, methods.CLASS_ACTIVATION]
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


def test_what_was_added_is_gone_again() -> None:
    for title, table, name in (("A head", HEADS, "gem"), ("A loss", LOSSES, "brier")):
        assert name in section(title)
        assert name not in table
    assert "hirescam" not in methods.CLASS_ACTIVATION


@pytest.mark.parametrize("title", TOUCHED)
def test_an_addition_touches_as_many_files_as_the_page_says(title: str) -> None:
    assert len({change.file for change in changes(title)}) == TOUCHED[title] <= 2
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {title[0].lower()}{title[1:]} |"))
    assert row.split("|")[2].strip() == str(TOUCHED[title])


class House(NamedTuple):
    """A copy of the package with all additions, and the files that it made."""

    source: Path
    folder: Path

    def run(self, *words: object) -> str:
        """What a command of the copy prints."""
        return self.python("-m", "skyclass", *words)

    def python(self, *words: object) -> str:
        """What Python prints with the copy."""
        command = [sys.executable, *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(self.source)}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Netpbm files of three classes, and the listing of them."""
    folder = tmp_path_factory.mktemp("extended")
    lines = []
    for number in range(48):
        label = ("blob", "ring", "bar")[number % 3]
        pixels = np.rint(255 * toy_image(label, number, (12, 16), 1)[0]).astype(np.uint8)
        (folder / f"{number}.pgm").write_bytes(b"P5\n16 12\n255\n" + pixels.tobytes())
        lines.append(json.dumps({"file": f"{number}.pgm", "label": label}))
    lines.append(json.dumps({"file": "lost.pgm", "label": "bar"}))
    (folder / "images.jsonl").write_text("\n".join(lines))
    return House(add_to_copy(folder / "source", IN_COPY), folder)


@pytest.mark.slow
def test_additions_are_used_from_the_files_to_the_report(house: House) -> None:
    said = house.run("pack", "images.jsonl", "pack")
    packed = json.loads((house.folder / "pack" / "pack.json").read_text())
    assert packed["source"]["kind"] == "listing"
    assert "no such file" in said
    recipe = "model: {backbone: resnet20_cifar, head: gem}\n"
    recipe += "training: {loss: brier, epochs: 1, batch_size: 8, learning_rate: 0.01}\n"
    (house.folder / "recipe.yaml").write_text(recipe)
    house.run("train", "recipe.yaml", "pack", "--out", "run", "--device", "cpu")
    house.run("evaluate", "run")
    house.run("report", "run")
    metrics = json.loads((house.folder / "run" / "evaluation" / "metrics.json").read_text())
    frame = pd.read_parquet(house.folder / "run" / "predictions.parquet")
    frame = frame[frame["split"] == metrics["split"]]
    p = frame[[f"p_{name}" for name in metrics["classes"]]].to_numpy(np.float64)
    own = p[np.arange(len(p)), [metrics["classes"].index(name) for name in frame["label"]]]
    assert metrics["spherical"] == pytest.approx((own / np.linalg.norm(p, axis=1)).mean())
    low, high = metrics["intervals"]["spherical"]
    assert low < metrics["spherical"] < high
    table = pd.read_csv(house.folder / "run" / "evaluation" / "metrics.csv").set_index("name")
    assert table.loc["spherical", "value"] == pytest.approx(metrics["spherical"])
    assert "spherical score" in (house.folder / "run" / "report.html").read_text()
    assert "spherical score" in (house.folder / "run" / "classifier" / "README.md").read_text()


@pytest.mark.slow
def test_an_added_command_is_run_and_called(house: House) -> None:
    house.run("simulate", "moons", "counted", "--per-class", 10)
    assert "Count the images of each class of a pack." in house.run("--help")
    said = house.run("count", "counted", "--split", "test", "--split", "train", "--out", "a.csv")
    assert "Counts: a.csv" in said
    counts = pd.read_csv(house.folder / "a.csv", index_col=0)
    expected = Pack.open(house.folder / "counted").counts()[["test", "train"]]
    pd.testing.assert_frame_equal(counts, expected, check_names=False)
    code = "from skyclass.commands.count import count; count('counted', out='b.csv', split=['test', 'train'])"
    house.python("-c", code)
    assert (house.folder / "b.csv").read_text() == (house.folder / "a.csv").read_text()


@pytest.mark.slow
def test_a_file_of_an_added_format_is_read_and_refused_as_others(house: House) -> None:
    folder = house.folder / "ppm"
    folder.mkdir()
    pixels = random_pixels(0, (7, 9))
    whole = b"P6 9 7 255\n" + np.ascontiguousarray(np.moveaxis(pixels, 0, -1)).tobytes()
    (folder / "colour.ppm").write_bytes(whole)
    (folder / "cut.ppm").write_bytes(whole[:-1])
    (folder / "huge.ppm").write_bytes(b"P6 900000000 900000000 255\n")
    (folder / "text.png").write_text("no image")
    house.run("pack", folder, "colours", "--no-duplicates")
    stored = np.load(house.folder / "colours" / "images.npy")
    np.testing.assert_array_equal(stored[0], pixels)
    problems = pd.read_csv(house.folder / "colours" / "problems.csv").set_index("image_id")["problem"]
    assert "ends early" in problems["cut"]
    assert "pixels" in problems["huge"]


@pytest.mark.slow
def test_an_added_simulator_is_one_of_the_command_line(house: House) -> None:
    house.run("simulate", "moons", "moons", "--per-class", 6)
    truth = pd.read_parquet(house.folder / "moons" / "catalog.parquet")
    assert set(truth["label"]) == {"waxing", "waning"}
    images = np.load(house.folder / "moons" / "images.npy")
    lit = images[:, 0, :, 16:].sum((1, 2)) > images[:, 0, :, :16].sum((1, 2))
    np.testing.assert_array_equal(lit, truth["label"] == "waxing")
