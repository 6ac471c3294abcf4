"""The rows of a pack that a training uses, by split, with their labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...core.errors import SkyclassError
from ...core.sample_sizes import class_notes
from ...core.text import listed, quantity
from ...recipes.data_settings import DataSettings
from ..catalog import SPLITS
from ..vote_questions import questions_of
from ..votes import label_by_votes
from .pack import Pack
from .split import assign_splits, joined_names, split_number

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Row numbers (n,) in the pack of each split, the classes, and the class index (N,) of every row (-1: none).

    `catalog` is the pack's, with the labels and the splits that the training goes by.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    classes: list[str]
    catalog: pd.DataFrame


def training_rows(pack: Pack, settings: DataSettings) -> TrainingRows:
    """The labelled rows of each split, without the excluded classes.

    Labels and splits are the pack's; `votes` makes the labels anew, and `folds` the splits.
    Errors: SkyclassError for votes that give no labels, an excluded class that is not there, fewer than two classes,
    or an empty train or val split.
    """
    catalog = _catalog(pack, settings)
    found = sorted(set(catalog["label"].dropna())) if settings.votes else pack.classes
    for name in settings.exclude:
        if name not in found:
            fix = f"the classes are {', '.join(found)}"
            raise SkyclassError(f"no class is called {name!r}", where="data.exclude", fix=fix)
    classes = [name for name in found if name not in settings.exclude]
    if len(classes) < 2:
        what = f"{quantity(len(classes), 'class')}; a classifier needs two at least"
        fix = "change data.votes" if settings.votes else "check the label column or the class folders"
        if not settings.votes and (questions := questions_of(map(str, catalog.columns))):
            command = f"skyclass train RECIPE PACK --set data.votes.question={next(iter(questions))}"
            fix = f"it has votes: choose a question, as in {command}"
        raise SkyclassError(what, where=pack.path, fix=fix)
    index = {name: position for position, name in enumerate(classes)}
    labels = np.array([index.get(label, -1) for label in catalog["label"]], dtype=np.int64)
    split = catalog["split"].to_numpy()
    rows = {name: np.flatnonzero((labels >= 0) & (split == name)) for name in SPLITS}
    for name in ("train", "val"):
        if not len(rows[name]):
            fix = "pack again with shares for every split: skyclass pack SOURCE PACK --splits 0.7,0.1,0.2"
            if settings.folds:
                fix = "ask for 3 data.folds or more, and for fewer than there are images or groups"
            raise SkyclassError(f"no labelled image is in the split {name!r}", where=pack.path, fix=fix)
    return TrainingRows(rows["train"], rows["val"], rows["test"], labels, classes, catalog)


def log_classes(rows: TrainingRows) -> None:
    """Log which classes the training or the validation lacks, and what follows."""
    trained, validated = (
        np.bincount(rows.labels[part], minlength=len(rows.classes)) for part in (rows.train, rows.val)
    )
    absent = [name for name, n in zip(rows.classes, trained, strict=True) if not n]
    if absent:
        logger.warning(f"No training image is labelled {listed(absent)}: the network cannot learn what they look like")
    for note in class_notes(dict(zip(rows.classes, map(int, validated), strict=True)), "validation image"):
        logger.warning(note)


def _catalog(pack: Pack, settings: DataSettings) -> pd.DataFrame:
    """The pack's catalog with the recipe's labels and splits.

    Without folds, images that only the votes label are split as the pack was, by its shares and its seed.
    """
    catalog, source = pack.catalog, pack.meta["source"]
    seed = int(source.get("seed", 0))
    if settings.votes:
        catalog = label_by_votes(catalog, settings.votes, pack.path)
    if settings.folds:
        logger.info(f"data.folds: fold {settings.fold} of {settings.folds}, the pack's own splits play no part")
        return catalog.assign(split=fold_splits(catalog, settings.folds, settings.fold, seed))
    if settings.votes:
        train, val, test = source.get("splits", (0.7, 0.1, 0.2))
        return assign_splits(catalog, (train, val, test), seed)
    return catalog


def fold_splits(catalog: pd.DataFrame, folds: int, fold: int, seed: int) -> np.ndarray:
    """(N,) the split of each row in one fold of a cross-validation; None for rows without a label.

    The images lie in `folds` parts: part `fold` is the test split, the next one (part 0 after the last) the validation
    split. An image's part follows from the hash of its name, or of its group's and duplicates' (`joined_names`), so
    that all parts hold every class in the same proportion, on average, and adding images moves no others, but for
    those whose group or cluster of duplicates they join.
    """
    # Hashed anew, so that the folds do not follow the pack's own splits.
    numbers = [split_number(f"fold of {name}", seed) for name in joined_names(catalog, seed)]
    parts = np.minimum(np.array(numbers) * folds, folds - 1).astype(np.int64)  # (N,)
    splits = np.full(len(catalog), "train", dtype=object)
    splits[parts == (fold + 1) % folds] = "val"
    splits[parts == fold] = "test"
    splits[catalog["label"].isna().to_numpy()] = None
    return splits
