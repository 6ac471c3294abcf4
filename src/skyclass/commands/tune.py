"""`skyclass tune`: a recipe with a space and a pack become a study, its table and figures, and the best recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..core.arguments import check_at_least_one, check_out
from ..core.console import shown_messages
from ..core.errors import SkyclassError, one_line
from .options.shared import Check, Device, Overrides, PackArgument, RecipeArgument


@shown_messages()
def tune(
    recipe: RecipeArgument,
    pack: PackArgument,
    *,
    out: Annotated[Path | str, typer.Option(help="folder of the tuning; one that was stopped goes on")],
    overrides: Overrides = (),
    space: Annotated[
        Sequence[str],
        typer.Option(
            metavar="KEY=VALUES",
            help="search this key too, as in training.learning_rate=[0.001,0.01] or 'model.dropout={low: 0, high: 1}'",
        ),
    ] = (),
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
) -> Path:
    """Search the values of a recipe's tune.space for the best ones; a tuning that was stopped goes on where it was.

    Parameters
    ----------
    recipe : str or Path
        A recipe file, or the name of a shipped one, with what to search in its `tune.space`.
    pack : str or Path
        The pack to train on.
    out : str or Path
        The folder of the tuning; one that was stopped goes on.
    overrides : sequence of str
        KEY.KEY=VALUE changes of the recipe.
    space : sequence of str
        KEY=[VALUE, ...] or KEY={low: .., high: .., log: .., integer: ..}, keys to search beside those of the recipe.
    trials : int, optional
        Trainings at most, in place of the recipe's.
    storage : str, optional
        URL of a database that keeps the study, so that other machines take part. By default SQLite in `out`.
    jobs : int
        Processes on this machine.
    keep_all : bool
        Whether to keep the weights of every trial, not only those of the best one.
    device : str
        auto, cpu, cuda or cuda:N.
    check : bool
        Whether to compare every byte of the pack with its hashes, also where it was checked before and has not changed.

    Returns
    -------
    Path
        The folder `out`.

    Raises
    ------
    SkyclassError
        For a space that the recipe refuses, another recipe or pack than the tuning began with, and where every training
        failed.
    """
    from optuna.exceptions import StorageInternalError

    from ..core.console import say
    from ..core.devices import pick_device
    from ..core.passwords import masked, secrets_in
    from ..data.packs.augment import mirror_pairs
    from ..data.packs.pack import Pack
    from ..data.packs.training_rows import training_rows
    from ..training.tuning.study import open_tuning, recipe_for
    from ..training.tuning.worker import run_trials
    from .steps.tune import Job, Progress, finish, recipe_of, warn_of_password, work_in_processes

    pick_device(device)
    check_at_least_one(jobs, "--jobs", "processes")
    check_out(Path(out))
    chosen = recipe_for(Path(out), recipe_of(recipe, overrides, space, trials))
    data = Pack.open(Path(pack))
    data.verify(every_byte=check)
    rows = training_rows(data, chosen.data)
    mirror_pairs(chosen.augment, rows.classes)
    warn_of_password(storage)
    job = Job(Path(out), chosen, Path(pack).absolute(), storage, device, keep_all)
    try:
        tuning = open_tuning(job.out, chosen, data, storage)
        with Progress(tuning) as shown:
            if jobs == 1:
                run_trials(tuning, data, device, keep_all, shown.refresh)
            else:
                work_in_processes(job, jobs, shown)
        finish(tuning)
    except KeyboardInterrupt:
        say("To go on, repeat the command: what is finished is kept")
        raise
    except StorageInternalError as error:
        fix = "repeat the command: what is finished is kept"
        why = masked(one_line(error), secrets_in(storage or ""))[:200]
        raise SkyclassError(f"the study cannot be reached ({why})", where=job.out, fix=fix) from None
    return job.out
