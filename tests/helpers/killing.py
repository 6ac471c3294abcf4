"""Trains and tunes in child processes that are killed, and goes on: a process of its own for the tests of that.

Torch is imported once; every attempt is a fork of this process, which has computed nothing.

    python killing.py JOB.json -> prints a JSON object: name of each run -> moments at which it was killed
"""

from __future__ import annotations

import io
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

os.environ["OMP_NUM_THREADS"] = "1"

import optuna
import pyarrow.dataset  # noqa: F401  # this and TensorBoard's: once, and not in each fork when its training begins
import torch
import torch.utils.tensorboard
from matplotlib.figure import Figure

from helpers.figures import save_blank
from helpers.paths import with_tests
from skyclass.classifier.classifier import Classifier
from skyclass.commands.train import train
from skyclass.commands.tune import tune
from skyclass.training import resume
from skyclass.training.loop.callbacks import HistoryCallback
from skyclass.training.loop.checkpoints import LastCheckpoint
from skyclass.training.loop.task import Task
from skyclass.training.tuning import space

ATTEMPTS = 60


def die() -> None:
    """As `kill -9` from outside."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(owner: Any, name: str, at: int, after: bool = False) -> None:
    """Let the method kill the process at its call number `at` (from 1), before or after its work."""
    original, calls = getattr(owner, name), [0]

    def method(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == at and not after:
            die()
        result = original(*arguments, **options)
        if calls[0] == at:
            die()
        return result

    setattr(owner, name, method)


def die_while_saving(at: int) -> None:
    """Kill the process when half of a checkpoint is on the disk."""
    original, calls = torch.save, [0]

    def save(content: Any, stream: Any) -> None:
        calls[0] += 1
        if calls[0] < at:
            return original(content, stream)
        whole = io.BytesIO()
        original(content, whole)
        stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        stream.flush()
        die()

    torch.save = save


# In the order in which one run meets them; each leaves it a few segments further.
MOMENTS: dict[str, Callable[[], None]] = {
    "before the first step": lambda: dying(Task, "training_step", 1),
    "writing the first checkpoint": lambda: die_while_saving(1),
    "in mid-segment": lambda: dying(Task, "training_step", 2),
    "in validation": lambda: dying(Task, "validation_step", 2),
    "after the history": lambda: dying(HistoryCallback, "on_train_epoch_end", 2, after=True),
    "before the last checkpoint": lambda: dying(LastCheckpoint, "on_train_epoch_end", 2),
    "writing a checkpoint": lambda: die_while_saving(2),
    "after the last checkpoint": lambda: dying(LastCheckpoint, "on_train_epoch_end", 1, after=True),
    "saving the classifier": lambda: dying(Classifier, "save", 1),
    "after the classifier": lambda: dying(Classifier, "save", 1, after=True),
}
TURNS: dict[str, Callable[[], None]] = {
    "before a resume is requested": lambda: dying(resume.Run, "write_stages", 1),
    "after a resume is requested": lambda: dying(resume.Run, "write_stages", 1, after=True),
    "before the results are removed": lambda: dying(resume, "_remove_results", 1),
    "after the results are removed": lambda: dying(resume, "_remove_results", 1, after=True),
    "before the checkpoint is taken": lambda: dying(resume.shutil, "copyfile", 1),
    "before the resume is done": lambda: dying(resume.Run, "write_stages", 1),
    "in the first segment of a stage": lambda: dying(Task, "training_step", 1, after=True),
    "after the first segment of a stage": lambda: dying(LastCheckpoint, "on_train_epoch_end", 1, after=True),
}
TUNINGS: dict[str, Callable[[], None]] = {
    "after the study is made": lambda: dying(optuna.storages.RDBStorage, "create_new_study", 1, after=True),
    "after a trial is begun": lambda: dying(optuna.study.Study, "add_trial", 1, after=True),
    "while its values are chosen": lambda: dying(space, "_suggest", 1, after=True),
    "in its first step": lambda: dying(Task, "training_step", 1),
    "in a later step": lambda: dying(Task, "training_step", 2, after=True),
    "after its training": lambda: dying(optuna.study.Study, "tell", 1),
    "after the study is told": lambda: dying(optuna.study.Study, "tell", 1, after=True),
    "in the validation of the next trial": lambda: dying(Task, "validation_step", 1),
    "while the weights of a worse trial are removed": lambda: dying(shutil, "rmtree", 2, after=True),
}


def attempt(job: dict[str, Any], prepare: Callable[[], None] | None, delay: float | None) -> tuple[bool, float]:
    """Train in a fork, with a kill at a moment, or so many seconds after the training began.

    Returns whether it was killed, and the seconds from the begin of the training to the end.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        begin_child(job, prepare, writing)
    os.close(writing)
    began = select.select([reading], [], [], 60)[0] and os.read(reading, 1)
    start = time.monotonic()
    if delay is not None and began:
        while time.monotonic() < start + delay and select.select([reading], [], [], 0.002)[0] == []:
            pass
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(reading)
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{job['run']}: exit status {status}: {Path(job['log']).read_text()}")
    return status != 0, time.monotonic() - start


