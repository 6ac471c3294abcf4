"""`skyclass tune`: a recipe with a space and a pack become a study, its table and figures, and the best recipe."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
import threading
import traceback
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch
from optuna.exceptions import StorageInternalError
from rich.console import Console

from ..core.arguments import check_at_least_one, check_out
from ..core.console import ShownProgress, console_to_file, say, say_where, shown_messages
from ..core.devices import pick_device
from ..core.errors import SkyclassError, one_line
from ..core.files.atomic_files import write_text
from ..core.parallel import available_cores
from ..core.passwords import masked, secrets_in
from ..core.text import quantity
from ..data.packs.augment import mirror_pairs
from ..data.packs.pack import Pack
from ..data.packs.training_rows import training_rows
from ..recipes.recipe import Recipe, load_recipe
from ..recipes.schema import value_of
from ..training.tuning.folder import TuningFolder
from ..training.tuning.results import best_of, state_of, trial_notes, values_of, write_figures, write_table
from ..training.tuning.space import with_space
from ..training.tuning.study import Tuning, open_tuning, recipe_for
from ..training.tuning.worker import run_trials


class Job(NamedTuple):
    """The arguments of each process of a tuning."""

    out: Path
    recipe: Recipe
    pack: Path
    storage: str | None
    device: str
    keep_all: bool


@shown_messages()
def tune(
    recipe: str | Path,
    pack: str | Path,
    *,
    out: str | Path,
    overrides: Sequence[str] = (),
    space: Sequence[str] = (),
    trials: int | None = None,
    storage: str | None = None,
    jobs: int = 1,
    keep_all: bool = False,
    device: str = "auto",
    check: bool = False,
) -> Path:
    """Search the settings of a recipe, or go on with a tuning.

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
    pick_device(device)
    check_at_least_one(jobs, "--jobs", "processes")
    check_out(Path(out))
    chosen = recipe_for(Path(out), _recipe(recipe, overrides, space, trials))
    data = Pack.open(Path(pack))
    data.verify(every_byte=check)
    rows = training_rows(data, chosen.data)
    mirror_pairs(chosen.augment, rows.classes)
    _warn_of_password(storage)
    job = Job(Path(out), chosen, Path(pack).absolute(), storage, device, keep_all)
    try:
        tuning = open_tuning(job.out, chosen, data, storage)
        with _Progress(tuning) as shown:
            if jobs == 1:
                run_trials(tuning, data, device, keep_all, shown.refresh)
            else:
                _work_in_processes(job, jobs, shown)
        _finish(tuning)
    except KeyboardInterrupt:
        say("To go on, repeat the command: what is finished is kept")
        raise
    except StorageInternalError as error:
        fix = "repeat the command: what is finished is kept"
        why = masked(one_line(error), secrets_in(storage or ""))[:200]
        raise SkyclassError(f"the study cannot be reached ({why})", where=job.out, fix=fix) from None
    return job.out


def _warn_of_password(storage: str | None) -> None:
    """Warn if other users of the machine can read the password of the database, in the list of processes."""
    if storage and masked(storage) != storage and any(storage in word for word in sys.argv):
        say(
            "Warning: other users of this machine can read the password in --storage; give the URL in the environment "
            "variable SKYCLASS_STORAGE, or the password in ~/.pgpass or PGPASSWORD"
        )


def _recipe(recipe: str | Path, overrides: Sequence[str], space: Sequence[str], trials: int | None) -> Recipe:
    limit = [] if trials is None else [f"tune.trials={trials}"]
    chosen = load_recipe(recipe, [*overrides, *limit])
    if not space:
        return chosen
    allowed = {}
    for text in space:
        key, separator, value = text.partition("=")
        if not separator or not value:
            fix = "as in --space 'training.learning_rate=[0.001,0.01]' or --space 'model.dropout={low: 0, high: 0.5}'"
            raise SkyclassError("not of the form KEY=VALUES", where=f"--space {text}", fix=fix)
        allowed[key.strip()] = value_of(value)
    return with_space(chosen, allowed)


