"""The command line `skyclass`: its commands are the functions of `commands`, imported when they are called."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from .errors import say_error, show_traceback
from .recipes import recipes_group
from .signatures import FunctionCommand

STOPPED = 130  # the exit status that Typer gives to Ctrl-C

# The commands in the order of `skyclass --help`: the name of the file and of its function in `commands` -> the first
# line of its docstring.
COMMANDS = {
    "simulate": "Simulate gravitational lenses or galaxies, with the truth in the catalog.",
    "fetch": "Download a public data set, with its licence and citation; without a name, list them.",
    "inspect": "Audit a source: classes, sizes, bad images, duplicates and leaks; with --run, likely label errors.",
    "pack": "Decode a source once, into a folder of plain NumPy and Parquet.",
    "train": "Train a classifier by a recipe; --resume continues an interrupted run, or adds epochs to one that has "
    "ended.",
    "tune": "Search the values of a recipe's tune.space for the best ones; a tuning that was stopped goes on where it "
    "was.",
    "predict": "Predict the class of every image of a source.",
    "evaluate": "Evaluate predictions against their labels, with 95 % intervals.",
    "explain": "Draw maps of the evidence for a class, and grade how reliable they are.",
    "compare": "Put runs side by side: cost, scores with intervals, and whether they differ on the same test images.",
    "report": "Write the report of a run as one HTML page.",
    "demo": "Simulate lenses, train, evaluate, explain and report, in one go.",
}


def _version(wanted: bool) -> None:
    if wanted:
        from ..core.version import __version__

        typer.echo(f"skyclass {__version__}")
        raise typer.Exit


def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Astronomical images into trained, calibrated, explained classifiers."""


def command_line() -> TyperGroup:
    """The command line: the group of all commands."""
    typed = typer.Typer(
        callback=_options,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group = typer.main.get_command(typed)
    assert isinstance(group, TyperGroup)
    for name, summary in COMMANDS.items():
        group.add_command(FunctionCommand(name, f"{name}:{name}", summary))
    group.add_command(recipes_group)
    return group


app = command_line()


def main() -> None:
    """Run the command; an error is one sentence and exit status 1, unless --debug is given anywhere."""
    debug = "--debug" in sys.argv
    try:
        # The option is accepted after the command too, where it is added after an error.
        app([word for word in sys.argv[1:] if word != "--debug"], prog_name="skyclass")
    except SystemExit as end:
        if end.code == STOPPED:
            typer.echo("Stopped.", err=True)
        raise
    except Exception as error:
        if debug:
            sys.excepthook = show_traceback
            raise
        say_error(error)
        sys.exit(1)
