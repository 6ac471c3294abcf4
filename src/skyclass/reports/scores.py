"""The scores of an evaluation: tables with intervals, figures, calibration, prediction sets, uncertainty."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..evaluation.calibration_report import SCORES
from ..evaluation.caveats import evaluation_notes
from ..evaluation.metric import PER_CLASS
from ..evaluation.uncertainty import IN_WORDS, advise
from ..evaluation.weighted_metrics import METRICS, in_report
from .report_data import ReportData

COLUMNS_SHOWN = 12  # figures of the accuracy against a column

# The scores that are shown, in words, and what they are; metrics.csv holds all.
MEANING = {name: (metric.words, metric.explanation) for name, metric in in_report().items()}
OF_CLASSES = {name: metric.words for name, metric in METRICS.items() if metric.part and name.endswith(PER_CLASS)}


class ScoreRow(NamedTuple):
    """A score with the ends of its 95 % interval; None where undefined."""

    name: str
    value: float | None
    interval: list[float] | None
    meaning: str = ""


def score_rows(metrics: dict[str, Any]) -> list[ScoreRow]:
    """The scores of all classes, in the order of `MEANING`."""
    ends, by_chance = metrics["intervals"], metrics.get("ece_by_chance")
    beside = {"ece": f"; perfectly calibrated, {by_chance:.3f} by chance"} if by_chance is not None else {}
    return [
        ScoreRow(words, metrics[name], ends.get(name), meaning + beside.get(name, ""))
        for name, (words, meaning) in MEANING.items()
        if name in metrics
    ]


def class_rows(metrics: dict[str, Any]) -> list[tuple[str, int, list[ScoreRow]]]:
    """Name, number of images and the scores `OF_CLASSES` of each class."""
    ends = metrics["intervals"]
    counts = {name: sum(row) for name, row in zip(metrics["classes"], metrics["confusion_matrix"], strict=True)}
    return [
        (
            name,
            counts[name],
            [ScoreRow(words, metrics[key][name], ends.get(key, {}).get(name)) for key, words in OF_CLASSES.items()],
        )
        for name in metrics["classes"]
    ]


def scores_section(report: ReportData) -> dict[str, Any]:
    """Tables, curves, the confusion matrix, and the scores without near-duplicates of the training."""
    metrics = report.metrics
    doubled = metrics["near_duplicates"]
    without = doubled["without"]
    return {
        "rows": score_rows(metrics),
        "notes": evaluation_notes(metrics),
        "columns": list(OF_CLASSES.values()),
        "of_classes": class_rows(metrics),
        "chance_loss": math.log(len(metrics["classes"])),
        "near_duplicates": doubled,
        "without": score_rows(without) if without else [],
        "confusion": report.figure("confusion.png", "confusion matrix: rows true, columns predicted"),
        "roc": report.figure("roc.png", "ROC curve of each class against the rest"),
        "precision_recall": report.figure("precision_recall.png", "precision-recall curve of each class"),
    }


def columns_section(report: ReportData) -> dict[str, Any]:
    """The accuracy against columns, if it was requested."""
    found = report.metrics.get("by") or {}
    shown = list(found.items())[:COLUMNS_SHOWN]
    pictures = [report.figure(each["file"], f"accuracy by {name}, with 95 % intervals") for name, each in shown]
    return {"pictures": [one for one in pictures if one], "left_out": len(found) - len(shown)}


def calibration_section(report: ReportData) -> dict[str, Any] | None:
    """Calibration errors before and after, and the reliability diagram; None if they were not computed."""
    found = report.metrics.get("calibration")
    if not found:
        return None
    rows = [
        (METRICS[name].words, *((found[when] or {}).get(name) for when in ("before", "after", "change")))
        for name in SCORES
        if name in found["after"]
    ]
    return {
        "method": found["method"],
        "n": found.get("n"),
        "compared": found["before"] is not None,
        "rows": rows,
        "figure": report.figure("reliability.png", "reliability diagram: accuracy against confidence"),
    }


def sets_section(report: ReportData) -> dict[str, Any] | None:
    """Coverage and sizes of the prediction sets; None where there are none."""
    found = report.metrics.get("prediction_sets")
    if not found:
        return None
    text = "sizes of the prediction sets, and the share of them that hold the true class"
    return {**found, "figure": report.figure("prediction_sets.png", text)}


def uncertainty_section(report: ReportData) -> dict[str, Any] | None:
    """The scores of uncertainty by how well they rank the errors, and which to trust; None where not compared."""
    found = report.metrics.get("uncertainty")
    if not found:
        return None
    text = "risk against coverage of each score of uncertainty, and the AUROC of errors"
    found = {**found, **advise(found)}  # an older evaluation may state more than its images allow
    rows = [(IN_WORDS.get(name, name), row, name == found["trust"]) for name, row in found["scores"].items()]
    return {**found, "rows": rows, "figure": report.figure("uncertainty.png", text)}


def novelty_section(report: ReportData) -> dict[str, int] | None:
    """How many evaluated images are unlike the training images; None where that was not measured."""
    evaluated = report.evaluated
    if "unlike" not in evaluated or evaluated["unlike"].isna().all():
        return None
    return {"unlike": int(evaluated["unlike"].fillna(False).sum()), "n": len(evaluated)}