class _Progress:
    """A bar that counts finished trials, and prints a line for each, also those of other processes."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.console = Console(stderr=True, highlight=False)  # its own: the messages of a trial go to a file
        self.shown_trials = {trial.number for trial in tuning.trials() if trial.state.is_finished()}
        self.shown: ShownProgress | None = None

    def __enter__(self) -> _Progress:
        if self.shown_trials:
            ended = f"{len(self.shown_trials)} of {quantity(self.tuning.limit, 'trial')}"
            say(f"{ended} {'has' if len(self.shown_trials) == 1 else 'have'} ended already")
        self.shown = ShownProgress(
            "Tuning",
            self.tuning.limit,
            "trials",
            done=len(self.shown_trials),
            shown_on=self.console,
            period=float("inf"),
        )
        return self

    def __exit__(self, *_error: object) -> None:
        if self.shown:
            self.shown.stop()

    def refresh(self) -> None:
        """Show the trials that have ended since the last call, and update the table."""
        trials = self.tuning.trials()
        new = [trial for trial in trials if trial.state.is_finished() and trial.number not in self.shown_trials]
        best = best_of(self.tuning.study, trials)
        for trial in new:
            self.shown_trials.add(trial.number)
            score = "" if trial.value is None else f"  {self.tuning.metric} {trial.value:.4f}"
            settings = "".join(f"  {key} {value}" for key, value in values_of(self.tuning, trial).items())
            note = "  (best so far)" if trial is best else f"  {trial.user_attrs.get('problem', '')}"
            text = f"trial {trial.number:>3}  {state_of(trial)}{score}{settings}{note}".rstrip()
            self.console.print(text, markup=False, soft_wrap=True)
        if new and self.shown:
            self.shown.update(len(self.shown_trials))
            write_table(self.tuning)


def _work_in_processes(job: Job, jobs: int, shown: _Progress) -> None:
    """Let `jobs` processes train, and show what they do. Errors: SkyclassError where one of them stops by an error."""
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = [
        context.Process(target=_work_as_process, args=(job, worker, jobs)) for worker in range(jobs)
    ]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes):
            connection.wait([process.sentinel for process in processes if process.is_alive()], 1.0)
            shown.refresh()
    finally:
        for process in processes:
            process.terminate()
            process.join()
    shown.refresh()
    for worker, process in enumerate(processes):
        if process.exitcode:
            log = TuningFolder(job.out).worker_log(worker)
            lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
            what = f"process {worker} stopped ({lines[-1] if lines else f'exit status {process.exitcode}'})"
            raise SkyclassError(what, where=log, fix="mend that, and repeat the command: what is finished is kept")


def _work_as_process(job: Job, worker: int, jobs: int) -> None:
    """What one of several processes does, on its share of the cores and on its GPU; it ends with its parent."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(min(torch.get_num_threads(), max(1, available_cores() // jobs)))
    device = device_of(worker, job.device, torch.cuda.device_count())
    log = TuningFolder(job.out).worker_log(worker)
    log.unlink(missing_ok=True)
    try:
        pack = Pack.open(job.pack)
        tuning = open_tuning(job.out, job.recipe, pack, job.storage)
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, console_to_file(nowhere):
            run_trials(tuning, pack, device, job.keep_all, lambda: None)
    except KeyboardInterrupt:
        sys.exit(0)
    except Exception as error:
        text = str(error) if isinstance(error, SkyclassError) else traceback.format_exc()
        write_text(log, masked(text, secrets_in(job.storage or "")))
        sys.exit(1)


def _exit_with_parent() -> None:
    """A killed command leaves no process behind."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def device_of(worker: int, device: str, n_gpus: int) -> str:
    """The device of a process: `auto` and `cuda` take the GPUs in turn."""
    return f"cuda:{worker % n_gpus}" if n_gpus and device in ("auto", "cuda") else device


def _finish(tuning: Tuning) -> None:
    """Write the table, the best recipe and the figures, and log the best trial."""
    write_table(tuning)
    trials, folder = tuning.trials(), tuning.folder
    running = sum(not trial.state.is_finished() for trial in trials)
    best = best_of(tuning.study, trials)
    if best is None and not running:
        problems = [str(trial.user_attrs["problem"]) for trial in trials if "problem" in trial.user_attrs]
        first = f"; the first one: {problems[0]}" if problems else ""
        fix = f"see {folder.table_file}"
        raise SkyclassError(
            f"none of {quantity(len(trials), 'training')} came to its end{first}", where=folder.path, fix=fix
        )
    if running:
        still = f"{quantity(running, 'trial')} {'is' if running == 1 else 'are'} still"
        say(f"{still} trained by other processes: the last of them completes the results")
    if best:
        pictures = write_figures(tuning)
        say(f"Best: trial {best.number}, {tuning.metric} {best.value:.4f} at epoch {best.user_attrs['best_epoch']:g}")
        for key, value in values_of(tuning, best).items():
            say(f"  {key}: {value}")
        for note in trial_notes(trials, best):
            say(note)
        say(f"As a recipe: {folder.best_file}; all trials: {folder.table_file}; figures: {', '.join(pictures)}")
        run = folder.run(best.number)
        if run.is_dir():
            say(f"For more epochs: skyclass train --resume {shlex.quote(str(run))} --set training.epochs=+10")
    say_where("Tuning", folder.path)
