"""Locks of runs: one command at a time trains a run, and the lock file names its process.

The system takes the lock back from a process that dies, however it dies; what is written says only whom to ask. Where a
disk keeps no locks (some network disks), what is written has to do: of this machine's processes it tells which live.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import MachineError, SkyclassError
from .atomic_files import read_json, write_json
from .disk_errors import disk_error
from .temporary_names import has_ended, own_process

logger = logging.getLogger(__name__)

LOCK, HOLDER = ".lock", ".holder.json"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Let no other command train the run while the block runs.

    Raises
    ------
    MachineError : where another process trains it, with its machine, number and begin
    """
    lock = FileLock(run / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise _refusal(run, _written(run)) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise disk_error(error, run / LOCK) from error
        if holder := holder_of(run):
            raise _refusal(run, holder) from None
        logger.warning(f"This disk keeps no locks: see to it that no other machine trains {run} at the same time")
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(
            run / HOLDER,
            {"host": platform.node(), "pid": os.getpid(), "since": since, "process": own_process()},
        )
        yield
    finally:
        (run / HOLDER).unlink(missing_ok=True)
        lock.release()


def holder_of(run: Path) -> str | None:
    """The process that trains the run at the moment, as text; None if there is none, or it is unknown."""
    if not (run / LOCK).is_file():
        return None
    lock = FileLock(run / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return _written(run)
    except (NotImplementedError, OSError):
        return _written(run, only_alive=True) or None
    lock.release()
    return None


def remove_dead_holder(run: Path) -> None:
    """Remove what a process that died while it ended has written of itself."""
    if (run / HOLDER).is_file() and holder_of(run) is None:
        with suppress(OSError):  # it does no harm in a folder that nobody may write into
            (run / HOLDER).unlink()


def _refusal(run: Path, holder: str) -> MachineError:
    fix = "wait for its end, or end it first"
    return MachineError(f"this run is being trained by {holder}", where=run, fix=fix)


def _written(run: Path, *, only_alive: bool = False) -> str:
    """What the holder has written of itself; only_alive: nothing of one that may have ended."""
    try:
        holder = read_json(run / HOLDER, "holder of a run", ("host", "pid", "since", "process"))
    except SkyclassError:
        return "" if only_alive else "another process"
    if only_alive and has_ended(str(holder["process"])) is not False:
        return ""
    return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
