"""Which images of a pack a training uses, and for what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import SkyclassError
from ..recipe import DataRecipe
from .catalog import SPLITS
from .pack import Pack


@dataclass(frozen=True)
class TrainingRows:
    """Row numbers (n,) in the pack of each split, the classes, and the class index (N,) of every row (-1: none)."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    classes: list[str]


def training_rows(pack: Pack, recipe: DataRecipe) -> TrainingRows:
    """The labelled rows of each split, without the excluded classes.

    Errors: SkyclassError for an excluded class that is not there, fewer than two classes, or an empty train or val
    split.
    """
    for name in recipe.exclude:
        if name not in pack.classes:
            fix = f"the classes are {', '.join(pack.classes)}"
            raise SkyclassError(f"no class is called {name!r}", where="data.exclude", fix=fix)
    classes = [name for name in pack.classes if name not in recipe.exclude]
    if len(classes) < 2:
        what = f"{len(classes)} classes; a classifier needs two at least"
        raise SkyclassError(what, where=pack.path, fix="check the label column or the class folders")
    index = {name: position for position, name in enumerate(classes)}
    labels = np.array([index.get(label, -1) for label in pack.catalog["label"]], dtype=np.int64)
    split = pack.catalog["split"].to_numpy()
    rows = {name: np.flatnonzero((labels >= 0) & (split == name)) for name in SPLITS}
    for name in ("train", "val"):
        if not len(rows[name]):
            fix = "pack again with shares for every split, as in --splits 0.7,0.1,0.2"
            raise SkyclassError(f"no labelled image is in the split {name!r}", where=pack.path, fix=fix)
    return TrainingRows(rows["train"], rows["val"], rows["test"], labels, classes)
