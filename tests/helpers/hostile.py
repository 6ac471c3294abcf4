"""Files that broke a reader once, made anew: the corpus of past failures. Use it as `from hostile import FITS_FILES`.

Each entry says what is in the file; what it did is in the message of the commit that mended it.
"""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.io import fits

from helpers.make_data import random_pixels

SIZE = (32, 48)
HEADER = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CDELT1": -0.01,
    "CDELT2": 0.01,
    "CRVAL1": 10.0,
    "CRVAL2": 2.0,
    "CRPIX1": 24.0,
    "CRPIX2": 16.0,
}


def card(key: str, value: str) -> bytes:
    """A card whose value stands where FITS has numbers."""
    return f"{key:8}= {value:>20}".ljust(80).encode()


def with_card(data: bytes, key: str, value: str) -> bytes:
    """The file with the first card of a key replaced, or added before the first END."""
    for start in range(0, len(data), 80):
        name = data[start : start + 8].rstrip()
        if name == key.encode():
            return data[:start] + card(key, value) + data[start + 80 :]
        if name == b"END":
            return data[:start] + card(key, value) + data[start : start + 80] + data[start + 160 :]
    raise AssertionError(f"no {key} and no END")


def fits_file(*hdus: Any) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


def compressed(kind: str, dtype: str = "int16", tile: tuple[int, int] = (16, 16)) -> bytes:
    """A FITS file of one compressed image with coordinates."""
    pixels = random_pixels(0, SIZE, 1, dtype)[0]
    if kind == "PLIO_1":  # which is for masks: astropy's own encoder writes past its buffer where there is noise
        pixels = np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1])).astype(dtype) // 8 % 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        image = fits.CompImageHDU(pixels, fits.Header(HEADER), compression_type=kind, tile_shape=tile)
    return fits_file(fits.PrimaryHDU(), image)


def after(data: bytes, *cards: tuple[str, str]) -> bytes:
    """The file with cards of its first extension replaced."""
    place = data.index(b"XTENSION")
    head, rest = data[:place], data[place:]
    for key, value in cards:
        rest = with_card(rest, key, value)
    return head + rest


def plain() -> bytes:
    bands = [fits.ImageHDU(random_pixels(i, SIZE, 1, "int16")[0], fits.Header(HEADER), name="gr"[i]) for i in range(2)]
    return fits_file(fits.PrimaryHDU(), *bands)


FITS_FILES: dict[str, Callable[[], bytes]] = {
    "hcompress_small_tiles": lambda: after(compressed("HCOMPRESS_1"), ("ZTILE2", "2")),
    "naxis_huge": lambda: with_card(fits_file(fits.PrimaryHDU(np.zeros(SIZE, ">f4"))), "NAXIS", "999999999"),
    "gcount_negative": lambda: after(plain(), ("GCOUNT", "-1")),
    "tfields_huge": lambda: after(compressed("RICE_1"), ("TFIELDS", "9223372036854775807")),
    "znaxis_huge": lambda: after(compressed("RICE_1"), ("ZNAXIS", "999999999")),
    "zbitpix_odd": lambda: after(compressed("RICE_1"), ("ZBITPIX", "1")),
}


def hcompress_of_other_size() -> bytes:
    """An HCOMPRESS image whose tiles are larger than its header, which agrees with itself, says."""
    small = compressed("HCOMPRESS_1", tile=(32, 48))
    return after(small, ("ZNAXIS1", "4"), ("ZNAXIS2", "4"), ("ZTILE1", "4"), ("ZTILE2", "4"))


def frame(path: Path, data: bytes) -> Path:
    """Write a FITS file, gzipped where its name says so."""
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def hdf5_of_another_file(path: Path, secret: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (2, *SIZE), "u1", external=[(str(secret), 0, 2 * SIZE[0] * SIZE[1])])
    return path


STREAM = (
    '<?xml version="1.0" encoding="{encoding}"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
    '<RESOURCE><TABLE><FIELD name="id" datatype="char" arraysize="3"/>'
    '<DATA><BINARY><STREAM type="{type}" href="file:///etc/hostname"/></BINARY></DATA></TABLE></RESOURCE></VOTABLE>'
)


def stream_elsewhere(encoding: str = "utf-8", kind: str = "&gt;") -> bytes:
    return STREAM.format(encoding=encoding, type=kind).encode(encoding)


ALIASES = "a: &a {k1: 1, k2: 2}\nm0: &m0 {p: *a, q: *a}\n" + "".join(
    f"m{i}: &m{i} {{p: *m{i - 1}, q: *m{i - 1}}}\n" for i in range(1, 27)
)
