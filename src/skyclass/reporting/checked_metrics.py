"""The evaluation that a report shows: of the run's own predictions, and as `evaluate` wrote it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import Field

from ..documents import SEAL, Document, read_document
from ..errors import SkyclassError
from ..evaluation import metrics
from ..files import sha256_of
from ..prediction_formats import read_predictions
from ..predictions import judged_rows, probabilities
from ..run import Run

COMPARED = ("n", "accuracy", "log_loss", "brier")
"""Computed again of an evaluation without a hash: what no version defines in another way."""


class MetricsDocument(Document):
    """What a report relies on in metrics.json."""

    predictions_sha256: str
    split: str
    n: int
    classes: list[str] = Field(min_length=1)
    accuracy: float
    log_loss: float
    brier: float


def checked_metrics(run: Run) -> dict[str, Any]:
    """What metrics.json of a run's evaluation holds.

    Errors: SkyclassError where the evaluation is missing, of other predictions or of an older Skyclass, where it is
    damaged or was changed since, and where it has no hash (as of 0.1) and its scores are not those of the predictions.
    """
    again = f"run `skyclass evaluate {run.path}` again"
    path = run.evaluation / "metrics.json"
    found, document = read_document(path, "evaluation", MetricsDocument, again)
    if document.predictions_sha256 != sha256_of(run.predictions_file):
        raise SkyclassError("the evaluation is of other predictions than the run's", where=run.path, fix=again)
    if "intervals" not in found or "near_duplicates" not in found:
        raise SkyclassError("the evaluation is of an older Skyclass", where=run.path, fix=again)
    if SEAL not in found:
        _compare(run, document, path, again)
    return found


def _compare(run: Run, document: MetricsDocument, path: Path, again: str) -> None:
    """Errors: SkyclassError where the main scores are not those of the predictions."""
    frame, classes, _ = read_predictions(run.predictions_file)
    rows, _ = judged_rows(frame, document.split, run.predictions_file)
    now = metrics.evaluate(rows["label"], probabilities(rows, classes), classes)
    for name in COMPARED:
        told = getattr(document, name)
        if not math.isclose(told, now[name], rel_tol=1e-6, abs_tol=1e-9):
            what = f"the evaluation says {name} {told:.6g}, and its predictions give {now[name]:.6g}"
            raise SkyclassError(what, where=path, fix=again)
