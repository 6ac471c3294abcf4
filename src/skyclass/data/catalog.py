"""The catalog, a table with one row an image: its columns, how a user's table becomes one, and its problems."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

import pandas as pd

from ..console import say, say_where
from ..errors import SkyclassError, one_line
from ..files import written_whole

SPLITS = ("train", "val", "test")
REQUIRED = ("image_id", "file", "label", "split")
TEXT = (*REQUIRED, "group")
COORDINATES = ("ra", "dec")

# What folders and tables call the splits, in small letters.
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

# What stands for "absent" in columns that are no text.
_ABSENT = ("", "NA", "N/A", "#N/A", "NaN", "nan", "NAN", "null", "NULL", "None", "<NA>")

# Column names by the part they play, the likeliest first, in small letters.
_GUESSES: dict[str, tuple[str, ...]] = {
    "image_id": ("image_id", "id", "id_str", "objid", "dr7objid", "dr8objid", "galaxyid", "iauname", "object_id"),
    "file": ("file", "filename", "file_name", "path", "filepath", "file_path", "image", "image_path", "image_file"),
    "label": ("label", "class", "target", "type", "class_name"),
    "split": ("split", "set", "subset"),
    "group": ("group",),
}


class Problem(TypedDict):
    """One thing wrong with a source: an error keeps the row out of the catalog, a warning does not."""

    image_id: str  # empty where the problem is not that of one image
    file: str  # empty where no file is known
    problem: str
    severity: Literal["error", "warning"]


def problems_frame(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """A table of `Problem` rows, with its columns even where there are none."""
    return pd.DataFrame(list(rows), columns=list(Problem.__annotations__), dtype=object)


def write_problems(frame: pd.DataFrame, path: Path) -> None:
    """Write the problems as CSV, in one step."""
    with written_whole(path) as part:
        frame.to_csv(part, index=False)


def tell_problems(frame: pd.DataFrame, listed: Path, most: int = 10) -> None:
    """Say how many problems there are, `most` kinds of them, and the file that lists all; nothing where there is none.

    Errors come first, and files that share a fault share a line.
    """
    if frame.empty:
        return
    errors = int((frame["severity"] == "error").sum())
    warnings = len(frame) - errors
    folder, names = shortened(frame["file"].tolist())
    of = f", of {folder}" if folder else ""
    say(f"{errors:,} left out, {warnings:,} warning{'' if warnings == 1 else 's'}{of}:")
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, problem, severity in zip(names, frame["problem"], frame["severity"], strict=True):
        kinds.setdefault((severity, problem), []).append(name)
    told = sorted(kinds.items(), key=lambda kind: kind[0][0])[:most]  # "error" before "warning", else as they came
    for (_, problem), files in told:
        others = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
        say(f"  {files[0]}{others}: {problem}")
    rest = len(frame) - sum(len(files) for _, files in told)
    if rest:
        say(f"  and {rest:,} more")
    say_where("Problems", listed)


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


def read_table(path: Path, given: Mapping[str, str | None]) -> pd.DataFrame:
    """A user's table with the catalog's column names, as far as it has such columns; the rest stays as it is.

    `given` says for each of image_id, file, label, split and group the column to take, or None to guess it. Those parts
    are text or None, splits are spelt train, val, test. A column of the user's that bears the name of a part that
    another column plays becomes `table_<name>`.

    Errors: SkyclassError for an unreadable or empty table, a column it lacks, neither files nor ids, an unknown split.
    """
    text_columns = {name for names in _GUESSES.values() for name in names}
    text_columns |= {name.lower() for name in given.values() if name}
    try:
        table = TABLE_READERS[path.suffix.lower()](path, frozenset(text_columns))
    except (ValueError, OSError) as error:  # of pandas and pyarrow: empty, ragged, damaged, not UTF-8
        raise SkyclassError(f"unreadable table ({one_line(error)})", where=path, fix="open and mend it") from None
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    if table.empty:
        raise SkyclassError("the table has no rows", where=path, fix="give a table with one row an image")
    parts = _parts(table, given, path)
    rest = table.drop(columns=list(set(parts.values())))
    rest = rest.rename(columns={name: _free_name(name, rest.columns) for name in rest.columns})
    frame = pd.DataFrame({part: as_text(table[name], path) for part, name in parts.items()}).join(rest)
    if "split" in frame.columns:
        spelt = frame["split"].map(lambda split: SPLIT_NAMES.get(split.lower(), split), na_action="ignore")
        frame["split"] = spelt.astype(object).mask(spelt.isna(), None)
    return frame


def _read_separated(path: Path, text_columns: frozenset[str]) -> pd.DataFrame:
    """CSV and its like; `text_columns` (in small letters) stay text, so that long ids keep every digit."""
    with path.open(encoding="utf-8-sig") as stream:
        header = stream.readline()
    separator = next((mark for mark in ("\t", ",", ";", "|") if mark in header), ",")
    names = pd.read_csv(path, sep=separator, nrows=0).columns
    text = {name: str for name in names if name.strip().lower() in text_columns}
    # A class may be called None or NA: such words mean "absent" in the other columns only.
    absent = {name: list(_ABSENT) for name in names if name not in text}
    table = pd.read_csv(path, sep=separator, dtype=text, keep_default_na=False, na_values=absent, low_memory=False)
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the first fields for names of the rows
        raise ValueError("its rows have more fields than its header")
    return table


def _read_parquet(path: Path, text_columns: frozenset[str]) -> pd.DataFrame:
    """Parquet, whose columns have types of their own."""
    return pd.read_parquet(path)


# Suffix -> reader of a table, given the names of the columns that have to stay text.
TABLE_READERS: dict[str, Callable[[Path, frozenset[str]], pd.DataFrame]] = {
    ".csv": _read_separated,
    ".tsv": _read_separated,
    ".parquet": _read_parquet,
}


def _parts(table: pd.DataFrame, given: Mapping[str, str | None], path: Path) -> dict[str, str]:
    """Part -> column of the table, as given or else as guessed; what was guessed is said."""
    have = ", ".join(table.columns)
    parts = {part: name for part, name in given.items() if name is not None}
    for name in parts.values():
        if name not in table.columns:
            raise SkyclassError(f"no column {name!r}", where=path, fix=f"its columns are {have}")
    spelling = {name.lower(): name for name in reversed(table.columns)}
    guessed = {}
    for part, names in _GUESSES.items():
        found = next((spelling[name] for name in names if name in spelling), None)
        if part in parts or found is None or found in parts.values():
            continue
        # A column called `set` may be about anything: it holds splits if some value is the name of one.
        if part == "split" and not table[found].astype(str).str.strip().str.lower().isin(list(SPLIT_NAMES)).any():
            say(f"{path.name}: no value of column {found!r} is train, val or test: it is not taken for the split")
            continue
        parts[part] = guessed[part] = found
    if "file" not in parts and "image_id" not in parts:
        what = "no column of files or ids was recognised"
        raise SkyclassError(what, where=path, fix=f"say which it is among {have} (--file-column, --id-column)")
    if guessed:
        say(f"{path.name}: guessed " + ", ".join(f"{part} from column {name!r}" for part, name in guessed.items()))
    return parts


def _free_name(name: str, taken: pd.Index) -> str:
    """The name of a user's column beside the catalog's own; RA and Dec are ra and dec."""
    if name.lower() in COORDINATES and name.lower() not in taken:
        return name.lower()
    return f"table_{name}" if name in TEXT else name
