"""Trains runs in processes that torchrun or SLURM would have started: a process of its own for `test_devices`.

Torch is imported once; every process of a training is a fork of this one, which has computed nothing.

    python joining.py JOBS.json -> a JSON list: the exit status of every process of each job
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch.distributed import TCPStore

from helpers.killing import dying
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.core.progress import lines
from skyclass.training.launch import environment_of
from skyclass.training.loop.checkpoints import LastCheckpoint
from skyclass.training.loop.task import Task

PATIENCE = 100.0  # seconds


def slurm_says(rank: int, world: int, port: int) -> dict[str, str]:
    """What `srun --ntasks=WORLD` tells a process."""
    numbers = {"NTASKS": world, "PROCID": rank, "LOCALID": rank, "NODEID": 0, "STEP_ID": 0, "NNODES": 1, "JOB_ID": 7}
    told = {f"SLURM_{name}": str(number) for name, number in numbers.items()}
    return {**told, "SLURM_NTASKS_PER_NODE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def note_the_validated(rank: int, path: Path) -> None:
    """Write down each image that the process validates, with the segment."""
    original = Task.validation_step

    def validation_step(task: Task, batch: Any, batch_index: int) -> None:
        with path.open("a") as file:
            file.writelines(f"{task.current_epoch} {row} {rank}\n" for row in batch.rows.tolist())
        original(task, batch, batch_index)

    Task.validation_step = validation_step  # type: ignore[method-assign]


def spoil_the_images(rank: int) -> None:
    """Let the loss of this process's share of the third batch be no number."""
    original, calls = Task.forward_output, [0]

    def forward_output(task: Task, images: torch.Tensor) -> Any:
        calls[0] += 1
        return original(task, images * float("nan") if calls[0] == 3 else images)

    Task.forward_output = forward_output  # type: ignore[method-assign]


def prepare(job: dict[str, Any], rank: int) -> None:
    """What a job wants to happen in one of its processes."""
    note_the_validated(rank, Path(job["log"] + ".validated"))
    what, which = job.get("prepare", ("", 0))
    if rank != which:
        return
    if what == "nan":
        spoil_the_images(rank)
    if what == "die in mid-segment":
        dying(Task, "training_step", 3)
    if what == "die before the last checkpoint":
        dying(LastCheckpoint, "on_train_epoch_end", 1)


def begin_child(job: dict[str, Any], rank: int, environment: dict[str, str]) -> NoReturn:
    """One process: exit status 0, or 3 for an error that a user is meant to read, which its log ends with."""
    os.dup2(os.open(f"{job['log']}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.update(environment)
    lines.LINE_AFTER = 0.0  # progress shows in logs of short trainings too
    status = 1
    try:
        prepare(job, rank)
        where = {"resume": job["run"]} if Path(job["run"]).exists() else {"out": job["run"]}
        what = () if "resume" in where else (job["recipe"], job["pack"])
        train(*what, **where, device="cpu", devices=job["world"], **job.get("options", {}))
        status = 0
    except SkyclassError as error:
        print(f"Error: {error}", file=sys.stderr)
        status = 3
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)


def statuses(job: dict[str, Any]) -> list[int]:
    """Do the job: the exit status of each process; when one was killed, or time is up, all are."""
    world = job["world"]
    store = None if job.get("how") == "slurm" else TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    children: dict[int, int] = {}
    for rank in range(world):
        says = environment_of(rank, world, store.port) if store else slurm_says(rank, world, job["port"])
        child = os.fork()
        if child == 0:
            begin_child(job, rank, says if world > 1 else {})
        children[rank] = child
    found: dict[int, int] = {}
    end = time.monotonic() + PATIENCE
    while len(found) < world:
        for rank in set(children) - set(found):
            pid, status = os.waitpid(children[rank], os.WNOHANG)
            if pid:
                found[rank] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > end or any(status < 0 for status in found.values()):
            for rank in set(children) - set(found):
                os.kill(children[rank], signal.SIGKILL)
        time.sleep(0.01)
    return [found[rank] for rank in range(world)]


def main(path: Path) -> None:
    """Do the jobs of the file."""
    print(json.dumps([statuses(job) for job in json.loads(path.read_text())]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
