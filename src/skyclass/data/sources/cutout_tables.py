"""Cutouts: positions of a table in large FITS mosaics become a catalog of addresses. No mosaic is read here."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import SkyclassError
from ...images.formats.locations import Cutout
from ..catalog import ODDITY, Found
from ..source_options import SourceOptions
from ..tables.columns import SKY, degrees, is_read
from ..tables.table_files import FITS_SUFFIXES
from .rows import checked_rows
from .tables import find_files, read_named

logger = logging.getLogger(__name__)

FRAME_SUFFIXES = (*FITS_SUFFIXES, ".fits.fz")

# What the columns of a position in the mosaic may be called, in small letters, the likeliest first.
_PIXELS = (("x", "y"), ("xcentroid", "ycentroid"), ("xcen", "ycen"))
_FROM_ONE = (("x_image", "y_image"), ("xwin_image", "ywin_image"))  # SExtractor counts pixels from 1


def read_cutouts(path: Path, options: SourceOptions) -> Found:
    """A table of positions, each of which is one cutout of `options.cutout` pixels.

    The mosaic is `options.image_root`, or named row by row in the column of files. Positions are `ra` and `dec`
    (degrees), else `x` and `y` (pixels, from 0), else SExtractor's `x_image` and `y_image` (pixels, from 1).

    Errors: SkyclassError where there are no positions or no mosaics.
    """
    if options.cutout is None or not all(0 < side <= 2**14 for side in options.cutout):
        raise SkyclassError(
            f"no size of cutouts: {options.cutout}", where=path, fix="give a height and width in pixels"
        )
    frame = read_named(path, options, places=False)
    if options.image_root is not None and options.image_root.is_file() and "file" in frame.columns:
        frame = frame.rename(columns={"file": "table_file"})  # the one mosaic counts
    names, files = _mosaics(frame, path, options.image_root)
    x, y, on_sky = _positions(frame, path)
    faults = {}
    for row in np.flatnonzero(~(np.isfinite(x) & np.isfinite(y))):
        faults[int(row)] = f"row {row} has no position"
    if on_sky:
        with np.errstate(invalid="ignore"):
            off = (np.abs(y) > 90) | (x < -180) | (x > 360)
        faults |= {int(row): f"no place on the sky: {x[row]:g}, {y[row]:g}" for row in np.flatnonzero(off)}
    if ODDITY in frame.columns:  # says which value it is
        faults |= {row: text for row, text in frame[ODDITY].dropna().items() if row in faults}
    if "image_id" not in frame.columns:
        frame["image_id"] = [str(row) for row in range(len(frame))]
    addresses = [
        None
        if file is None
        else file
        if row in faults
        else str(Cutout(Path(file), float(x[row]), float(y[row]), options.cutout, on_sky))
        for row, file in enumerate(files)
    ]
    frame["file"] = pd.Series(addresses, dtype=object)
    fix = "give positions in ra and dec (degrees) or x and y (pixels), and mosaics that exist"
    return checked_rows(frame, path, sought=names, faults=faults, fix=fix)


def _mosaics(frame: pd.DataFrame, path: Path, image_root: Path | None) -> tuple[list[str | None], list[str | None]]:
    """Each row's mosaic as it was sought, and as it was found (or None).

    Errors: SkyclassError where rows name no mosaics and there is not one for all.
    """
    if image_root is not None and image_root.is_file():
        if not image_root.name.lower().endswith(FRAME_SUFFIXES):
            fix = f"cutouts are made of {', '.join(FRAME_SUFFIXES)}"
            raise SkyclassError("not a FITS mosaic by its suffix", where=image_root, fix=fix)
        one: list[str | None] = [str(image_root.absolute())] * len(frame)
        return one, one
    if "file" not in frame.columns:
        what = "cutouts of which mosaic? no column of files was recognised"
        fix = "name the one FITS mosaic (--image-root FILE) or the column of mosaics (--file-column)"
        raise SkyclassError(what, where=path, fix=fix)
    names = frame["file"].tolist()
    root, files = find_files(names, path, image_root)
    return [str(root / name) if name else None for name in names], files


def _positions(frame: pd.DataFrame, path: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    """x and y (float64) of each row, and whether they are RA and Dec.

    Errors: SkyclassError where there are no columns of positions, or they hold no numbers.
    """
    spelling = {str(name).lower(): str(name) for name in reversed(frame.columns)}
    for pair, kind in ((p, k) for k, pairs in (("sky", SKY), ("0", _PIXELS), ("1", _FROM_ONE)) for p in pairs):
        if not all(name in spelling for name in pair):
            continue
        one, other = (spelling[name] for name in pair)
        what = {"sky": "degrees", "0": "pixels counted from 0", "1": "pixels counted from 1"}[kind]
        logger.info(f"{path.name}: positions from columns {one!r} and {other!r}, {what}")
        if kind == "sky":
            for name, part in zip(pair, ("ra", "dec"), strict=True):
                column = frame[spelling[name]]
                frame[part], bad = degrees(column, part)
                if not is_read(frame[part], bad):
                    what = f"column {column.name!r} is not one of degrees: {bad.iloc[0]!r}"
                    raise SkyclassError(what, where=path, fix="write degrees or hh:mm:ss, or rename the column")
            return frame["ra"].to_numpy(), frame["dec"].to_numpy(), True
        shift = 1.0 if kind == "1" else 0.0
        return _pixels(frame[one], path) - shift, _pixels(frame[other], path) - shift, False
    have = ", ".join(map(str, frame.columns))
    raise SkyclassError("no columns of positions", where=path, fix=f"call them ra and dec, or x and y; it has {have}")


def _pixels(column: pd.Series, path: Path) -> np.ndarray:
    """Numbers, NaN where a value is none.

    Errors: SkyclassError where (nearly) none is.
    """
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    bad = column[numbers.isna() & column.notna()]
    if not is_read(numbers, bad):
        what = f"column {column.name!r} is not one of pixel positions: {bad.iloc[0]!r}"
        raise SkyclassError(what, where=path, fix="write numbers, or rename the column")
    return numbers.to_numpy()
