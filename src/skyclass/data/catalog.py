"""The catalog, a table with one row an image: its columns and types, and the problems of a source."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import pandas as pd

from ..core.errors import SkyclassError
from ..core.files.csv_files import write_csv
from ..core.text import quantity
from .problem_kinds import group_problems, kinds_of

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
REQUIRED = ("image_id", "file", "label", "split")
TEXT = (*REQUIRED, "group")
COORDINATES = ("ra", "dec")
UNLABELLED = "unlabelled"


class Problem(TypedDict):
    """One thing wrong with a source: an error keeps the row out of the catalog, a warning does not."""

    image_id: str  # empty where the problem is not that of one image
    file: str  # empty where no file is known
    problem: str
    severity: Literal["error", "warning"]
    kind: str  # of `problem_kinds.KINDS`


# Columns by which readers mark for `rows.checked_rows` a row that cannot be used, and a value that is odd.
FAULT, ODDITY = "skyclass: fault", "skyclass: oddity"


class Found(NamedTuple):
    """What a reader of sources found: rows with at least the columns of REQUIRED, and what is wrong with the rest.

    left_out : the rows that name images and are not in the catalog, one an id, with its columns
    """

    catalog: pd.DataFrame
    problems: list[Problem]
    left_out: pd.DataFrame | None = None


def warning(file: Path, problem: str, image_id: str = "", kind: str = "row") -> Problem:
    """A problem that keeps nothing out of the catalog."""
    return Problem(image_id=image_id, file=str(file), problem=problem, severity="warning", kind=kind)


def pixel_problems(image_id: str, file: str, error: str | None, oddity: str | None) -> list[Problem]:
    """Why an image is of no use, and what is odd about its pixels (`decode.check_pixels`), where anything is."""
    found = []
    if error:
        kind = "blank" if error.startswith("blank") else "unreadable"
        found.append(Problem(image_id=image_id, file=file, problem=error, severity="error", kind=kind))
    if oddity:
        found.append(Problem(image_id=image_id, file=file, problem=oddity, severity="warning", kind="pixels"))
    return found


def problems_frame(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """A table of `Problem` rows, with its columns even where there are none; a row without a kind is `OTHER`."""
    frame = pd.DataFrame(list(rows), columns=list(Problem.__annotations__), dtype=object)
    return frame.assign(kind=kinds_of(frame))


def write_problems(frame: pd.DataFrame, path: Path) -> None:
    """Write the problems as CSV, in one step."""
    write_csv(frame, path)


def say_problems(frame: pd.DataFrame, listed: Path | None, most: int = 6) -> None:
    """Log the number of problems, `most` of their kinds, the most severe first, and the file that lists all.

    A kind has a line, with the number of its files and the first of them. Without problems nothing is logged.
    """
    if frame.empty:
        return
    errors = int((frame["severity"] == "error").sum())
    warnings = len(frame) - errors
    folder, names = shortened(frame["file"].tolist())
    groups = group_problems(frame, names)
    of = f", of {folder}" if folder else ""
    logger.info(f"{errors:,} left out, {warnings:,} warning{'' if warnings == 1 else 's'}{of}:")
    for group in groups[:most]:
        file, problem = group.example
        count = f"{len(group.rows):,}, the first " if len(group.rows) > 1 else ""
        logger.info(f"  {group.title}: {count}{file}: {problem}")
    rest = sum(len(group.rows) for group in groups[most:])
    if rest:
        logger.info(f"  and {rest:,} more of {quantity(len(groups[most:]), 'kind')}")
    if not listed:
        logger.info("  `skyclass inspect SOURCE --out DIR` lists all of them")
    if listed:
        logger.info(f"Problems: {listed}", extra={"bold": True})


def class_counts(catalog: pd.DataFrame) -> pd.DataFrame:
    """Images of each class (index) in each split (columns; `all` where there are no splits)."""
    label = catalog["label"].fillna(UNLABELLED)
    if catalog["split"].isna().all():
        return label.value_counts(sort=False).sort_index().to_frame("all")
    counts = pd.crosstab(label, catalog["split"].fillna("none"))
    order = [name for name in (*SPLITS, "none") if name in counts]
    return counts[order]


def shortened(files: Sequence[str]) -> tuple[str, list[str]]:
    """The folder that all the files share, and their names from there; no folder where they share none."""
    if not files or not all(Path(file).is_absolute() for file in files):
        return "", list(files)
    folder = os.path.commonpath([Path(file).parent for file in files])
    return folder, [os.path.relpath(file, folder) for file in files]


def check_catalog(frame: pd.DataFrame, where: str | Path) -> pd.DataFrame:
    """A catalog with the columns and types every room relies on, its rows numbered from 0.

    `image_id` (unique) and `file` are text; `label`, `split` (train, val or test) and, where there is one, `group` are
    text or None; `ra` and `dec`, where there are any, are float64 degrees. Text columns have dtype object. Other
    columns stay as they are. `where` names the catalog in messages.

    Errors: SkyclassError for a missing column, a missing or repeated id, a missing file, an unknown split, or a
    coordinate that is not a number.
    """
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        have = ", ".join(map(str, frame.columns)) or "none"
        raise SkyclassError(f"no column {', '.join(missing)}", where=where, fix=f"its columns are {have}")
    frame = frame.reset_index(drop=True)
    for name in TEXT:
        if name in frame.columns:
            frame[name] = as_text(frame[name], where)
    for name in ("image_id", "file"):
        empty = frame[name].isna()
        if empty.any():
            raise SkyclassError(f"row {empty.idxmax()} has no {name}", where=where, fix="fill it in or drop the row")
    repeated = frame["image_id"].duplicated()
    if repeated.any():
        first = frame.loc[repeated, "image_id"].iloc[0]
        what = f"{repeated.sum()} repeated image_id, the first of them {first!r}"
        raise SkyclassError(what, where=where, fix="give every image its own id")
    unknown = sorted(set(frame["split"].dropna()) - set(SPLITS))
    if unknown:
        raise SkyclassError(f"unknown split {unknown[0]!r}", where=where, fix=f"the splits are {', '.join(SPLITS)}")
    for name in COORDINATES:
        if name in frame.columns:
            frame[name] = _degrees(frame[name], where)
    return frame


def as_text(column: pd.Series, where: str | Path) -> pd.Series:
    """Any column as Python strings, stripped of outer blanks; None where it is empty or blank.

    Whole floating-point numbers, which integers turn into beside an empty cell, read as integers again: 3.0 is "3".

    Errors: SkyclassError for floating-point numbers from 2**53 on, whose last digits are lost already.
    """
    if pd.api.types.is_float_dtype(column.dtype):
        if (column.abs() >= 2**53).any():
            what = f"column {column.name!r} holds floating-point numbers too large to keep every digit of an id"
            raise SkyclassError(what, where=where, fix="store it as text or as 64-bit integers")
        if (column.dropna() % 1 == 0).all():
            column = column.astype("Int64")
    empty = column.isna()
    text = column.astype(object).map(str, na_action="ignore").astype(str).str.strip().astype(object)
    return text.mask(empty | (text == ""), None)


def _degrees(column: pd.Series, where: str | Path) -> pd.Series:
    try:
        return pd.to_numeric(column).astype("float64")
    except (ValueError, TypeError):
        what = f"column {column.name!r} is not a number of degrees"
        raise SkyclassError(what, where=where, fix="convert it to degrees or rename it") from None
