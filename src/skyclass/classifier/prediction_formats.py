"""Predictions as CSV, FITS, VOTable and ECSV, for TOPCAT and spreadsheets, and the one reader of all formats; Parquet
is written by `predictions`.

What a format cannot hold is written as near to it as it can: absent text is empty, absent numbers are NaN, or for
integers the format's own mark, and integers keep every digit. FITS and VOTable have names of letters, digits and
underscores (`p_FR I` is `p_FR_I`), and FITS, whose standard has ASCII only, other text as UTF-8. Classes, origin and
the names as they were stand in the file: in FITS under the keyword SKYCLASS, in a VOTable as the table's description.
"""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table

from ..core.errors import SkyclassError
from ..core.files.atomic_files import written_whole
from ..core.files.csv_files import read_csv, write_csv
from ..data.tables.columns import plain
from ..data.tables.csv_reader import ABSENT
from ..data.tables.table_files import FITS_SUFFIXES, read_rows, table_suffix
from ..evaluation.predictions import PREFIX, TEXT, frame_of, predictions_writer, schema_of, table_of, without_lost

KEY = "skyclass"  # of the file's metadata
_LONGEST_ROW = 2**20  # bytes from which the end of a file is told
_CODED = "Predictions of Skyclass; how they were made, in base64:"
_XML_HAS_NO = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@contextmanager
def predictions_file(
    path: Path, classes: list[str], provenance: dict[str, Any], carried: pa.Schema
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that appends rows to a file in the format of its suffix, which appears whole at the end.

    Parquet is written as the rows come; the other formats are held in memory until then.

    Parameters
    ----------
    path : a file with a suffix in FORMATS
    classes, provenance : as `predictions.schema_of` takes them
    carried : names and types of the catalog's columns that go with the predictions
    """
    if path.suffix.lower() == ".parquet":
        with predictions_writer(path, classes, provenance, carried=carried) as append:
            yield append
        return
    schema = schema_of(classes, provenance, carried=carried)
    tables = [schema.empty_table()]
    yield lambda frame: tables.append(table_of(frame, schema))
    WRITERS[path.suffix.lower()](pa.concat_tables(tables), path)


def read_predictions(path: Path) -> tuple[pd.DataFrame, list[str], dict[str, Any]]:
    """The table, its classes in order, and what it was made from (empty for a foreign file).

    The suffix says the format: `.csv`, `.tsv`, `.ecsv`, FITS and VOTable as `data.table_files` has them, else Parquet,
    also where another program has written or saved the file: it needs one column `p_<class>` a class.

    Raises
    ------
    SkyclassError : for a missing or damaged file, or one without such columns
    """
    if not path.is_file():
        raise SkyclassError("no such predictions file", where=path, fix="make it with `skyclass predict`")
    suffix = table_suffix(path)
    provenance: dict[str, Any] = {}
    if suffix == ".csv":
        frame = _with_texts(_read_csv(path), path)
    elif suffix not in (None, ".parquet") or path.name.lower().endswith(FITS_SUFFIXES):
        frame, provenance = _read_table(path)
        frame = _with_texts(frame, path)
    else:
        frame, provenance = _read_parquet(path)
    columns = [str(name).removeprefix(PREFIX) for name in frame.columns if str(name).startswith(PREFIX)]
    stored = provenance.pop("classes", None)
    classes = [str(name) for name in stored] if stored and isinstance(stored, list) else columns
    if not classes:
        raise SkyclassError("no column p_<class>", where=path, fix="one column of probabilities a class is needed")
    return without_lost(frame, classes, path), classes, provenance


def _read_parquet(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    try:
        table = pq.read_table(path)
        provenance = json.loads((table.schema.metadata or {}).get(KEY.encode(), b"{}"))
        frame = frame_of(table)
    except (OSError, TypeError, ValueError, RecursionError, pa.ArrowException):
        raise SkyclassError("not a table of predictions", where=path, fix="predict again") from None
    if not isinstance(provenance, dict):
        raise SkyclassError("damaged predictions: it says nothing of its making", where=path, fix="predict again")
    return frame, provenance


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        names = pd.read_csv(path, nrows=0).columns
        absent = {name: [""] if name in TEXT else list(ABSENT) for name in names}  # a class may be called `nan`
        frame = read_csv(path, dtype=dict.fromkeys(TEXT, "string"), keep_default_na=False, na_values=absent)
        cut = _ends_in_a_row(path, len(names))
    except (OSError, TypeError, ValueError, RecursionError):
        raise SkyclassError("not a table of predictions", where=path, fix="predict again") from None
    if cut:
        raise SkyclassError("the file ends in the middle of a row", where=path, fix="copy it again, or predict again")
    return frame


def _ends_in_a_row(path: Path, columns: int) -> bool:
    """Whether the last line of a CSV file has no end, and fewer fields than there are columns."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _LONGEST_ROW))
        last = stream.read().decode("utf-8", errors="replace").rpartition("\n")[2]
    return bool(last) and len(next(csv.reader([last]))) < columns


def _read_table(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    frame = read_rows(path, frozenset(map(plain, TEXT)))
    metadata = str(frame.attrs.get(KEY, ""))
    try:
        if metadata.startswith(_CODED):
            metadata = base64.b64decode("".join(metadata.removeprefix(_CODED).split())).decode()
        provenance = dict(json.loads(metadata))
    except (ValueError, TypeError):  # of another program, or cut by one
        provenance = {}
    renamed = provenance.pop("columns", None)
    frame = frame.rename(columns=renamed if isinstance(renamed, dict) else {})
    classes = provenance.get("classes")
    if not isinstance(classes, list) or not {f"{PREFIX}{name}" for name in classes} <= set(frame.columns):
        provenance.pop("classes", None)  # renamed since
    return frame, provenance


def _with_texts(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with its text as text: what is empty is absent, or a set that holds no class.

    Errors: SkyclassError where `ambiguous` is neither true nor false.
    """
    for name in (name for name in TEXT if name in frame.columns):
        text = frame[name].astype(object).map(str, na_action="ignore")
        frame[name] = text.where(frame[name].notna() & (text != ""), None)
    if "prediction_set" in frame and "ambiguous" in frame:
        try:
            known = frame["ambiguous"].astype("boolean").fillna(False).to_numpy(dtype=bool)
        except (TypeError, ValueError):
            what = "the column `ambiguous` holds something else than true and false"
            raise SkyclassError(what, where=path, fix="predict again") from None
        empty = frame["prediction_set"].isna().to_numpy() & known & _predicted(frame)
        frame["prediction_set"] = frame["prediction_set"].mask(empty, "")
    return frame


def _predicted(frame: pd.DataFrame) -> np.ndarray:
    """(N,) whether a row has a prediction."""
    return frame["predicted"].notna().to_numpy() if "predicted" in frame else np.ones(len(frame), bool)


def _write_csv(table: pa.Table, path: Path) -> None:
    write_csv(frame_of(table), path)


def _write_ecsv(table: pa.Table, path: Path) -> None:
    made = Table({field.name: _column(table, field) for field in table.schema})
    made.meta[KEY] = table.schema.metadata[KEY.encode()].decode()
    with written_whole(path) as part:
        made.write(part, format="ascii.ecsv", overwrite=True)


def _write_votable(table: pa.Table, path: Path) -> None:
    made, metadata = _renamed(table)
    coded = base64.b64encode(metadata.encode()).decode()  # a description is wrapped, which would break the names in it
    made.meta["description"] = f"{_CODED} {coded}"
    for name in made.colnames:
        if made[name].dtype.kind == "U":
            clean = [_XML_HAS_NO.sub("?", value) for value in np.ma.filled(made[name], "").tolist()]
            made[name] = MaskedColumn(clean, mask=np.ma.getmaskarray(made[name]), dtype=str)
    with written_whole(path) as part:
        made.write(part, format="votable", overwrite=True)


def _write_fits(table: pa.Table, path: Path) -> None:
    made, metadata = _renamed(table)
    columns, absent = [], {}
    for name in made.colnames:
        values, mask = np.asarray(made[name]), np.ma.getmaskarray(made[name])
        kind, null = values.dtype, None
        if kind.kind == "U":
            values = np.array([text.encode() for text in np.where(mask, "", values).tolist()], dtype=bytes)
            code = f"{max(1, values.dtype.itemsize)}A"
        elif kind.kind == "b":
            code, absent[name] = "L", mask
        else:
            code = {"i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}[f"{kind.kind}{kind.itemsize}"]
            if kind.kind == "i" and mask.any():
                null = int(np.iinfo(kind).min)
                values = np.where(mask, kind.type(null), values)
        columns.append(fits.Column(name, code, array=values, null=null))
    hdu = fits.BinTableHDU.from_columns(columns, name="PREDICTIONS")
    hdu.header[KEY.upper()] = (metadata, "")
    raw = hdu.data.view(np.ndarray)
    for name, mask in absent.items():
        raw[name][mask] = 0  # neither T nor F, as the standard has it
    with written_whole(path) as part:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(part, overwrite=True)


def _renamed(table: pa.Table) -> tuple[Table, str]:
    """An astropy table with names that FITS and VOTable have, and its metadata."""
    names = _plain_names(table.column_names)
    content = json.loads(table.schema.metadata[KEY.encode()])
    content["columns"] = {new: old for old, new in names.items() if old != new}
    made = Table()
    for field in table.schema:
        made[names[field.name]] = _column(table, field)
    return made, json.dumps(content)  # in ASCII


def _plain_names(names: Sequence[str]) -> dict[str, str]:
    """Each name with letters, digits and underscores alone, of 60 at most, also without capitals unlike all others."""
    made: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        start = plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:60] or "column"
        if not start[0].isalpha():
            start = plain = f"_{start}"
        number = 1
        while plain.lower() in taken:
            number += 1
            plain = f"{start}_{number}"
        taken.add(plain.lower())
        made[name] = plain
    return made


def _column(table: pa.Table, field: pa.Field) -> Column:
    """A column of astropy's: text, booleans and signed integers, masked where they are absent, or floats with NaN."""
    column, kind = table[field.name].combine_chunks(), field.type
    absent = np.asarray(column.is_null())
    if pa.types.is_floating(kind):
        values = column.to_numpy(zero_copy_only=False)
        return Column(values.astype("f8" if values.dtype.itemsize == 8 else "f4"))
    if pa.types.is_boolean(kind):
        return MaskedColumn(np.asarray(column.fill_null(False), dtype=bool), mask=absent)
    if pa.types.is_integer(kind):
        values = np.asarray(column.fill_null(0))
        if values.dtype.kind == "i" and values.dtype.itemsize > 1:
            return MaskedColumn(values, mask=absent)
        if not len(values) or values.max() <= np.iinfo(np.int64).max:  # FITS and VOTable have no unsigned long ones
            return MaskedColumn(values.astype(np.int64), mask=absent)
    texts = [str(value) if value is not None else "" for value in column.to_pylist()]
    return MaskedColumn(texts, mask=absent, dtype=str)


# Suffix -> writer of a table, which has its classes and its provenance in the schema.
WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".csv": _write_csv,
    ".fits": _write_fits,
    ".vot": _write_votable,
    ".ecsv": _write_ecsv,
}
FORMATS = (".parquet", *WRITERS)


def check_suffix(path: Path) -> None:
    """Raises SkyclassError where predictions cannot be written under this name."""
    if path.is_dir() or path.suffix.lower() not in FORMATS:
        what = "predictions are a file, whose suffix says its format"
        raise SkyclassError(what, where=path, fix=f"end its name in {', '.join(FORMATS)}")
