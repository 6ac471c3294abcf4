"""Files of tables: CSV, TSV, ECSV, Parquet, FITS binary tables and VOTables become data frames.

Units are dropped, but for those of the coordinates `ra` and `dec`, which become degrees. What cannot be read raises a
SkyclassError naming the file; a damaged file never runs code, reads another file or takes more memory than it is worth.
"""

from __future__ import annotations

import gzip
import io
import logging
import re
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits, votable
from astropy.table import Column, MaskedColumn, Table

from ...core.errors import SkyclassError, one_line
from ...core.limits import MAX_TABLE
from ...images.formats.fits.cards import check_cards
from ...images.formats.open_files import plain_fits
from .columns import SKY
from .csv_reader import read_separated
from .votable_checks import check_votable

logger = logging.getLogger(__name__)

FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz")

# Integers that floating-point numbers, in which pandas marks what is absent, cannot hold.
_EXACT = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}

_ON_THE_SKY = frozenset(name for pair in SKY for name in pair)
_SAID = ("SKYCLASS", "skyclass", "description")
_MEND = "open and mend it"


def table_suffix(path: str | Path) -> str | None:
    """The suffix by which a file is a table, or None; FITS files are tables by their content, not by this."""
    name = str(path).lower()
    return next((suffix for suffix in TABLE_READERS if name.endswith(suffix)), None)


def is_fits_table(path: Path) -> bool:
    """Whether a FITS file holds a table and no image; False where it cannot be read."""
    if not path.name.lower().endswith(FITS_SUFFIXES):
        return False
    try:
        with plain_fits(path) as stream:
            check_cards(stream)
            return _has_table_alone(stream)
    except (SkyclassError, OSError, EOFError, zlib.error):
        return False


def _has_table_alone(stream: IO[bytes]) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers of old are full of what the standard has no room for
            hdus = fits.open(stream)
            images = any(hdu.is_image and len(hdu.shape) >= 2 for hdu in hdus)
            return not images and any(isinstance(hdu, fits.BinTableHDU | fits.TableHDU) for hdu in hdus)
    except Exception:  # a damaged file makes astropy raise anything; as an image it is refused by name
        return False


def read_rows(path: Path, text_columns: frozenset[str]) -> pd.DataFrame:
    """All rows of a table, its column names stripped; `text_columns` (`columns.plain`) stay text where files allow it.

    Errors: SkyclassError for a table that is damaged, empty, or larger than can be read.
    """
    reader = TABLE_READERS[table_suffix(path) or ""] if table_suffix(path) else _read_fits
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy warns of every unit and name that a standard does not know
            table = reader(path, text_columns)
    except SkyclassError as refusal:
        raise SkyclassError(refusal.what, where=path, fix=refusal.fix) from None
    except UnicodeDecodeError:
        raise SkyclassError(
            "unreadable table (its text is not UTF-8)", where=path, fix="save it again as UTF-8"
        ) from None
    except MemoryError:
        raise SkyclassError("the table needs more memory than there is", where=path, fix="cut it up") from None
    except Exception as error:  # a damaged file makes a reader raise anything
        what = f"unreadable table ({one_line(error)[:200].rstrip('.')})"
        raise SkyclassError(what, where=path, fix=_MEND) from None
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise SkyclassError(f"two columns are called {repeated[0]!r}", where=path, fix="rename one of them")
    if table.empty:
        raise SkyclassError("the table has no rows", where=path, fix="give a table with one row an image")
    return table.reset_index(drop=True)


def _read_parquet(path: Path, text_columns: frozenset[str]) -> pd.DataFrame:
    table = pq.read_table(path)
    table.validate(full=True)  # else text that is no UTF-8 raises later, where it is read
    frame = as_frame(table)
    return frame.drop(columns=[name for name in frame.columns if re.fullmatch("__index_level_[0-9]+__", name)])


def as_frame(table: pa.Table) -> pd.DataFrame:
    """Arrow's table as pandas's: bytes that are text as text, and long integers exact even beside an empty cell."""
    for i, field in enumerate(table.schema):
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            with suppress(pa.ArrowInvalid):  # bytes that are no text
                table = table.set_column(i, field.name, table.column(i).cast(pa.string()))
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for i, field in enumerate(table.schema):
        if field.type in _EXACT and table.column(i).null_count:
            frame.isetitem(i, table.column(i).to_pandas(types_mapper=_EXACT.get))
    return frame


def _read_ecsv(path: Path, text_columns: frozenset[str]) -> pd.DataFrame:
    table = Table.read(path, format="ascii.ecsv")
    for name in table.colnames:  # positions may come as one column of astropy's SkyCoord
        if type(table[name]).__name__ == "SkyCoord" and not {"ra", "dec"} & set(table.colnames):
            table["ra"], table["dec"] = table[name].icrs.ra.deg, table[name].icrs.dec.deg
            table.remove_column(name)
    return _as_frame(table, path)


