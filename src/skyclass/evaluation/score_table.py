"""Scores as a table, for people with spreadsheets."""

from __future__ import annotations

from typing import Any

import pandas as pd

PER_CLASS = "_per_class"


def score_table(result: dict[str, Any]) -> pd.DataFrame:
    """What `metrics.evaluate` returns, one row a score.

    Returns the columns `name`, `class` (empty for scores of all classes), `value`, and `low` and `high`, the ends of
    the 95 % interval; all empty where undefined. The accuracy of a class is called by its usual name, recall; `images`
    counts the images, of all classes and of each.
    """
    intervals = result.get("intervals", {})
    rows: list[tuple[str, str, float | None, float | None, float | None]] = [("images", "", result["n"], None, None)]
    for name, value in result.items():
        if isinstance(value, dict) and name.endswith(PER_CLASS):
            short = "recall" if name == f"accuracy{PER_CLASS}" else name.removesuffix(PER_CLASS)
            for each, score in value.items():
                rows.append((short, each, score, *(intervals.get(name, {}).get(each) or (None, None))))
        elif name in intervals or name.endswith("_by_chance"):
            rows.append((name, "", value, *(intervals.get(name) or (None, None))))
    counts = zip(result["classes"], result["confusion_matrix"], strict=True)
    rows += [("images", str(name), sum(row), None, None) for name, row in counts]
    return pd.DataFrame(rows, columns=["name", "class", "value", "low", "high"])


def with_interval(value: float | None, interval: list[float] | None, digits: int = 3, sign: str = "") -> str:
    """A score and its interval in words, such as 0.912 (0.894 to 0.927); with "+" as sign a plus is written."""
    if value is None:
        return "undefined"
    form = f"{sign}.{digits}f"
    ends = "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"
    return f"{value:{form}}{ends}"
