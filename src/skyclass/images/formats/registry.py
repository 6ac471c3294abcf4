"""The table of the file formats that are read, FORMATS: first bytes, suffixes, decoders.

Decoders are named here and imported when the first file of their format is met.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .array_files import Stack
    from .arrays import Image
    from .parquet import ParquetImages


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file.

    Parameters
    ----------
    words : what people call it
    begins : its first bytes, of which at most HEAD are looked at; no file begins as two formats do
    suffixes : of files of one image
    other_suffixes : which also name the format, but by which no images are looked for
    rank : of several files that differ in the suffix alone, the one of the lowest rank counts
    decoder : `module:function` of this package, which makes an image of a file's bytes; empty where a file of the
        format is never one image
    opener : `module:function`, which opens a file of many images by its path; empty where there is none
    stack_suffixes : of files that may hold arrays of many images
    is_picture : whether it may have palettes, print colours and transparency, and Pillow knows it by its name
    """

    words: str
    begins: re.Pattern[bytes]
    suffixes: tuple[str, ...] = ()
    other_suffixes: tuple[str, ...] = ()
    rank: int = 0
    decoder: str = ""
    opener: str = ""
    stack_suffixes: tuple[str, ...] = ()
    is_picture: bool = False

    @cached_property
    def decode(self) -> Callable[[bytes], Image]:
        """The decoder."""
        decode: Callable[[bytes], Image] = resolve_name(f"{__package__}.{self.decoder}")
        return decode

    @cached_property
    def open(self) -> Callable[[Path], Stack | ParquetImages]:
        """The opener."""
        opener: Callable[[Path], Stack | ParquetImages] = resolve_name(f"{__package__}.{self.opener}")
        return opener


def _bytes(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


HEAD = 16  # bytes

FORMATS: dict[str, Format] = {
    "jpeg": Format(
        words="JPEG",
        begins=_bytes(rb"\xff\xd8\xff"),
        suffixes=(".jpg", ".jpeg"),
        other_suffixes=(".jpe", ".jfif"),
        decoder="raster:decode_common",
        is_picture=True,
    ),
    "png": Format(
        words="PNG",
        begins=_bytes(rb"\x89PNG\r\n\x1a\n"),
        suffixes=(".png",),
        decoder="raster:decode_png",
        is_picture=True,
    ),
    "tiff": Format(
        words="TIFF",
        begins=_bytes(rb"II[*+]\0|MM\0[*+]"),
        suffixes=(".tif", ".tiff"),
        rank=1,
        decoder="raster:decode_tiff",
        is_picture=True,
    ),
    "webp": Format(
        words="WebP",
        begins=_bytes(rb"RIFF.{4}WEBP"),
        suffixes=(".webp",),
        decoder="raster:decode_webp",
        is_picture=True,
    ),
    "gif": Format(
        words="GIF",
        begins=_bytes(rb"GIF8"),
        suffixes=(".gif",),
        decoder="raster:decode_common",
        is_picture=True,
    ),
    "fits": Format(
        words="FITS",
        begins=_bytes(rb"SIMPLE  ="),
        suffixes=(".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz", ".fits.fz"),
        rank=3,
        decoder="fits.images:read_fits",
    ),
    "npy": Format(
        words="NPY",
        begins=_bytes(rb"\x93NUMPY"),
        suffixes=(".npy",),
        rank=2,
        decoder="raster:decode_npy",
        opener="array_files:open_npy",
        stack_suffixes=(".npy",),
    ),
    "npz": Format(
        words="NPZ",
        begins=_bytes(rb"PK\x03\x04"),
        suffixes=(".npz",),
        rank=2,
        decoder="raster:decode_npz",
        opener="array_files:open_npz",
        stack_suffixes=(".npz",),
    ),
    "hdf5": Format(
        words="HDF5",
        begins=_bytes(rb"\x89HDF\r\n\x1a\n"),
        opener="array_files:open_hdf5",
        stack_suffixes=(".h5", ".hdf5"),
    ),
    "parquet": Format(words="Parquet", begins=_bytes(rb"PAR1"), opener="parquet:ParquetImages"),
}

IMAGE_SUFFIXES = tuple(
    suffix for format_ in sorted(FORMATS.values(), key=lambda one: one.rank) for suffix in format_.suffixes
)
STACK_SUFFIXES = tuple(suffix for format_ in FORMATS.values() for suffix in format_.stack_suffixes)


def format_of(head: bytes) -> str | None:
    """The name of the format that begins as `head` does, HEAD bytes of a file or more; None where there is none."""
    return next((name for name, format_ in FORMATS.items() if format_.begins.match(head)), None)
