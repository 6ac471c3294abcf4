"""The grades of explanations in words, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from .grade_figures import EVERY


def grades_in_words(table: pd.DataFrame) -> list[str]:
    """The table as a person reads it, and a line a method, or one where no check can be called passed.

    table : as `grading.Grades` has it
    """
    shown = {
        "method": table["method"],
        "class": table["class"],
        "images": table["n"],
        "deletion": table["deletion"] - table["deletion_random"],
        "insertion": table["insertion"] - table["insertion_random"],
        "random network": table["randomised_network"],
        "orientations": table["stability"],
        "heat": table["heat_beyond_ring"],
        "maxima": table["peak_beyond_ring"],
        "passed": [_passed(row) for row in table.to_dict("records")],
    }
    lines = pd.DataFrame(shown).to_string(index=False, float_format="{:.2f}".format, na_rep="").splitlines()
    lines += [f"class activation maps are those of {name}" for name in table["layer"].dropna().unique()]
    lines.append("deletion (good below 0) and insertion (good above 0): area beyond that of random maps")
    if table["n_localised"].any():
        lines.append(
            "heat and maxima near the substructure, beyond those of a map of the Einstein ring (1: all, 0: as it)"
        )
    every = table[table["class"] == EVERY].to_dict("records")
    reasons = dict.fromkeys(row["cannot_tell"] for row in every if row["cannot_tell"])
    lines += [f"Too few to tell how far these maps can be believed: {reason}" for reason in reasons]
    for row in every:
        if not row["cannot_tell"]:
            lines.append(
                f"{row['method']}: {_passed(row)} checks passed" + f"; not {row['failed']}" * bool(row["failed"])
            )
    return lines


def _passed(row: Mapping[Any, Any]) -> str:
    return "too few to tell" if row["cannot_tell"] else f"{row['passed']:.0f} of {row['checks']}"
