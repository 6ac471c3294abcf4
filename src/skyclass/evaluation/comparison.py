"""Classifiers side by side: their scores, and whether they differ on the images that both were tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..core.sample_sizes import LEAST_DISCORDANT
from ..core.text import plain
from .bootstrap import bootstrap_scores, with_interval
from .intervals import McNemar, ends, mcnemar, percentile_interval
from .weighted_metrics import in_report

SCORES = {name: metric.title for name, metric in in_report().items() if metric.is_compared}
NOT_MEASURED = "not measured"


class Candidate(NamedTuple):
    """A classifier's predictions of its test images.

    name : which identifies it
    pack : hash of the pack that the images come from
    images : (N,) `image_id` and `file`
    labels : (N,) integers in [0, K); p : (N, K); classes : the K names
    """

    name: str
    pack: str
    images: pd.DataFrame
    labels: np.ndarray
    p: np.ndarray
    classes: list[str]


class Difference(NamedTuple):
    """How a classifier differs from the first on the same images.

    n : images in common, on which alone both are evaluated here
    scores : name -> (other minus first, low, high), a paired bootstrap's 95 % interval; nan where undefined
    test : McNemar's exact test of the accuracies
    """

    n: int
    scores: dict[str, tuple[float, float, float]]
    test: McNemar


def scores_with_intervals(method: Candidate, resamples: int) -> dict[str, float]:
    """`n`, each of `SCORES` with its `_low` and `_high`, nan where undefined, and `ece_by_chance`, which a perfectly
    calibrated classifier with these probabilities would show.
    """
    found = bootstrap_scores(method.labels, method.p, resamples)
    row: dict[str, float] = {"n": len(method.labels)}
    for name in SCORES:
        low, high = float(found.low[name]), float(found.high[name])
        row |= {name: float(found.scores[name]), f"{name}_low": low, f"{name}_high": high}
    return row | {"ece_by_chance": found.by_chance["ece"]}


def difference(first: Candidate, other: Candidate, resamples: int) -> Difference | str:
    """How `other` differs from `first` on the images that both were tested on, or why that is not known.

    An image is the same where id and label agree and the packs are one, or else also its file. The resamples of both
    are the same, stratified by true class.
    """
    if set(first.classes) != set(other.classes):
        return "its classes are others"
    here, there = _common(first, other)
    if not len(here):
        return "no test image is the same"
    labels, p = first.labels[here], first.p[here]
    q = other.p[there][:, [other.classes.index(name) for name in first.classes]]
    one, two = bootstrap_scores(labels, p, resamples), bootstrap_scores(labels, q, resamples)
    scores = {}
    for name in SCORES:
        low, high = percentile_interval(two.samples[name] - one.samples[name])
        scores[name] = (float(two.scores[name] - one.scores[name]), float(low), float(high))
    return Difference(len(here), scores, mcnemar(p.argmax(axis=1) == labels, q.argmax(axis=1) == labels))


def _common(first: Candidate, other: Candidate) -> tuple[np.ndarray, np.ndarray]:
    """Places of the same images in both, (M,) each."""
    keys = ["image_id", "label"]
    tables = []
    for one in (first, other):
        names = np.array(one.classes, dtype=object)[one.labels]
        tables.append(one.images.assign(label=names, place=np.arange(len(names))).drop_duplicates(keys))
    if first.pack != other.pack:
        # Simulated images have no file: those of two simulations share their names and nothing else.
        tables = [table[[Path(str(file)).is_absolute() for file in table["file"]]] for table in tables]
        keys = [*keys, "file"]
    both = tables[0].merge(tables[1], on=keys, suffixes=("", "_other"))
    return both["place"].to_numpy(np.int64), both["place_other"].to_numpy(np.int64)


def difference_columns(found: Difference | str | None) -> dict[str, Any]:
    """A difference as columns of a table; with a reason, or for the first itself, they are empty."""
    if found is None or isinstance(found, str):
        return {"n_common": None, "note": found}
    row: dict[str, Any] = {"n_common": found.n, "note": None}
    for name, (value, low, high) in found.scores.items():
        row |= {f"{name}_difference": value, f"{name}_difference_low": low, f"{name}_difference_high": high}
    return row | {
        "only_first_right": found.test.only_first,
        "only_this_right": found.test.only_second,
        "mcnemar_p": found.test.p_value,
    }


TEXT = ("method", "device", "note", "reported_by")
"""Columns of a comparison that hold words of the user's."""


