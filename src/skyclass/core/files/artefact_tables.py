"""Read tables that Skyclass has written; a damaged one is an error with a fix."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import SkyclassError
from .csv_files import read_csv


def read_own_csv(
    path: Path, what: str, fix: str, columns: Iterable[str] = (), numbers: Iterable[str] = (), **options: Any
) -> pd.DataFrame:
    """A CSV file that has all `columns` and `numbers`, of which the latter hold nothing else; `what` names it.

    options : those of `pandas.read_csv`
    Errors: SkyclassError, with the fix `fix`, where the file is missing, damaged or another table.
    """
    _check_file(path, what, fix)
    try:
        frame = read_csv(path, **options)
        for name in set(numbers) & set(frame.columns):
            frame[name] = pd.to_numeric(frame[name])
    except (OSError, TypeError, ValueError):  # among them those of decoding, and of tokens
        raise SkyclassError(f"damaged {what}: it cannot be read as a table", where=path, fix=fix) from None
    return _with_columns(frame, [*columns, *numbers], what, path, fix)


def read_own_parquet(path: Path, what: str, fix: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """A Parquet file that has all `columns`; `what` names it. Errors: as of `read_own_csv`."""
    _check_file(path, what, fix)
    try:
        frame = pd.read_parquet(path)
    except Exception:  # Arrow, and pandas with what it has written of types, fail in many ways
        raise SkyclassError(f"damaged {what}: it cannot be read as a table", where=path, fix=fix) from None
    return _with_columns(frame, columns, what, path, fix)


def _check_file(path: Path, what: str, fix: str) -> None:
    """Errors: SkyclassError where there is no such file; a folder of that name would be taken for a data set."""
    if not path.is_file():
        raise SkyclassError(f"no {what}: the file does not exist", where=path, fix=fix)


def _with_columns(frame: pd.DataFrame, columns: Iterable[str], what: str, path: Path, fix: str) -> pd.DataFrame:
    missing = [name for name in columns if name not in frame]
    if missing:
        raise SkyclassError(f"damaged {what}: no column {', '.join(missing)}", where=path, fix=fix)
    return frame
