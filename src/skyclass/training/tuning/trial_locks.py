"""Locks of trials: each is trained by one process at a time, and another takes over when that process dies.

On one machine (or in one shared folder) a trial's run is locked as long as a process trains it, and the system takes
the lock back from a process that dies: what a killed process has left is taken up at once, from the run's last
checkpoint. Processes that share the study through a database alone cannot see that lock; they take a trial up, from its
beginning, when it has not been heard of for some minutes.

Optuna's heartbeats (`RDBStorage` with `RetryFailedTrialCallback`) would begin a trial whose process died anew, under
another number: they know neither the lock of a machine nor a checkpoint to go on from.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, Trial, TrialState

from .space import Values, grid_size, sampler_for, suggest_parameters
from .study import Tuning

HEARTBEAT = 60.0  # seconds between two heartbeats of a trial
SILENCE = 300.0  # seconds without one, after which a trial of another folder counts as abandoned
SETTLING = 2.0  # seconds, longer than any write to the study takes


@dataclass(frozen=True)
class Lease:
    """A trial that this process trains, and its lock."""

    trial: Trial
    values: Values
    lock: FileLock


def take_trial(tuning: Tuning) -> Lease | None:
    """A trial to train: one of a process that has died, else a new one; None if no trial is left."""
    with tuning.folder.exclusive():
        trials = tuning.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING and (lease := _take_over(tuning, trial)):
                return lease
        return _new_trial(tuning) if len(trials) < tuning.limit else None


def _take_over(tuning: Tuning, left: FrozenTrial) -> Lease | None:
    """The trial, if the process that trained it has died."""
    here = left.user_attrs.get("folder") == tuning.own
    if not here and time.time() - left.user_attrs.get("heard", 0.0) < SILENCE:
        return None
    lock = tuning.folder.lock_trial(left.number)
    if lock is None:
        return None
    trial = Trial(tuning.study, left._trial_id)
    if not here:
        # Of several folders that write their name, wait, and read it again, one finds its own: M. Fischer's algorithm
        # (Lamport 1987, "A fast mutual exclusion algorithm", algorithm 1).
        trial.set_user_attr("folder", tuning.own)
        trial.set_user_attr("heard", time.time())
        time.sleep(SETTLING)
    now = tuning.trial(left.number)
    if now.state != TrialState.RUNNING or now.user_attrs.get("folder") != tuning.own:
        lock.release()
        return None
    return _lease(tuning, trial, lock)


def _new_trial(tuning: Tuning) -> Lease | None:
    """A new trial, which belongs to this folder from the moment that the study has it."""
    claim = uuid.uuid4().hex
    attributes = {"folder": tuning.own, "heard": time.time(), "claim": claim}
    tuning.study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attributes))
    running = tuning.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    new = next(trial for trial in running if trial.user_attrs.get("claim") == claim)
    trial = Trial(tuning.study, new._trial_id)
    if tuning.method == "grid" and new.number >= grid_size(tuning.space):  # a process elsewhere has begun the last one
        trial.set_user_attr("surplus", True)
        tuning.study.tell(new.number, state=TrialState.FAIL)
        return None
    lock = tuning.folder.lock_trial(new.number)
    assert lock is not None  # nobody else knows of it
    return _lease(tuning, trial, lock)


def _lease(tuning: Tuning, trial: Trial, lock: FileLock) -> Lease:
    tuning.study.sampler = sampler_for(tuning.method, tuning.space, tuning.recipe.seed, trial.number)
    return Lease(trial, suggest_parameters(trial, tuning.space), lock)


@contextmanager
def heartbeat(trial: Trial) -> Iterator[None]:
    """While the block runs, mark the trial as alive in the study from time to time."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            # A database that is unreachable for a moment must not end the training.
            try:
                trial.set_user_attr("heard", time.time())
            except optuna.exceptions.OptunaError:
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
