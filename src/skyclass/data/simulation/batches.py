"""Simulated images in batches, in one process or several, with the same result."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch

from ...core.errors import SkyclassError
from ...core.parallel import available_cores

SimulatedBatch = tuple[np.ndarray, pd.DataFrame]
_CHUNKS_WORTH_PROCESSES = 16  # some four seconds of work, which is what processes take to start
Make = Callable[[Sequence[str], int], SimulatedBatch]  # labels and the index of the first one -> images and truth


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: small arrays gain little from more, and where threads part the work the last bit changes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_request(
    labels: Sequence[str], classes: Sequence[str], size: int | tuple[int, int], seed: int, first_index: int
) -> tuple[int, int]:
    """(height, width) of `size`; SkyclassError for a label not in `classes`, a size below 8 or a negative number."""
    for position, label in enumerate(labels):
        if label not in classes:
            raise SkyclassError(
                f"{label!r} is not a class that can be simulated",
                where=f"labels[{position}]",
                fix=f"use {', '.join(classes)}",
            )
    if seed < 0 or first_index < 0:
        raise SkyclassError(f"seed {seed} and first_index {first_index} must be 0 or more")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 8:
        raise SkyclassError(
            f"{height}x{width} pixels are too few to show anything", where="size", fix="ask for 8 or more"
        )
    return height, width


def in_batches(
    make: Make, labels: Sequence[str], first_index: int, batch_size: int, workers: int | None
) -> Iterator[SimulatedBatch]:
    """`make(labels, index)` for successive runs of `batch_size` labels, in order.

    Parameters
    ----------
    make : a function that can be pickled
    workers : processes, of which there are never more than chunks; 1 stays in this process. None takes the cores
        available, or this process alone for a job so small that starting others would take longer

    At most `workers + 1` chunks are in memory, whatever the number of images.
    """
    if batch_size < 1 or (workers is not None and workers < 1):
        what = f"batch_size {batch_size} and workers {workers} make no simulation"
        raise SkyclassError(what, where="simulation", fix="give 1 or more of each")
    starts = range(0, len(labels), batch_size)
    if workers is None:
        workers = available_cores() if len(starts) >= _CHUNKS_WORTH_PROCESSES else 1
    processes = min(workers, len(starts))
    jobs = ((list(labels[start : start + batch_size]), first_index + start) for start in starts)
    if processes <= 1:
        return (make(names, index) for names, index in jobs)
    return _in_processes(make, jobs, processes)


def _in_processes(make: Make, jobs: Iterable[tuple[list[str], int]], processes: int) -> Iterator[SimulatedBatch]:
    # Spawned, not forked: a fork of a process in which torch has threads can hang.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    waiting: deque[Future[SimulatedBatch]] = deque()
    try:
        for names, index in jobs:
            waiting.append(pool.submit(make, names, index))
            if len(waiting) > processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise SkyclassError(
            "the simulation's worker processes could not start or were killed",
            fix="call it below `if __name__ == '__main__':`, or with workers=1",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
