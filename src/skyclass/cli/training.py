"""The commands that train, tune, evaluate and compare. Heavy imports happen inside the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Check, Device, RecipeArgument, Set


def train(
    recipe: Annotated[str | None, typer.Argument(help="a recipe file, or the name of a shipped one")] = None,
    pack: Annotated[Path | None, typer.Argument(help="the pack to train on")] = None,
    out: Annotated[Path | None, typer.Option(help="the new run")] = None,
    set_: Set = None,
    ensemble: Annotated[
        int | None, typer.Option(metavar="N", help="train N members with other seeds, and take their mean")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="go on with this run; --set training.epochs=+10 adds epochs to one that has ended, "
            "behind its best checkpoint",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="with --resume: go on from this checkpoint of the run, from last or best"),
    ] = None,
    find_rate: Annotated[
        bool, typer.Option("--find-rate", help="first seek the learning rate by a range test, and train with it")
    ] = False,
    device: Device = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs on a machine, or processes on the CPU, that share every batch")
    ] = 1,
    num_nodes: Annotated[
        int, typer.Option(min=1, help="machines; on more than one, torchrun or srun starts this command")
    ] = 1,
    check: Check = False,
) -> None:
    """Train a classifier by a recipe; --resume continues an interrupted run, or adds epochs to one that has ended."""
    from ..commands.train import train as verb

    verb(
        recipe,
        pack,
        out=out,
        overrides=set_ or (),
        ensemble=ensemble,
        resume=resume,
        checkpoint=checkpoint,
        find_rate=find_rate,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
        check=check,
    )


def tune(
    recipe: RecipeArgument,
    pack: Annotated[Path, typer.Argument(help="the pack to train on")],
    out: Annotated[Path, typer.Option(help="folder of the tuning; one that was stopped goes on")],
    set_: Set = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="search this key too, as in training.learning_rate=[0.001,0.01] or 'model.dropout={low: 0, high: 1}'",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="trainings at most (default: the recipe's, else a whole grid, or 20)")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="SKYCLASS_STORAGE",
            help="database that keeps the study, for several machines, as in postgresql+psycopg://user@machine/studies "
            "(default: SQLite in the folder)",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes on this machine")] = 1,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="keep the weights of every trial, not of the best one alone")
    ] = False,
    device: Device = "auto",
    check: Check = False,
) -> None:
    """Search the values of a recipe's tune.space for the best ones; a tuning that was stopped goes on where it was."""
    from ..commands.tune import tune as verb

    verb(
        recipe,
        pack,
        out=out,
        overrides=set_ or (),
        space=space or (),
        trials=trials,
        storage=storage,
        jobs=jobs,
        keep_all=keep_all,
        device=device,
        check=check,
    )


def evaluate(
    path: Annotated[Path, typer.Argument(help="a run or a predictions file")],
    out: Annotated[Path | None, typer.Option(help="folder for the metrics and figures")] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all (default: test where known)")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="accuracy against a column, such as a magnitude; repeat for more"),
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="a table or a pack with the columns (default: the run's pack)")
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="compare scores of uncertainty that need a run's networks again")
    ] = False,
    device: Device = "auto",
    check: Check = False,
) -> None:
    """Evaluate predictions against their labels, with 95 % intervals."""
    from ..commands.evaluate import evaluate as verb

    verb(path, out=out, split=split, by=by or (), catalog=catalog, uncertainty=uncertainty, device=device, check=check)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="runs that have ended; the first is what the others are held against")
    ],
    out: Annotated[Path, typer.Option(help="folder for the tables and the figure")] = Path("comparison"),
    split: Annotated[str, typer.Option(help="train, val, test or all")] = "test",
    reported: Annotated[
        bool, typer.Option("--reported", help="with the figures that the authors of published systems report")
    ] = False,
) -> None:
    """Put runs side by side: cost, scores with intervals, and whether they differ on the same test images."""
    from ..commands.compare import compare as verb

    verb(runs, out=out, split=split, reported=reported)
