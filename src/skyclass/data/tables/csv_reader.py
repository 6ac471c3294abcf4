"""CSV and its like: text whose fields are parted by commas, semicolons, tabs or bars becomes a data frame.

pandas reads; what comes before it is ours: `csv.Sniffer` refuses a table of one column, and knows neither comments
before the header nor rows that are longer than it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ...core.files.csv_files import undone
from ..catalog import FAULT
from .columns import plain

# Values for "absent" in columns that are no text.
_ABSENT = ("", "NA", "N/A", "#N/A", "NaN", "nan", "NAN", "null", "NULL", "None", "<NA>")
_SEPARATORS = "\t,;|"  # of equals the first
_SAMPLE = 50  # lines from which the separator is found
_TOO_LONG = "its rows have more fields than its header"


class _Layout(NamedTuple):
    skipped: int  # lines before the header
    separator: str


def read_separated(path: Path, text_columns: frozenset[str]) -> pd.DataFrame:
    """CSV and its like; `text_columns` stay text, so that long ids keep every digit.

    A row with more fields than the header stays as an empty row, which the column FAULT explains. Empty last fields
    of rows, and comments (`#Table1`) before the header, are passed over.

    Errors: ValueError, or the parser's, where the file is no such table.
    """
    layout = _layout_of(path)
    try:
        table = _parsed(path, layout, text_columns)
    except pd.errors.ParserError as error:
        if "Expected" not in str(error):  # such as a quotation mark that is never closed
            raise
        table = None
    if table is not None and isinstance(table.index, pd.RangeIndex):
        return table
    # A row is longer than the header, or pandas took the first fields for names of the rows.
    text, faults = _evened(path, layout)
    table = _parsed(io.StringIO(text), _Layout(0, ","), text_columns)
    return table.assign(**{FAULT: pd.Series(faults, dtype=object).reindex(table.index)}) if faults else table


def _layout_of(path: Path) -> _Layout:
    """The number of leading comment lines, and the separator that gives most lines the same number of fields."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(islice(stream, _SAMPLE))
    parted = [any(mark in line for mark in _SEPARATORS) for line in lines]
    comment = [line.startswith("#") or not line.strip() for line in lines]
    skipped = next((i for i in range(len(lines)) if parted[i] or not comment[i]), 0)
    if skipped < len(lines) and not parted[skipped]:  # a table of one column, whose name may begin so
        skipped = 0
    sample = lines[skipped:]

    def fitness(mark: str) -> tuple[int, int]:
        counts: list[int] = []
        with suppress(csv.Error):  # a field too long for this reader
            counts += (_width(row) for row in csv.reader(sample, delimiter=mark) if row)
        return counts.count(counts[0]) if counts and counts[0] > 1 else 0, counts[0] if counts else 0

    marks = [mark for mark in _SEPARATORS if sample and mark in sample[0]]
    return _Layout(skipped, max(marks, key=fitness, default=","))


def _width(row: Sequence[str]) -> int:
    return len(row) - (len(row) > 1 and row[-1].strip() == "")


def _parsed(source: Path | io.StringIO, layout: _Layout, text_columns: frozenset[str]) -> pd.DataFrame:
    """What pandas makes of it: numbers as numbers, integers exact even beside an empty cell."""

    def read(**options: object) -> pd.DataFrame:
        if isinstance(source, io.StringIO):
            source.seek(0)
        frame: pd.DataFrame = pd.read_csv(source, sep=layout.separator, skiprows=layout.skipped, **options)  # type: ignore[call-overload]
        return undone(frame)

    names = read(nrows=0).columns
    text = {name: str for name in names if plain(name) in text_columns}
    # A class may be called None or NA: such words mean "absent" in the other columns only.
    absent = {name: list(_ABSENT) for name in names if name not in text}
    table = read(dtype=text, keep_default_na=False, na_values=absent, low_memory=False)
    if not isinstance(table.index, pd.RangeIndex):
        return table
    for name in table.columns[table.dtypes == "float64"]:
        if _lost_digits(table[name]):
            with suppress(ValueError, TypeError):  # floating-point numbers indeed
                table[name] = read(usecols=[name], dtype={name: "Int64"}, low_memory=False)
    last = table.columns[-1] if len(table.columns) > 1 else ""
    if last == f"Unnamed: {len(table.columns) - 1}" and table[last].isna().all():  # the header ends with a separator
        table = table.drop(columns=last)
    return table


def _lost_digits(column: pd.Series) -> bool:
    """Whether the numbers may have been long integers, which an empty cell among them turned into floating point."""
    return bool((column.abs() >= 2**53).any() and (column.dropna() % 1 == 0).all())


def _evened(path: Path, layout: _Layout) -> tuple[str, dict[int, str]]:
    """The file as CSV whose rows are no longer than its header, and row -> what was wrong with it, which is emptied.

    Errors: ValueError where no row fits the header.
    """
    text, faults, row = io.StringIO(), {}, 0
    writer = csv.writer(text)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(islice(stream, layout.skipped, None), delimiter=layout.separator, strict=True)
        header = next(reader)
        header = header[: _width(header)]
        writer.writerow(header)
        for fields in reader:
            if not fields:  # an empty line, which is no row to pandas either
                continue
            if _width(fields) > len(header):
                line = layout.skipped + reader.line_num
                faults[row] = f"row {row} (line {line}) has {_width(fields)} fields, the header {len(header)}"
                fields = []
            writer.writerow((fields + [""] * len(header))[: len(header)])
            row += 1
    if len(faults) == row:
        raise ValueError(_TOO_LONG)
    return text.getvalue(), faults