def comparison_markdown(rows: Sequence[Mapping[str, Any]], split: str) -> str:
    """The comparison as Markdown.

    rows : of each method `method`, `trained_parameters`, `total_parameters`, `time` and `memory` (in words), `device`,
        what `scores_with_intervals` and `difference_columns` give, and `reported_by` where these are the figures of
        others, of which only some scores need be there
    """
    rows = [{key: plain(value) if key in TEXT and value else value for key, value in row.items()} for row in rows]
    ours = [row for row in rows if not row.get("reported_by")]
    lines = [
        f"# Comparison on the {split} images" if split != "all" else "# Comparison",
        "",
        "In brackets: 95 % intervals from a bootstrap of the images, stratified by class. ECE is positive by chance "
        "alone: beside it stands what a perfectly calibrated classifier would show on the same images.",
        "",
        *_table(
            ["method", "trained parameters", "training time", "memory", "images", *SCORES.values()],
            [_score_cells(row) for row in rows],
        ),
    ]
    trained: dict[str, list[str]] = {}
    for row in ours:
        if row["device"]:
            trained.setdefault(row["device"], []).append(row["method"])
    if len(trained) > 1:
        parts = [f"{device}: {', '.join(names)}" for device, names in trained.items()]
        lines += ["", "Times and memory are of other machines: " + "; ".join(parts)]
    elif trained:
        lines += ["", f"Trained on {next(iter(trained))}."]
    if len(ours) > 1:
        first = ours[0]["method"]
        lines += ["", f"## Against {first}", "", "On the test images that both share: the method minus the first.", ""]
        columns = ["method", "images in common", *SCORES.values(), "p (McNemar, accuracy)"]
        lines += _table(columns, [_difference_cells(row) for row in ours[1:]])
        n_tests = sum(row["n_common"] is not None for row in ours)
        few = [row for row in ours[1:] if row["n_common"] is not None and _discordant(row) < LEAST_DISCORDANT]
        if few:
            names = ", ".join(plain(row["method"]) for row in few)
            reason = (
                f"on fewer than {LEAST_DISCORDANT} images only one of the two is right, so that no p can be below 0.05"
            )
            lines += ["", f"Too few to tell whether the accuracy of {names} differs: {reason}."]
        if n_tests > 1:
            lines += ["", f"The p-values are of single tests: {n_tests} were made, and none is corrected for it."]
    notes = [f"- {row['method']}: {row['reported_by']}" for row in rows if row.get("reported_by")]
    if notes:
        lines += ["", "## Reported", "", "Not measured here, and not on these images:", "", *notes]
    return "\n".join(lines) + "\n"


def _discordant(row: Mapping[str, Any]) -> int:
    """Images that only one of the two classifiers gets right."""
    return int(row["only_first_right"] + row["only_this_right"])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, its columns aligned for those who read it as text."""
    cells = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _score_cells(row: Mapping[str, Any]) -> list[str]:
    cells = [str(row["method"])]
    if row.get("reported_by"):
        cells += ["", "", "", ""]
        return cells + [f"{row[name]:.4g} (theirs)" if name in row else "" for name in SCORES]
    trained, total = row["trained_parameters"], row["total_parameters"]
    cells.append(NOT_MEASURED if trained is None else f"{trained:,} of {total:,}")
    cells += [row["time"] or NOT_MEASURED, row["memory"] or NOT_MEASURED, f"{row['n']:,}"]
    scores = {name: _score_text(row, name) for name in SCORES}
    scores["ece"] += f", by chance {row['ece_by_chance']:.3f}"
    return [*cells, *scores.values()]


def _difference_cells(row: Mapping[str, Any]) -> list[str]:
    if row["n_common"] is None:
        return [str(row["method"]), f"none: {row['note']}", *[""] * (len(SCORES) + 1)]
    p = row["mcnemar_p"]
    cells = [_score_text(row, f"{name}_difference", "+") for name in SCORES]
    return [str(row["method"]), f"{row['n_common']:,}", *cells, "< 0.0001" if p < 1e-4 else f"{p:.4f}"]


def _score_text(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    """A score or difference with its interval."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return with_interval(None if np.isnan(value) else value, ends(low, high), sign=sign)
