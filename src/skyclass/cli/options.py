"""The options that several commands of `skyclass` share, each with its one description."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.arguments import check_device_name
from ..core.errors import SkyclassError
from ..data.simulation.simulators import SIMULATORS
from ..data.source_options import SourceOptions
from ..data.split_names import split_of

SimulatorName = StrEnum("SimulatorName", {name: name for name in SIMULATORS})  # type: ignore[misc]
USUAL_SIZES = ", ".join(f"{name}: {one.size}" for name, one in SIMULATORS.items())


class Form(StrEnum):
    """How simulated images are stored."""

    pack = "pack"
    folders = "folders"


class PackForm(StrEnum):
    """How decoded images are stored."""

    pack = "pack"
    npz = "npz"


SourceArgument = Annotated[
    str, typer.Argument(help="class folders, a table, arrays (NPZ, NPY, HDF5), Parquet of images, a pack or an image")
]
Splits = Annotated[str, typer.Option(help="shares of train, val and test")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting of the recipe")]
Check = Annotated[bool, typer.Option("--check", help="first compare every byte of packs and runs with their hashes")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", callback=check_device_name)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there")]
RecipeArgument = Annotated[str, typer.Argument(help="a recipe file, or the name of a shipped one")]


_PANEL = "How the source is read"

# The options of a source: name -> its type and description at the command line.
SOURCE_OPTIONS: dict[str, Any] = {
    "image_root": Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_PANEL,
            help="folder that a table's file names are relative to, or the stack or FITS mosaic of its images",
        ),
    ],
    "id_column": Annotated[str | None, typer.Option(rich_help_panel=_PANEL, help="the table's column of image ids")],
    "file_column": Annotated[str | None, typer.Option(rich_help_panel=_PANEL, help="the table's column of files")],
    "label_column": Annotated[str | None, typer.Option(rich_help_panel=_PANEL, help="the table's column of labels")],
    "split_column": Annotated[
        str | None, typer.Option(rich_help_panel=_PANEL, help="the table's column of train, val, test")
    ],
    "group_column": Annotated[
        str | None, typer.Option(rich_help_panel=_PANEL, help="the table's column of groups that no split may part")
    ],
    "band_files": Annotated[
        str | None,
        typer.Option(rich_help_panel=_PANEL, metavar="PATTERN", help="one file a band, named as in {id}_{band}.fits"),
    ],
    "cutout": Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL, metavar="SIZE", help="cut 64 or 48x64 (height x width) pixels about ra, dec or x, y"
        ),
    ],
    "folders": Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="LAYOUT",
            help="what the folders above the images mean, as in {label}, {split}/{label}, {group}/{label} or */{label}",
        ),
    ],
    "split_names": Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="NAME=SPLIT,...",
            help="what folders or values of the split column are called, as in night1=train,night2=test",
        ),
    ],
    "votes": Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_PANEL,
            metavar="KEY=VALUE",
            help="labels of vote fractions, as in keep=3, threshold=0.6, classes.smooth=...",
        ),
    ],
    "class_names": Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_PANEL, metavar="NAME,NAME", help="names of the classes that the source numbers from 0"
        ),
    ],
}


def reads_a_source(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a source; it gets them as one argument called `options`."""
    own = inspect.signature(command, eval_str=True)
    parameters = [parameter for parameter in own.parameters.values() if parameter.name != "options"]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind)
        for name, kind in SOURCE_OPTIONS.items()
    ]

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        given = {name: values.pop(name) for name in SOURCE_OPTIONS}
        given["cutout"] = given["cutout"] and size_of(given["cutout"])
        given["split_names"] = splits_of(given["split_names"] or "")
        given["votes"] = tuple(given["votes"] or ())
        given["class_names"] = tuple(name.strip() for name in (given["class_names"] or "").split(",") if name.strip())
        command(**values, options=SourceOptions(**given))

    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def size_of(text: str) -> tuple[int, int]:
    """`64` or `48x64` as (height, width)."""
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


def shares_of(text: str) -> list[float]:
    """`0.7,0.1,0.2` as three numbers."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 3:
        raise SkyclassError(f"{text!r} is not three shares", where="--splits", fix="as in --splits 0.7,0.1,0.2")
    return shares
