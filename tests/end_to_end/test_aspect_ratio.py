"""The shape of what an image shows is kept by default, distortions are said, and what was stored before stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from helpers.commands import copy_toy_run, done, write_toy_recipe
from helpers.logged import Logged
from helpers.make_data import class_folders, write_image
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run
from skyclass.data.packs.pack import Pack
from skyclass.images.preprocess import apply_settings
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.recipe import (
    load_recipe,
    parse_pixels,
    parse_recipe,
    recipe_hash,
    shipped_recipes,
    stored_recipe,
    with_defaults_of,
)
from skyclass.training.tuning.space import search_space

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

SQUEEZES = "pixels.fit is distort: images of 24x48 pixels are distorted to 32x32"


def disk(height: int, width: int) -> np.ndarray:
    """(1, height, width) uint8: a bright disk on black."""
    y, x = np.mgrid[:height, :width]
    return np.uint8(200 * (np.hypot(y - height / 2 + 0.5, x - width / 2 + 0.5) < min(height, width) / 3))[None]


def roundness(pixels: np.ndarray) -> float:
    """Height over width of what is bright in (1, h, w)."""
    rows, columns = np.nonzero(pixels[0] > pixels.max() / 2)
    return float(np.ptp(rows) + 1) / float(np.ptp(columns) + 1)


@pytest.mark.parametrize("shape", [(40, 80), (80, 40), (60, 60)])
def test_a_round_planet_stays_round_by_default(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert roundness(apply_settings(disk(*shape), ("grey",), PixelSettings(size=(32, 32)))) == pytest.approx(
        1, abs=0.15
    )
    for number in range(4):
        write_image(tmp_path / "images" / f"{number}.png", np.clip(disk(*shape) + np.uint8(number), 0, 255))
    done("pack", tmp_path / "images", tmp_path / "pack", "--pixels", "size=32", "--no-duplicates")
    packed = Pack.open(tmp_path / "pack")
    assert packed.images.shape[2:] == (32, 32)
    assert roundness(packed.images[0]) == pytest.approx(1, abs=0.15)


def test_every_shipped_recipe_keeps_the_shape_but_the_one_that_says_so() -> None:
    fits = {name: load_recipe(path).pixels.fit for name, path in shipped_recipes().items()}
    assert {name for name, fit in fits.items() if fit != "pad"} == {"objects-resnet18"}
    assert fits["objects-resnet18"] == "distort"


def test_a_distortion_is_said_at_packing_and_at_training(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", ("blob", "ring"), size=(24, 48), splits={"train": 4, "val": 2, "test": 2})
    words = ("pack", tmp_path / "images", tmp_path / "squeezed", "--pixels", "size=32", "--no-duplicates")
    assert SQUEEZES in done(*words, "--pixels", "fit=distort").err
    assert "distorted" not in done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates").err
    untrained = ("--set", "training.epochs=0", "--set", "pixels.size=32")
    train = ("train", write_toy_recipe(tmp_path), tmp_path / "pack", *untrained)
    assert SQUEEZES in done(*train, "--out", tmp_path / "one", "--set", "pixels.fit=distort").err
    assert "distorted" not in done(*train, "--out", tmp_path / "other").err


def test_the_old_name_of_distort_still_works(tmp_path: Path, logged: Logged) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("pixels: {size: 32, fit: stretch}")
    old = load_recipe(file)
    assert logged() == "Note: pixels.fit: stretch is now called distort; the old name still works\n"
    assert old.pixels.fit == "distort"
    assert load_recipe(file, stored=True) == old
    new = load_recipe(file, ["pixels.fit=distort"])
    assert not logged()
    assert new == old
    assert (
        recipe_hash(new) == "8e75af159fe7a1053e90bddc3e5fd035c6ae19340b98031a3dd37ba46a51e2d9"
    )  # what Skyclass 0.1 gives for `stretch`
    assert parse_pixels(PixelSettings(), ["fit=stretch"]) == PixelSettings(fit="distort")
    assert "is now called distort" in logged()
    space = {"tune": {"space": {"pixels.fit": ["stretch", "pad"]}}}
    assert search_space(parse_recipe(space)) == {"pixels.fit": ("stretch", "pad")}  # as an old study has them


def test_what_was_stored_without_the_key_is_stretched_as_before(toy_run: Path, tmp_path: Path) -> None:
    copy_toy_run(toy_run, tmp_path)
    file = next((tmp_path / "images/test/ring").iterdir())
    write_image(file, np.repeat(disk(24, 48), 3, 0))
    for path, pixels in (
        (tmp_path / "run/classifier/classifier.json", lambda meta: meta["pixels"]),
        (tmp_path / "pack/pack.json", lambda meta: [meta["pixels"]]),
    ):
        meta = json.loads(path.read_text())
        for recipe in pixels(meta):
            del recipe["fit"]
        del meta["content_sha256"]  # which files of that time lack
        path.write_text(json.dumps(meta))
    document = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    del document["pixels"]["fit"]
    document["data"]["votes"] = {"keep": 2}
    (tmp_path / "run/recipe.yaml").write_text(yaml.safe_dump(document))
    assert Pack.open(tmp_path / "pack").pixels.fit == "distort"
    assert Run.open(tmp_path / "run").recipe().pixels.fit == "distort"
    assert Run.open(tmp_path / "run").recipe().data.votes.question == "all"
    classifier = Classifier.load(tmp_path / "run", "cpu")
    assert [recipe.fit for recipe in classifier.pixels] == ["distort", "distort"]


def test_a_tuning_goes_on_with_the_defaults_of_its_day() -> None:
    mine = {"pixels": {"size": 64}, "data": {"votes": {"keep": ["a", "b"]}}}
    begun = stored_recipe(mine, "tuning.json")
    assert (begun.pixels.fit, begun.data.votes.question) == ("distort", "all")
    assert with_defaults_of(parse_recipe(mine), begun) == begun
    chosen = parse_recipe({**mine, "pixels": {"size": 64, "fit": "crop"}})
    assert with_defaults_of(chosen, begun).pixels.fit == "crop"
    assert stored_recipe({"name": "bare"}, "tuning.json").pixels.fit == "distort"


def test_the_hash_of_an_old_recipe_stays() -> None:
    votes = {"data": {"votes": {"keep": ["a", "b"]}}}
    of_all, of_one = (
        parse_recipe({"data": {"votes": {"keep": ["a", "b"], "question": "all"}}}),
        parse_recipe({"data": {"votes": {"keep": ["a", "b"], "question": 1}}}),
    )
    assert recipe_hash(parse_recipe(votes)) == recipe_hash(of_all) != recipe_hash(of_one)
