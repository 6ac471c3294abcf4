"""Every shipped recipe runs from the command line, on generated images of one band and of five."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
from safetensors.torch import save_file

from helpers.commands import done
from helpers.make_data import class_folders
from skyclass.evaluation.metrics import SUM_TOLERANCE
from skyclass.recipes.recipe import Recipe, load_recipe, shipped_recipes

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

CLASSES = ("spiral_clockwise", "spiral_anticlockwise")  # `galaxies` swaps them in a mirror
VOTES = ("Class1.2", "Class6.2")  # the two that the Galaxy Zoo recipes keep
SPLITS = {"train": 8, "val": 3, "test": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs of labelled images with votes, by their number of bands, and a weight file of three bands a backbone."""
    root = tmp_path_factory.mktemp("shipped")
    for bands in (1, 5):
        folder = root / f"images-{bands}"
        table = class_folders(folder, CLASSES, size=(40, 44), splits=SPLITS, formats=("npy",), bands=bands)
        for vote, name in zip(VOTES, CLASSES, strict=True):
            table[vote] = np.where(table["label"] == name, 0.8, 0.2)
        table.to_csv(folder / "table.csv", index=False)
        done("pack", folder / "table.csv", root / f"pack-{bands}", "--no-duplicates")
    for backbone in ("resnet18", "resnet50"):
        state = timm.create_model(backbone, pretrained=False, num_classes=0).state_dict()
        save_file(state, root / f"{backbone}.safetensors")
    return root


def made_small(recipe: Recipe, weights: Path) -> list[str]:
    """The changes that let a recipe run in seconds; all else stays as shipped."""
    settings = [f"training.epochs={min(1, recipe.training.epochs)}", "training.batch_size=8", "pixels.crop=null"]
    if recipe.pixels.size:
        settings.append("pixels.size=[32, 36]")
    if recipe.augment.crop:
        settings.append("augment.crop=[36, 40]")
    if recipe.model.weights == "imagenet":
        settings.append(f"model.weights={weights / recipe.model.backbone}.safetensors")
    return [word for setting in settings for word in ("--set", setting)]


def test_every_published_system_is_shipped() -> None:
    systems = {"objects-resnet18", "objects-attention", "objects-convolutional", "lensing-resnet18", "lensing-resnet20"}
    systems |= {"galaxyzoo-direct", "galaxyzoo-finetune", "galaxyzoo-lora"}
    assert systems | {"galaxies", "radio", "lensing-demo"} == set(shipped_recipes())
    assert len(shipped_recipes()) == 11
    reported = {name for name in systems if load_recipe(name).about.reported}
    assert reported == systems - {"objects-convolutional"}  # of which its authors reported nothing


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 5])
@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_runs(place: Path, tmp_path: Path, name: str, bands: int) -> None:
    recipe, run = load_recipe(name), tmp_path / "run"
    shown = done("train", name, place / f"pack-{bands}", "--out", run, *made_small(recipe, place), "--device", "cpu")
    frame = pd.read_parquet(run / "predictions.parquet")
    columns = [f"p_{one}" for one in sorted(VOTES if recipe.data.votes else CLASSES)]
    assert len(frame) == 12
    assert frame[columns].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=SUM_TOLERANCE)
    if recipe.model.weights == "imagenet":
        assert f"3 bands -> {bands}" in shown.err
    if recipe.training.epochs:
        assert len(pd.read_csv(run / "history.csv")) >= 1
    done("evaluate", run)
    assert (run / "evaluation" / "confusion.png").is_file()
