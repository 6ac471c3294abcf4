"""Train the trials of a tuning in this process, one after the other."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable

import optuna
import pandas as pd
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from ...classifier.run import Run, is_run
from ...core.console import console_to_file, shown_messages
from ...core.errors import MachineError, SkyclassError
from ...core.files.locks import held
from ...data.packs.pack import Pack
from ...data.packs.training_rows import TrainingRows
from ...recipes.recipe import Recipe
from ...recipes.training_settings import score_mode
from ..run import begin_run, finish_run
from .results import SAME, best_of
from .space import recipe_with
from .study import Tuning
from .trial_locks import Lease, heartbeat, take_trial


def run_trials(tuning: Tuning, pack: Pack, device: str, keep_all: bool, after_each: Callable[[], None]) -> None:
    """Train trials until none is left; `after_each` is called after each of them."""
    if not keep_all:
        _remove_weights_of_all_but_best(tuning)  # of a process that was killed after a trial
    while lease := take_trial(tuning):
        try:
            _train(tuning, lease, pack, device)
        finally:
            lease.lock.release()
        if not keep_all:
            _remove_weights_of_all_but_best(tuning)
        after_each()


def _train(tuning: Tuning, lease: Lease, pack: Pack, device: str) -> None:
    """Train one trial to its end and report its result to the study."""
    if _finish_as_duplicate(tuning, lease.trial):
        return
    number, trial = lease.trial.number, lease.trial
    tuning.folder.trials.mkdir(parents=True, exist_ok=True)
    try:
        state, value, found = _outcome(tuning, lease, pack, device)
        if tuning.trial(number).user_attrs.get("folder") != tuning.own:
            return  # this machine was unreachable for so long that another one has taken over the trial
        for name, what in found.items():
            trial.set_user_attr(name, what)
        tuning.study.tell(number, value, state)
    except UpdateFinishedTrialError:
        return  # ... and has ended it


def _outcome(
    tuning: Tuning, lease: Lease, pack: Pack, device: str
) -> tuple[TrialState, float | None, dict[str, str | float]]:
    """The result of the training: the trial's state, its score, and further attributes."""
    number, trial = lease.trial.number, lease.trial
    try:
        recipe = recipe_with(tuning.recipe, lease.values)
        with (
            tuning.folder.trial_log(number).open("a", encoding="utf-8") as log,
            console_to_file(log),
            shown_messages(always=True),
            heartbeat(trial),
        ):
            run, rows = _run_of(tuning, number, recipe, pack, device)
            if not run.finished:
                with held(run.path):
                    finish_run(run, rows, device, _Reports(tuning, trial, recipe.training.epochs))
        value, epoch = best_validation(run, tuning.metric)
    except optuna.TrialPruned:
        return TrialState.PRUNED, None, {}
    except MachineError:
        raise  # the trial is resumed once there is room
    except SkyclassError as error:
        return TrialState.FAIL, None, {"problem": str(error)}
    except torch.OutOfMemoryError:
        return TrialState.FAIL, None, {"problem": "not enough memory on the device"}
    return TrialState.COMPLETE, value, {"best_epoch": epoch}


def _finish_as_duplicate(tuning: Tuning, trial: Trial) -> bool:
    """If an earlier trial has the same values, finish this one with its result, without training."""
    earlier = (other for other in tuning.trials() if other.number < trial.number and other.params == trial.params)
    first = min(earlier, key=lambda other: other.number, default=None)
    if first is None or not trial.params:
        return False
    trial.set_user_attr(SAME, first.number)
    if first.state == TrialState.COMPLETE:
        tuning.study.tell(trial.number, first.value)
    else:
        tuning.study.tell(trial.number, state=TrialState.FAIL)
    return True


def _run_of(tuning: Tuning, number: int, recipe: Recipe, pack: Pack, device: str) -> tuple[Run, TrainingRows | None]:
    """The run that a killed process has left of this trial, or a new one."""
    folder = tuning.folder.run(number)
    if is_run(folder) and Run.open(folder).recipe() == recipe:
        return Run.open(folder), None
    shutil.rmtree(folder, ignore_errors=True)  # killed before it was a run
    return begin_run(recipe, pack, folder, device)


class _Reports:
    """Reports each validation to the study, and prunes a trial that is worse than others were.

    Trials are compared at whole epochs, so that those with other batches or validations can be.
    """

    def __init__(self, tuning: Tuning, trial: Trial, epochs: int) -> None:
        self.metric, self.trial, self.epochs = tuning.metric, trial, epochs
        known = tuning.trial(trial.number)
        self.reported = set(known.intermediate_values)
        self.before, self.start = float(known.user_attrs.get("seconds", 0.0)), time.monotonic()

    def __call__(self, epochs: float, scores: dict[str, float]) -> None:
        """Report the scores of a validation. Errors: optuna.TrialPruned."""
        self.trial.set_user_attr("seconds", round(self.before + time.monotonic() - self.start, 1))
        epoch, value = math.floor(epochs + 1e-9), scores.get(self.metric, math.nan)
        if not 0 < epoch < self.epochs or math.isnan(value):
            return  # nothing is saved by ending a training that has ended
        if epoch not in self.reported:
            self.trial.report(value, epoch)
            self.reported.add(epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def best_validation(run: Run, metric: str) -> tuple[float, float]:
    """The best score that a validation of the run gave, and its epoch.

    Errors: SkyclassError where none gave a finite one.
    """
    history = run.history()
    scores = pd.to_numeric(history[metric], "coerce").dropna() if metric in history else pd.Series(dtype=float)
    if scores.empty:
        fix = "take another tune.metric, or train for longer"
        raise SkyclassError(f"no validation gave a finite {metric}", where=run.path, fix=fix)
    at = int(scores.argmin() if score_mode(metric) == "min" else scores.argmax())
    return float(scores.iloc[at]), float(history["epoch"].loc[scores.index].iloc[at])


def _remove_weights_of_all_but_best(tuning: Tuning) -> None:
    """Remove the weights of the trials that have ended and are not the best; their tables and curves stay."""
    trials = tuning.trials()
    best = best_of(tuning.study, trials)
    for trial in trials:
        if trial.state.is_finished() and trial is not best and _is_here(tuning, trial):
            run = Run(tuning.folder.run(trial.number))
            for folder in (run.checkpoints, run.classifier):
                shutil.rmtree(folder, ignore_errors=True)


def _is_here(tuning: Tuning, trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("folder") == tuning.own and tuning.folder.run(trial.number).is_dir()
