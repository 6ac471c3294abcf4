"""What lies where in a folder of `skyclass explain`, in a run or elsewhere."""

from __future__ import annotations

from pathlib import Path

from .csv_files import read_csv

LIST = "explanations.csv"
"""The images explained, one row each, with the files that were made of them."""
MISTAKES = "mistakes.png"
"""The sheet of the surest mistakes, which the list does not name."""
FEW_CELLS = 4
"""Cells along a side; a map of fewer tells hardly more than towards which side of an image the evidence lies."""


def remove_listed(folder: Path) -> None:
    """Remove what the folder's list names, then the list; other files in it are not ours."""
    listed = folder / LIST
    if not listed.is_file():
        return
    named = read_csv(listed, dtype=str).filter(["picture", "map", "sheet"])
    for name in {*named.to_numpy().ravel(), MISTAKES}:
        if isinstance(name, str):  # no map was asked for, where it is NaN
            (folder / Path(name).name).unlink(missing_ok=True)
    listed.unlink()
