"""`skyclass recipes`: list, show, copy and check recipes, and print their JSON schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..core.console import shown_messages
from ..core.errors import SkyclassError
from ..core.files.atomic_files import write_text
from ..recipes.recipe import dump_recipe, json_schema, load_recipe, recipe_path, shipped_recipes


@shown_messages()
def list_recipes() -> dict[str, str]:
    """Name -> the question that each shipped recipe answers."""
    return {name: load_recipe(path).about.question for name, path in shipped_recipes().items()}


@shown_messages()
def show(recipe: str | Path, *, overrides: Sequence[str] = (), resolved: bool = False) -> str:
    """The text of a recipe; `resolved` (or any override) gives it with every default written out."""
    if resolved or overrides:
        return dump_recipe(load_recipe(recipe, overrides))
    return recipe_path(recipe).read_text(encoding="utf-8")


def copy(recipe: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Copy a recipe to a file of one's own. Errors: SkyclassError where that file exists already."""
    out = Path(out)
    if out.exists() and not overwrite:
        raise SkyclassError("the file exists", where=out, fix="add --overwrite, or name another")
    write_text(out, recipe_path(recipe).read_text(encoding="utf-8"))
    return out


@shown_messages()
def check(recipe: str | Path, *, overrides: Sequence[str] = ()) -> str:
    """The name of the recipe if it is valid. Errors: SkyclassError with the line of the first fault."""
    return load_recipe(recipe, overrides).name


def schema() -> str:
    """The JSON schema of recipes, for editors."""
    return json.dumps(json_schema(), indent=2)
