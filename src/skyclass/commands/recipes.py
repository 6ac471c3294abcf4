"""`skyclass recipes`: list, show, copy and check recipes, and print their JSON schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.console import shown_messages
from ..core.errors import SkyclassError
from .options.shared import Overrides, Overwrite, RecipeArgument


@shown_messages()
def list_recipes() -> dict[str, str]:
    """List the shipped recipes and the question each answers.

    Returns
    -------
    dict
        Name -> question.
    """
    from ..recipes.recipe import load_recipe, shipped_recipes

    return {name: load_recipe(path).about.question for name, path in shipped_recipes().items()}


@shown_messages()
def show(
    recipe: RecipeArgument,
    *,
    overrides: Overrides = (),
    resolved: Annotated[bool, typer.Option("--resolved", help="write every default out")] = False,
) -> str:
    """Print a recipe.

    Parameters
    ----------
    recipe : str or Path
        A recipe file, or the name of a shipped one.
    overrides : sequence of str
        KEY.KEY=VALUE changes of the recipe; with any, every default is written out.
    resolved : bool
        Whether to write every default out.

    Returns
    -------
    str
        The text of the recipe.
    """
    from ..recipes.recipe import dump_recipe, load_recipe, recipe_path

    if resolved or overrides:
        return dump_recipe(load_recipe(recipe, overrides))
    return recipe_path(recipe).read_text(encoding="utf-8")


def copy(
    recipe: RecipeArgument,
    out: Annotated[Path | str, typer.Argument(help="the new file")],
    *,
    overwrite: Overwrite = False,
) -> Path:
    """Copy a recipe to a file of your own.

    Parameters
    ----------
    recipe : str or Path
        A recipe file, or the name of a shipped one.
    out : str or Path
        The new file.
    overwrite : bool
        Whether to replace what is there.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    SkyclassError
        Where that file exists already.
    """
    from ..core.files.atomic_files import write_text
    from ..recipes.recipe import recipe_path

    out = Path(out)
    if out.exists() and not overwrite:
        raise SkyclassError("the file exists", where=out, fix="add --overwrite, or name another")
    write_text(out, recipe_path(recipe).read_text(encoding="utf-8"))
    return out


@shown_messages()
def check(recipe: RecipeArgument, *, overrides: Overrides = ()) -> str:
    """Check a recipe, and name the first fault with its line.

    Parameters
    ----------
    recipe : str or Path
        A recipe file, or the name of a shipped one.
    overrides : sequence of str
        KEY.KEY=VALUE changes of the recipe.

    Returns
    -------
    str
        The name of the recipe.

    Raises
    ------
    SkyclassError
        For the first fault, with its line.
    """
    from ..recipes.recipe import load_recipe

    return load_recipe(recipe, overrides).name


def schema() -> str:
    """Print the JSON schema of recipes, for editors.

    Returns
    -------
    str
        The schema.
    """
    import json

    from ..recipes.recipe import json_schema

    return json.dumps(json_schema(), indent=2)
