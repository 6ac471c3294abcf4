"""Which labels are likely wrong: confident learning on predictions of images that the network was not trained on.

Northcutt, Jiang & Chuang 2021, Journal of Artificial Intelligence Research 70, 1373, section 3.1. Rows are ranked by
their self-confidence, the probability of the label: it finds more wrong labels than its margin over the next class, and
is less easily led astray by rare classes than its distance from the class's threshold (benchmarks/label_errors.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import SkyclassError
from ..predictions import PREFIX
from .metrics import labelled_rows

ROUNDING = 1e-6  # the mean of equal probabilities can come out above each of them


class HeldOut(NamedTuple):
    """Predictions of images by networks that were not trained on them.

    frame : one row an image: `image_id`, `label` (None where unknown) and `p_<class>` for each of `classes`, the mean
        over its held-out predictions, NaN where the image could not be read
    n_in_training : predictions left out because their image was in the training split
    """

    frame: pd.DataFrame
    classes: list[str]
    n_in_training: int


def rank_label_errors(labels: Iterable[object], p: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """All rows that have a label and a prediction, the most suspicious label first.

    labels : (N,) class names; None, NaN or empty where unknown
    p : (N, K) held-out probabilities, rows that sum to one; a row with a NaN counts as not predicted
    classes : the K class names, in the order of the columns

    Returns a table with the columns `row` (its number among the N), `label`, `suggested` (the class that it rather is,
    never the label), `p_label` (rising) and `p_suggested` (their probabilities), and `likely` (whether the confident
    joint counts the label as wrong).
    Errors: SkyclassError for fewer than two classes, and as `metrics.evaluate`.
    """
    if len(classes) < 2:
        raise SkyclassError("only among two classes or more can a label be wrong", fix="predict with more classes")
    names, p = pd.Series(list(labels), dtype=object), np.asarray(p, dtype=np.float64)
    if p.shape == (len(names), len(classes)):  # any other shape is refused below
        names = names.mask(np.isnan(p).any(axis=1), None)
    index, p, _ = labelled_rows(names, p, classes)  # (M,), (M, K)
    every, class_names = np.arange(len(index)), np.array(classes, dtype=object)
    confident = confident_classes(index, p)
    likely = (confident >= 0) & (confident != index)
    others = np.where(np.arange(len(classes)) == index[:, None], -1.0, p)  # (M, K)
    suggested = np.where(likely, confident, others.argmax(axis=1))
    table = pd.DataFrame(
        {
            "row": np.flatnonzero(names.notna() & (names != "")),
            "label": class_names[index],
            "suggested": class_names[suggested],
            "p_label": p[every, index],
            "p_suggested": p[every, suggested],
            "likely": likely,
        }
    )
    return table.sort_values("p_label", kind="stable", ignore_index=True)


def confident_classes(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The class that the confident joint counts each row under, -1 where it counts it under none (equation 1).

    That is the most probable of the classes whose probability reaches their threshold: the mean probability of the
    class over the rows labelled as it (equation 2). A class that labels no row has no threshold to reach.

    labels : (N,) integers in [0, K); p : (N, K). Returns (N,) integers in [-1, K).
    """
    n_classes = p.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.bincount(labels, weights=p[np.arange(len(labels)), labels], minlength=n_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)  # (K,)
    reached = np.where(p >= thresholds - ROUNDING, p, -1.0)  # (N, K)
    return np.where(reached.max(axis=1) >= 0.0, reached.argmax(axis=1), -1)


def held_out(predictions: Mapping[str, tuple[pd.DataFrame, list[str], Any]]) -> HeldOut:
    """The predictions of images that were not in the training split of their own network.

    An image that several networks predicted gets the mean of their probabilities. A file that knows no splits counts
    as held out altogether. The splits are those that the file tells: predictions that `skyclass predict` made of a
    pack tell the pack's, which are not those of a run with `data.folds`; give the runs themselves.

    predictions : run or file, one at least -> its table and classes, as `read_predictions` gives them
    Errors: SkyclassError for files that differ in their classes or in the label of an image, and where no prediction
    is held out.
    """
    frames: list[pd.DataFrame] = []
    classes: list[str] = []
    first = next(iter(predictions))
    for path, (frame, found, _) in predictions.items():
        classes = classes or found
        if sorted(found) != sorted(classes):
            what = f"its classes are {', '.join(found)}, and those of {first} are {', '.join(classes)}"
            raise SkyclassError(what, where=path, fix="give predictions of the same classes")
        if "image_id" not in frame:
            raise SkyclassError("no column image_id", where=path, fix="add the id of each image")
        columns = [f"{PREFIX}{name}" for name in classes]
        known = frame.reindex(columns=["image_id", "label", "split", *columns])
        frames.append(known.astype({"image_id": str} | dict.fromkeys(columns, np.float64)).assign(path=path))
    every = pd.concat(frames, ignore_index=True)
    in_training = every["split"] == "train"
    kept = every[~in_training]
    if kept.empty:
        fix = "train with data.folds, and give the runs of all folds"
        raise SkyclassError("no prediction is of an image held out from training", where=first, fix=fix)
    _check_labels(kept)
    means = kept.groupby("image_id", sort=False).agg({"label": "first"} | dict.fromkeys(columns, "mean"))
    means["label"] = means["label"].astype(object).where(means["label"].notna(), None)
    return HeldOut(means.reset_index(), classes, int(in_training.sum()))


def _check_labels(frame: pd.DataFrame) -> None:
    """Refuse images that one file labels in another way than the next: a mean over them would be of two data sets."""
    labelled = frame[frame["label"].notna()]
    first = labelled.groupby("image_id")["label"].transform("first")
    wrong = labelled[labelled["label"] != first]
    if len(wrong):
        image, label, path = wrong.iloc[0][["image_id", "label", "path"]]
        what = (
            f"{len(wrong)} images have another label than in the files before, the first is {image!r}, here {label!r}"
        )
        raise SkyclassError(what, where=path, fix="give predictions made with the same labels")
