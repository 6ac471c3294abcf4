"""CSV files that a spreadsheet opens without running formulas in their cells.

A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a line's end for a formula (OWASP, "CSV
Injection"). An image id, a class or a file name may begin so. Such a cell of text gets an apostrophe before it, which
says "text" to a spreadsheet; a cell that has such an apostrophe already gets another, so that reading gives back what
was written. Numbers stay numbers, also negative ones, and also where they stand as text.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from .atomic_files import written_whole

_FORMULA = r"[=+\-@\t\r\n＝＋－＠]"  # the wide ones are those of East Asian keyboards
_RISKY = re.compile(rf"'*{_FORMULA}")
_GUARDED = re.compile(rf"'+{_FORMULA}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def guarded(value: Any) -> Any:
    """A cell as it is written: text that a spreadsheet would compute has an apostrophe before it."""
    risky = isinstance(value, str) and _RISKY.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if risky else value


def unguarded(value: Any) -> Any:
    """A cell as it was before `guarded`."""
    return value[1:] if isinstance(value, str) and value.startswith("'") and _GUARDED.match(value) else value


def write_csv(frame: pd.DataFrame, path: Path, *, index: bool = False, float_format: str | None = None) -> None:
    """Write a table as CSV, in one step, its cells and the names of its columns guarded against formulas.

    Parameters
    ----------
    frame : the table
    path : the file
    index : whether the names of the rows are written too
    float_format : of its numbers, as pandas has it
    """
    frame = _through(frame, guarded)
    text = (value for _, column in frame.items() if _is_text(column) for value in column)
    # The writer quotes a cell for its \n, and not for its \r, at which readers end the row too.
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if any("\r" in str(value) for value in text) else csv.QUOTE_MINIMAL
    with written_whole(path) as part:
        frame.to_csv(part, index=index, float_format=float_format, quoting=quoting)


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A CSV file as `pandas.read_csv` gives it, its text as it was before `write_csv`.

    Parameters
    ----------
    path : the file
    options : those of pandas
    """
    return undone(pd.read_csv(path, **options))


def undone(frame: pd.DataFrame) -> pd.DataFrame:
    """A table that was read from CSV with its text as it was before it was guarded."""
    return _through(frame, unguarded)


def _through(frame: pd.DataFrame, change: Any) -> pd.DataFrame:
    """The table with every cell of text, and the names of rows and columns, changed."""
    changed = {
        place: column.map(change, na_action="ignore") if _is_text(column) else column
        for place, (_, column) in enumerate(frame.items())
    }
    result = pd.DataFrame(changed, index=frame.index)
    result.columns = frame.columns.map(change)
    result.index = frame.index if isinstance(frame.index, pd.RangeIndex) else frame.index.map(change)
    return result


def _is_text(column: pd.Series) -> bool:
    return bool(column.dtype == object or isinstance(column.dtype, pd.StringDtype | pd.CategoricalDtype))
