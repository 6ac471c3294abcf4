"""The folder of a tuning: its files and locks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ...core.errors import SkyclassError


@dataclass(frozen=True)
class TuningFolder:
    """The folder of a tuning."""

    path: Path

    @property
    def provenance_file(self) -> Path:
        """The recipe, its hash and the pack's, the storage of the study, and the id of this folder."""
        return self.path / "tuning.json"

    @property
    def study_file(self) -> Path:
        """The study, where no other storage is named: SQLite, whose locks a network file system may not keep."""
        return self.path / "study.db"

    @property
    def table_file(self) -> Path:
        """One row a trial."""
        return self.path / "tuning.csv"

    @property
    def best_file(self) -> Path:
        """The best recipe."""
        return self.path / "best.yaml"

    @property
    def trials(self) -> Path:
        """The run of each trial, and beside it the log of the training."""
        return self.path / "trials"

    def run(self, number: int) -> Path:
        """The run of a trial."""
        return self.trials / f"{number:04d}"

    def trial_log(self, number: int) -> Path:
        """The log of the training of a trial."""
        return self.trials / f"{number:04d}.log"

    def worker_log(self, worker: int) -> Path:
        """Why a process of `--jobs` stopped."""
        return self.path / f"process-{worker}.log"

    def _lock(self, name: str) -> FileLock:
        # The system takes the lock back from a process that dies, however it dies.
        folder = self.path / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One process at a time that uses this folder."""
        lock = self._lock("tuning")
        _acquire(lock, wait=True)
        try:
            yield
        finally:
            lock.release()

    def lock_trial(self, number: int) -> FileLock | None:
        """A lock on a trial's run until it is released or this process dies; None while another process holds it."""
        lock = self._lock(f"{number:04d}")
        return lock if _acquire(lock, wait=False) else None

    def is_foreign(self) -> bool:
        """Whether the folder holds something else than a tuning; names that begin with a dot do not count."""
        if self.path.exists() and not self.path.is_dir():
            return True
        there = self.path.iterdir() if self.path.is_dir() else iter(())
        return not self.provenance_file.is_file() and any(not path.name.startswith(".") for path in there)


def _acquire(lock: FileLock, wait: bool) -> bool:
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        return False
    except (NotImplementedError, OSError) as error:
        fix = "name a folder on a disk of this machine"
        raise SkyclassError(f"no file can be locked here ({error})", where=lock.lock_file, fix=fix) from None
    return True