def begin_child(job: dict[str, Any], prepare: Callable[[], None] | None, writing: int) -> NoReturn:
    """What a child does: one byte into the pipe when the training begins, which closes it at its end."""
    os.dup2(os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    started = Task.on_train_start

    def on_train_start(task: Task) -> None:
        os.write(writing, b".")
        started(task)

    Task.on_train_start = on_train_start  # type: ignore[method-assign]
    status = 1
    try:
        if prepare:
            prepare()
        command(job)
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def command(job: dict[str, Any]) -> None:
    """What a person would type, and type again."""
    run = Path(job["run"])
    if job.get("tune"):
        tune(job["recipe"], job["pack"], out=run, storage=job["storage"], device="cpu")
    elif (run / "run.json").is_file():
        train(resume=run, overrides=job["overrides"], device="cpu")
    else:
        shutil.rmtree(run, ignore_errors=True)
        train(job["recipe"], job["pack"], out=run, device="cpu")


def killed_at_moments(job: dict[str, Any], moments: dict[str, Callable[[], None]]) -> list[str]:
    """Go through the moments one attempt after the other, then to the end."""
    killed = [name for name, prepare in moments.items() if attempt(job, prepare, None)[0]]
    attempt(job, None, None)
    return killed


def killed_at_random(job: dict[str, Any], chance: random.Random, seconds: float) -> list[str]:
    """Kill again and again, up to so many seconds after each start of the training, until the run has ended."""
    killed: list[str] = []
    while len(killed) < ATTEMPTS:
        delay = chance.uniform(0.0, seconds)
        if not attempt(job, None, delay)[0]:
            if killed:
                return killed
            shutil.rmtree(job["run"])  # it was quicker than the first run: once more, with kills that come earlier
            seconds /= 2.0
            continue
        killed.append(f"after {delay:.3f} s")
    attempt(job, None, None)
    return killed


def together(jobs: list[dict[str, Any]]) -> None:
    """Do jobs at the same time, each in a fork."""
    children = []
    for job in jobs:
        child = os.fork()
        if child == 0:
            begin_child(job, None, os.open(os.devnull, os.O_WRONLY))
        children.append(child)
    for child, job in zip(children, jobs, strict=True):
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"{job['run']}: {Path(job['log']).read_text()}")


def in_a_process(folder: Path, jobs: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Let a process of its own do the jobs; the moments at which each was killed, by its folder below `folder`."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "helpers.killing", str(folder / "jobs.json")]
    environment = {**with_tests(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=800, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    kills = json.loads(result.stdout.splitlines()[-1])
    return {str(Path(run).relative_to(folder)): moments for run, moments in kills.items()}


def main(path: Path) -> None:
    """Do the jobs of the file."""
    result: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}  # that the training of a recipe takes
    jobs = json.loads(path.read_text())
    Figure.savefig = save_blank  # type: ignore[method-assign]
    if any(job.get("tune") for job in jobs):
        optuna.storages.RDBStorage("sqlite://")  # imports what every tuning would import
    for job in jobs:
        if job.get("copy"):
            shutil.copytree(job["copy"], job["run"])
        if job["how"] == "once":
            seconds[job["recipe"]] = attempt(job, None, None)[1]
        elif job["how"] == "together":
            together(job["jobs"])
        elif job["how"] == "random":
            span = seconds[job["recipe"]] / 2
            result[job["run"]] = killed_at_random(job, random.Random(job["run"][-1]), span)
        else:
            result[job["run"]] = killed_at_moments(
                job, {"moments": MOMENTS, "turns": TURNS, "tunings": TUNINGS}[job["how"]]
            )
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
