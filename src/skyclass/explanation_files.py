"""What lies where in a folder of `skyclass explain`, in a run or elsewhere."""

from __future__ import annotations

from pathlib import Path

from .artefact_tables import read_own_csv

LIST = "explanations.csv"
"""The images explained, one row each, with the files that were made of them."""
MISTAKES = "mistakes.png"
"""The sheet of the surest mistakes, which the list does not name."""
GRADES = ("grades.csv", "grades.json", "grades-curves.png", "grades-sanity.png", "grades-localisation.png")
"""The table of grades, by which a reader knows that there are any, and what else `--grade` leaves."""
FEW_CELLS = 4
"""Cells along a side; a map of fewer tells hardly more than towards which side of an image the evidence lies."""


def listed_files(folder: Path) -> list[str]:
    """The names of the files that the folder's list names, and of the list, which is the last; others are not ours."""
    listed = folder / LIST
    if not listed.is_file():
        return []
    named = read_own_csv(listed, "list of explanations", "remove the folder", dtype=str)
    named = named.filter(["picture", "map", "sheet"])
    names = {*named.to_numpy().ravel(), MISTAKES}
    return [*sorted(Path(name).name for name in names if isinstance(name, str)), LIST]  # NaN: no map was asked for


def remove_listed(folder: Path) -> None:
    """Remove what the folder's list names, then the list."""
    for name in listed_files(folder):
        (folder / name).unlink(missing_ok=True)
