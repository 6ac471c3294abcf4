"""The options that several commands of `skyclass` share, each with its one description."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """What can be simulated."""

    lensing = "lensing"
    galaxies = "galaxies"


class Form(StrEnum):
    """How simulated images are stored."""

    pack = "pack"
    folders = "folders"


Source = Annotated[str, typer.Argument(help="class folders, a table (CSV, TSV, Parquet), a pack or an image")]
ImageRoot = Annotated[Path | None, typer.Option(help="folder that a table's file names are relative to")]
IdColumn = Annotated[str | None, typer.Option(help="the table's column of image ids")]
FileColumn = Annotated[str | None, typer.Option(help="the table's column of files")]
LabelColumn = Annotated[str | None, typer.Option(help="the table's column of labels")]
SplitColumn = Annotated[str | None, typer.Option(help="the table's column of train, val, test")]
GroupColumn = Annotated[str | None, typer.Option(help="the table's column of groups that no split may part")]
Splits = Annotated[str, typer.Option(help="shares of train, val and test")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting of the recipe")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there")]
Recipe = Annotated[str, typer.Argument(help="a recipe file, or the name of a shipped one")]


def shares_of(text: str) -> list[float]:
    """`0.7,0.1,0.2` as three numbers."""
    from .errors import SkyclassError

    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 3:
        raise SkyclassError(f"{text!r} is not three shares", where="--splits", fix="as in --splits 0.7,0.1,0.2")
    return shares
