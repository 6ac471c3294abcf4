"""Scores and sentences about calibration and prediction sets, from a table of predictions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .bootstrap import BootstrapScores, bootstrap_scores
from .calibration.conformal import PredictionSets, read_names, set_scores
from .calibration.scaling import Calibration
from .intervals import RESAMPLES, ends, percentile_interval
from .metrics import labelled_rows
from .predictions import UNCALIBRATED, probabilities
from .weighted_metrics import METRICS

SCORES = ("ece", "adaptive_ece", "class_wise_ece", "log_loss", "brier", "accuracy")
AMBIGUOUS = ("image_id", "label", "predicted", "confidence", "prediction_set", "classes_in_set", "file")


class PredictedSets(NamedTuple):
    """Prediction sets of N rows."""

    members: np.ndarray
    """(N, K) bool: the classes of each set."""
    labels: np.ndarray
    """(N,) integers in [0, K), -1 where unknown."""
    ambiguous: pd.DataFrame
    """The rows whose set does not hold exactly one class, those with the fewest classes first."""


class CalibrationReport(NamedTuple):
    """Scores for `metrics.json` under `calibration` and `prediction_sets`, and the arrays that they are of."""

    scores: dict[str, Any]
    labels: np.ndarray
    """(n,) integers in [0, K), of the rows with a label and a prediction."""
    after: np.ndarray
    """(n, K) probabilities of these rows."""
    before: np.ndarray | None
    """(n, K) probabilities before the calibration, where they are known."""
    sets: PredictedSets | None
    """The prediction sets of all rows, where there are any."""

    def sentences(self) -> list[str]:
        """A sentence about each."""
        return [*_calibration_in_words(self.scores["calibration"]), *_sets_in_words(self.scores["prediction_sets"])]


def calibration_report(
    rows: pd.DataFrame, classes: list[str], provenance: dict[str, Any], resamples: int = RESAMPLES
) -> CalibrationReport:
    """Evaluate the calibration and the prediction sets of predicted rows, some of them labelled.

    rows : `p_<class>`, `label`, and where there are any `uncalibrated_<class>`, `prediction_set` and `split`
    """
    after = probabilities(rows, classes)
    index, p, _ = labelled_rows(rows["label"].to_numpy(dtype=object), after, classes)
    known = rows["label"].notna() & (rows["label"] != "")
    kept = all(f"{UNCALIBRATED}{name}" in rows for name in classes)
    before = probabilities(rows[known], classes, UNCALIBRATED) if kept else None
    scores: dict[str, Any] = {"calibration": calibration_scores(index, p, before, resamples)}
    fitted = (
        Calibration.from_json(provenance["calibration"]).to_json() if "calibration" in provenance else {"method": None}
    )
    scores["calibration"] |= fitted
    if "prediction_set" not in rows or rows["prediction_set"].isna().all():
        return CalibrationReport({**scores, "prediction_sets": None}, index, p, before, None)
    members = read_names(rows["prediction_set"].fillna(""), classes)  # a CSV file has no empty text
    labels = np.full(len(rows), -1)
    labels[known.to_numpy()] = index
    sets = PredictionSets.from_json(provenance.get("prediction_sets"))
    # Nothing is promised of the images that the thresholds, or the weights, were made from, nor of other probabilities
    # than theirs.
    unlike = provenance.get("orientations") or ("split" in rows and rows["split"].isin(["train", "val"]).any())
    found = set_scores(members, labels, classes, None if unlike else sets)
    how = {"target": sets.coverage, **sets.to_json()} if sets else {"target": None}
    size = members.sum(axis=1)
    ambiguous = rows.assign(confidence=after.max(axis=1), classes_in_set=size)[size != 1].sort_values(
        ["classes_in_set", "confidence"]
    )
    table = ambiguous[[name for name in AMBIGUOUS if name in ambiguous]]
    predicted = PredictedSets(members, labels, table)
    return CalibrationReport({**scores, "prediction_sets": {**how, **found}}, index, p, before, predicted)


def calibration_scores(
    labels: np.ndarray, after: np.ndarray, before: np.ndarray | None, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """The scores that calibration changes, before it and after, with 95 % intervals, ready for JSON.

    labels : (N,) integers in [0, K), N > 0; after, before : (N, K), before is None where only one is known
    `by_chance` is what a calibrated classifier with these probabilities would show, None for scores that are no
    calibration errors. `change` is after - before on the same images, its interval that of the paired bootstrap.
    """
    later = bootstrap_scores(labels, after, resamples)
    result: dict[str, Any] = {"before": None, "after": _scores(later), "change": None}
    if before is None:
        return result
    earlier = bootstrap_scores(labels, before, resamples)
    result["before"] = _scores(earlier)
    result["change"] = {
        name: {
            "value": float(later.scores[name] - earlier.scores[name]),
            "interval": ends(*percentile_interval(later.samples[name] - earlier.samples[name])),
        }
        for name in SCORES
    }
    return result


def _scores(found: BootstrapScores) -> dict[str, Any]:
    return {
        name: {
            "value": float(found.scores[name]),
            "interval": ends(found.low[name], found.high[name]),
            "by_chance": found.by_chance.get(name),
        }
        for name in SCORES
    }


def _calibration_in_words(scores: dict[str, Any]) -> list[str]:
    if scores["before"] is None or scores["method"] == "none":
        return []
    parts = []
    for name in ("ece", "log_loss"):
        one, other = scores["before"][name], scores["after"][name]
        interval = other["interval"]
        within = f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
        within += f" ({other['by_chance']:.4f} by chance)" if other["by_chance"] is not None else ""
        parts.append(f"{METRICS[name].words} {one['value']:.4f} -> {other['value']:.4f}{within}")
    return [f"Calibration ({scores['method'] or 'of unknown method'}): {', '.join(parts)}"]


def _sets_in_words(scores: dict[str, Any] | None) -> list[str]:
    if scores is None:
        return []
    coverage, n = scores["coverage"], sum(scores["sizes"])
    sentence = (
        f"Prediction sets: {scores['mean_size']:.2f} classes on average, {scores['ambiguous']:,} of {n:,} ambiguous"
    )
    if coverage["share"] is not None:
        sentence += f"; {coverage['share']:.1%} hold the true class"
    if coverage["expected"]:
        low, high = coverage["expected"]
        verdict = "as expected" if coverage["within"] else "NOT as expected"
        sentence += f", {verdict} for a target of {scores['target']:.0%} ({low:.1%} to {high:.1%})"
    return [sentence]
