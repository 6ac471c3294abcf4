"""The commands `skyclass recipes ...`. Heavy imports happen inside the functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import Overwrite, RecipeArgument, Set

recipes_app = typer.Typer(help="List, show, copy and check recipes.", no_args_is_help=True)


@recipes_app.command("list")
def recipes_list() -> None:
    """List the shipped recipes and the question each answers."""
    import shutil
    import textwrap

    from ..commands import recipes

    for name, question in recipes.list_recipes().items():
        line = f"{name:20} {question}"
        width = max(40, shutil.get_terminal_size().columns)
        if sys.stdout.isatty():
            line = textwrap.fill(line, width, subsequent_indent=" " * 21, break_on_hyphens=False)
        typer.echo(line)


@recipes_app.command("show")
def recipes_show(
    recipe: RecipeArgument,
    set_: Set = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="write every default out")] = False,
) -> None:
    """Print a recipe."""
    from ..commands import recipes

    typer.echo(recipes.show(recipe, overrides=set_ or (), resolved=resolved), nl=False)


@recipes_app.command("copy")
def recipes_copy(
    recipe: RecipeArgument, out: Annotated[Path, typer.Argument(help="the new file")], overwrite: Overwrite = False
) -> None:
    """Copy a recipe to a file of your own."""
    from ..commands import recipes

    typer.echo(recipes.copy(recipe, out, overwrite=overwrite))


@recipes_app.command("check")
def recipes_check(recipe: RecipeArgument, set_: Set = None) -> None:
    """Check a recipe, and name the first fault with its line."""
    from ..commands import recipes

    typer.echo(f"{recipes.check(recipe, overrides=set_ or ())}: valid")


@recipes_app.command("schema")
def recipes_schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from ..commands import recipes

    typer.echo(recipes.schema())
