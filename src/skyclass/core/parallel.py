"""Work in threads with results in order, and a bounded number of results waiting."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None, ahead: int = 8
) -> Iterator[Result]:
    """`work(item)` for each item, in order, computed by `threads` (default: one a core).

    Each thread is at most `ahead` results in front of the reader, so memory does not grow with the number of items.
    An exception of `work` is raised when its turn comes.
    """
    threads = threads or available_cores()
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        window: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(remaining, ahead * threads))
        while window:
            result = window.popleft().result()
            window.extend(pool.submit(work, item) for item in islice(remaining, 1))
            yield result
