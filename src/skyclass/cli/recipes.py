"""The commands `skyclass recipes ...`, and how their results are printed."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from .signatures import FunctionCommand


def print_list(questions: Mapping[str, str]) -> None:
    """A line a recipe, folded to the width of a terminal."""
    for name, question in questions.items():
        line = f"{name:20} {question}"
        width = max(40, shutil.get_terminal_size().columns)
        if sys.stdout.isatty():
            line = textwrap.fill(line, width, subsequent_indent=" " * 21, break_on_hyphens=False)
        typer.echo(line)


class RecipesCommand(NamedTuple):
    """A function of `commands.recipes`, the first line of its docstring, and what prints its result."""

    function: str
    summary: str
    show: Callable[[Any], None]


RECIPES_COMMANDS = {
    "list": RecipesCommand("list_recipes", "List the shipped recipes and the question each answers.", print_list),
    "show": RecipesCommand("show", "Print a recipe.", lambda text: typer.echo(text, nl=False)),
    "copy": RecipesCommand("copy", "Copy a recipe to a file of your own.", typer.echo),
    "check": RecipesCommand(
        "check", "Check a recipe, and name the first fault with its line.", lambda name: typer.echo(f"{name}: valid")
    ),
    "schema": RecipesCommand("schema", "Print the JSON schema of recipes, for editors.", typer.echo),
}

recipes_group = TyperGroup(name="recipes", help="List, show, copy and check recipes.", no_args_is_help=True)
for name, one in RECIPES_COMMANDS.items():
    recipes_group.add_command(FunctionCommand(name, f"recipes:{one.function}", one.summary, one.show))