def _read_fits(path: Path, text_columns: frozenset[str]) -> pd.DataFrame:
    """The first table of a FITS file."""
    packed = path.name.lower().endswith(".gz")
    data = _unpacked(path) if packed else path.read_bytes()
    check_cards(io.BytesIO(data))
    with fits.open(io.BytesIO(data), memmap=False) as hdus:
        hdu = next(hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU))
        if hdu.fileinfo()["datLoc"] + hdu.size > len(data):
            raise SkyclassError("the file ends early", fix="copy it again from its source")
        return _as_frame(Table.read(hdu), path)


def _read_votable(path: Path, text_columns: frozenset[str]) -> pd.DataFrame:
    """The first table of a VOTable, all of it in the one document."""
    data = _unpacked(path)
    check_votable(data)
    document = votable.parse(io.BytesIO(data), verify="ignore")
    return _as_frame(document.get_first_table().to_table(use_names_over_ids=True), path)


def _unpacked(path: Path) -> bytes:
    """The bytes of a file, of a packed one as unpacked, if they are not too many."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as stream:
        data = stream.read(MAX_TABLE + 1) if packed else stream.read()
    if packed and len(data) > MAX_TABLE:
        raise SkyclassError(f"more than {MAX_TABLE:,} bytes when unpacked", fix="unpack it and give that file")
    return data


def _as_frame(table: Table, path: Path) -> pd.DataFrame:
    """Astropy's table as pandas's: coordinates in degrees, masked values absent, columns of arrays left out."""
    for name in table.colnames:
        if name.strip().lower() in _ON_THE_SKY:
            table[name] = _in_degrees(table[name])
    wide = [name for name in table.colnames if not _is_flat(table[name])]
    if wide:
        logger.warning(f"{path.name}: columns that hold more than one value a row are left out: {', '.join(wide)}")
        table.remove_columns(wide)
    for name in table.colnames:
        if isinstance(table[name], Column) and table[name].dtype.kind == "S":
            table[name] = _decoded(table[name])
    frame: pd.DataFrame = table.to_pandas(index=False)
    # The metadata of a file of predictions (`prediction_formats`).
    frame.attrs["skyclass"] = next((str(table.meta[key]) for key in _SAID if key in table.meta), "")
    return frame


def _decoded(column: Column) -> Column:
    """Bytes as text, which the FITS standard has as ASCII and files have as UTF-8 or Latin-1."""
    values = np.asarray(column)
    try:
        text = np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        text = np.char.decode(values, "latin-1")
    return MaskedColumn(text, mask=getattr(column, "mask", None), name=column.name)


def _is_flat(column: Column) -> bool:
    """Whether every row holds one number or one text."""
    if not isinstance(column, Column):  # a mixin of astropy's, such as Time, which pandas can hold as one column
        return getattr(column, "ndim", 1) == 1 and type(column).__name__ != "SkyCoord"
    values = column if column.dtype.kind != "O" else [value for value in column if value is not np.ma.masked]
    return column.ndim == 1 and (
        column.dtype.kind in "biufSUM" or all(isinstance(value, str | bytes | None) for value in values)
    )


def _in_degrees(column: Column) -> Column:
    """The values in degrees, by the column's unit; text, and columns without a unit, as they are.

    Errors: SkyclassError for a unit that is no angle.
    """
    unit = getattr(column, "unit", None)
    if (
        unit in (None, u.deg)
        or str(unit).strip('"') == ""
        or getattr(column, "dtype", np.dtype("f8")).kind not in "iuf"
    ):
        return column
    if unit == u.hour:  # VizieR's way to write hours of right ascension
        unit = u.hourangle
    try:
        factor = u.Unit(unit).to(u.deg)
    except (u.UnitsError, ValueError, TypeError):
        what = f"column {column.name!r} has the unit {str(unit)!r}, which is no angle"
        raise SkyclassError(what, fix="convert it to degrees or rename it") from None
    values = getattr(column, "value", column)
    return Column(np.ma.filled(np.ma.asarray(values, dtype="f8"), np.nan) * factor, name=column.name)


# Suffix -> reader of a table, given the names of the columns that have to stay text.
TABLE_READERS: dict[str, Callable[[Path, frozenset[str]], pd.DataFrame]] = {
    ".csv": read_separated,
    ".tsv": read_separated,
    ".parquet": _read_parquet,
    ".ecsv": _read_ecsv,
    ".vot": _read_votable,
    ".votable": _read_votable,
    ".xml": _read_votable,
    ".vot.gz": _read_votable,
    ".xml.gz": _read_votable,
}
