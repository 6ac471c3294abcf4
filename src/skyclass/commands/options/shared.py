"""The options that several commands share, each with its one description."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ...core.arguments import check_device_name
from ...core.errors import SkyclassError
from .written import Written


def shares_of(text: str) -> list[float]:
    """`0.7,0.1,0.2` as three numbers."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 3:
        raise SkyclassError(f"{text!r} is not three shares", where="--splits", fix="as in --splits 0.7,0.1,0.2")
    return shares


ClassifierArgument = Annotated[Path | str, typer.Argument(help="a run or a classifier's folder")]
RecipeArgument = Annotated[str | Path, typer.Argument(help="a recipe file, or the name of a shipped one")]
PackArgument = Annotated[Path | str, typer.Argument(help="the pack to train on")]
Splits = Annotated[Sequence[float], typer.Option(help="shares of train, val and test"), Written(str, shares_of)]
Overrides = Annotated[Sequence[str], typer.Option("--set", metavar="KEY=VALUE", help="change a setting of the recipe")]
Check = Annotated[bool, typer.Option("--check", help="first compare every byte of packs and runs with their hashes")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", callback=check_device_name)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there")]
