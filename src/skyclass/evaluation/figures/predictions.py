"""The figures of a table of predictions, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...core.errors import SkyclassError
from ..calibration_report import calibration_report
from ..metrics import confusion_matrix, labelled_rows
from ..predictions import labelled_predictions, probabilities
from .calibration import calibration_figures
from .scores import confusion_figure, precision_recall_figure, roc_figure


class Evaluated(NamedTuple):
    """Predictions to draw: rows of one split, with what their file says of their making."""

    rows: pd.DataFrame
    labels: np.ndarray
    """(N,) class names, None where there is none."""
    p: np.ndarray
    """(N, K) probabilities, in the order of `classes`."""
    classes: list[str]
    provenance: dict[str, Any]


def _confusion(found: Evaluated) -> Figure:
    labels, p, _ = labelled_rows(found.labels, found.p, found.classes)
    return confusion_figure(confusion_matrix(labels, p), found.classes)


def _of_calibration(found: Evaluated, file: str) -> Figure:
    figures = calibration_figures(calibration_report(found.rows, found.classes, found.provenance))
    if file not in figures:
        raise SkyclassError("these predictions have no prediction sets", fix="train a run, and draw its own")
    return figures[file]


FIGURES: dict[str, Callable[[Evaluated], Figure]] = {
    "confusion": _confusion,
    "roc": lambda found: roc_figure(found.labels, found.p, found.classes),
    "precision_recall": lambda found: precision_recall_figure(found.labels, found.p, found.classes),
    "reliability": lambda found: _of_calibration(found, "reliability.png"),
    "prediction_sets": lambda found: _of_calibration(found, "prediction_sets.png"),
}
"""The figures of predictions, by name."""


def predictions_figure(
    name: str, frame: pd.DataFrame, classes: list[str], provenance: dict[str, Any], split: str | None, where: Path
) -> Figure:
    """The figure of that name in FIGURES.

    Parameters
    ----------
    name : str
        One of FIGURES.
    frame, classes, provenance : DataFrame, list of str, dict
        As a predictions file has them.
    split : str, optional
        As in `labelled_predictions`.
    where : Path
        The file, for messages.

    Raises
    ------
    SkyclassError
        For a split without predictions, and predictions that lack what is drawn.
    """
    rows, _ = labelled_predictions(frame, split, where)
    labels = rows["label"].to_numpy(object)
    return FIGURES[name](Evaluated(rows, labels, probabilities(rows, classes), classes, provenance))
