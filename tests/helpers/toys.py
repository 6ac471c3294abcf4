"""Tiny packs and recipes that train in a second: `from toys import toy_pack, toy_recipe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.make_data import toy_image
from skyclass.data.packs.pack import Pack, PackChunk, write_pack
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.recipe import Recipe, dump_recipe, parse_recipe

SHAPES = ("blob", "ring", "bar")
BANDS = {1: ("grey",), 3: ("red", "green", "blue"), 5: ("u", "g", "r", "i", "z")}
SPLITS = {"train": 9, "val": 4, "test": 3}


def stored(pixels: np.ndarray, dtype: str) -> np.ndarray:
    """Pixels in [0, 1] as a pack stores them."""
    if dtype.startswith("float"):
        return pixels.astype(dtype)
    return np.rint(pixels * np.iinfo(dtype).max).astype(dtype)


def toy_pack(
    folder: Path,
    *,
    classes: Sequence[str] = SHAPES,
    splits: Mapping[str, int] = SPLITS,
    size: tuple[int, int] = (12, 16),
    bands: int = 1,
    dtype: str = "uint8",
) -> Pack:
    """A pack of toy images, so many a class in each split, interleaved, without files behind it."""
    images, rows = [], []
    for split, count in splits.items():
        for i in range(count):
            for index, label in enumerate(classes):
                shape = SHAPES[index % len(SHAPES)]
                images.append(stored(toy_image(shape, len(rows), size, bands), dtype))
                rows.append((f"{split}-{label}-{i}", f"{split}/{label}/{i}.npy", label, split))
    frame = pd.DataFrame(rows, columns=["image_id", "file", "label", "split"])
    pixels = PixelSettings(bands=BANDS[bands], size=size, fit="pad", dtype=dtype)
    return write_pack([PackChunk(np.stack(images), frame)], folder, pixels, classes=None, source={"kind": "toys"})


def toy_recipe(**sections: Mapping[str, Any]) -> Recipe:
    """ResNet-20 for two epochs in float32 on small batches, but for what `sections` say."""
    training = {"epochs": 2, "batch_size": 8, "precision": "float32", "learning_rate": 3e-3}
    document = {
        **sections,
        "model": {"backbone": "resnet20_cifar", **sections.get("model", {})},
        "training": {**training, **sections.get("training", {})},
    }
    return parse_recipe(document)


def write_recipe(folder: Path, recipe: Recipe) -> Path:
    """The recipe as a file, for the verbs."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    return file
