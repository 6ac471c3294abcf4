"""The source that a command reads, and the options that say how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.errors import SkyclassError
from ...data.source_options import SourceOptions
from ...data.split_names import split_of
from .written import Several, Written, names_in


def _option(text: str, metavar: str | None = None) -> Any:
    """An option in the panel of the source's options."""
    return typer.Option(rich_help_panel="How the source is read", metavar=metavar, help=text)


def size_of(text: str) -> tuple[int, int] | None:
    """`64` or `48x64` as (height, width); None for an empty text."""
    if not text:
        return None
    height, _, width = text.partition("x")
    try:
        size = (int(height), int(width or height))
    except ValueError:
        size = (0, 0)
    if min(size) < 1:
        raise SkyclassError(f"{text!r} is no size", where="--cutout", fix="as in --cutout 64 or --cutout 48x64")
    return size


def splits_of(text: str) -> dict[str, str]:
    """`night1=train,night2=test` as name -> split."""
    pairs = [part.rpartition("=") for part in text.split(",") if part.strip()]
    names = {name.strip(): split_of(split) for name, _, split in pairs}
    if not all(name and split for name, split in names.items()):
        fix = "as in --split-names night1=train,night2=test; the splits are train, val, test"
        raise SkyclassError(f"{text!r} names no splits", where="--split-names", fix=fix)
    return {name: split for name, split in names.items() if split}


# The options of a source: field of SourceOptions -> its type and its option.
SOURCE_OPTIONS: dict[str, Any] = {
    "image_root": Annotated[
        Path | None,
        _option("folder that a table's file names are relative to, or the stack or FITS mosaic of its images"),
    ],
    "id_column": Annotated[str | None, _option("the table's column of image ids")],
    "file_column": Annotated[str | None, _option("the table's column of files")],
    "label_column": Annotated[str | None, _option("the table's column of labels")],
    "split_column": Annotated[str | None, _option("the table's column of train, val, test")],
    "group_column": Annotated[str | None, _option("the table's column of groups that no split may part")],
    "band_files": Annotated[str | None, _option("one file a band, named as in {id}_{band}.fits", "PATTERN")],
    "cutout": Annotated[
        tuple[int, int] | None,
        _option("cut 64 or 48x64 (height x width) pixels about ra, dec or x, y", "SIZE"),
        Written(str, size_of),
    ],
    "folders": Annotated[
        str | None,
        _option(
            "what the folders above the images mean, as in {label}, {split}/{label}, {group}/{label} or */{label}",
            "LAYOUT",
        ),
    ],
    "split_names": Annotated[
        Mapping[str, str],
        _option(
            "what folders or values of the split column are called, as in night1=train,night2=test", "NAME=SPLIT,..."
        ),
        Written(str, splits_of),
    ],
    "votes": Annotated[
        tuple[str, ...],
        _option("labels of vote fractions, as in keep=3, threshold=0.6, classes.smooth=...", "KEY=VALUE"),
        Written(list[str], tuple),
    ],
    "class_names": Annotated[
        tuple[str, ...],
        _option("names of the classes that the source numbers from 0", "NAME,NAME"),
        Written(str, names_in),
    ],
}

SourceArgument = Annotated[
    str | Path,
    typer.Argument(help="class folders, a table, arrays (NPZ, NPY, HDF5), Parquet of images, a pack or an image"),
]
HowRead = Annotated[SourceOptions, Several(SOURCE_OPTIONS)]
