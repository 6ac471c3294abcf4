"""Temporary file names that contain the writing process, so that those of a dead one can be removed.

A name is `.NAME.MACHINE.BOOT-PID-START-NUMBER.part`. A process is dead where the machine is this one and was started
anew since, or has no such process, or one that began at another time: numbers of processes are used again. Of other
machines, which may share the folder, nobody can tell here: their files are removed when nothing was written into them
for a week.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import shutil
import time
from functools import cache
from pathlib import Path

SUFFIX = ".part"
WEEK = 7 * 24 * 3600.0  # seconds
_KEPT = 40  # characters of a name: the whole must not become too long for the disk
_PROCESS = r"([0-9a-f]{8})\.([0-9a-f]{8})-(\d+)-(\d+)"
_NAME = re.compile(rf"\..*\.({_PROCESS})-\d+\.part", re.DOTALL)
_UNKNOWN = "0" * 8
_numbers = itertools.count(1)


def own_process() -> str:
    """An identifier of this process, unique over machines and time."""
    return f"{_here()}-{os.getpid()}-{_start(os.getpid())}"


def has_ended(process: str) -> bool | None:
    """Whether the process, as `own_process` named it, has ended; None where it is of a machine unknown here."""
    found = re.fullmatch(_PROCESS, process)
    own, started = _here().split(".")
    if found is None or found[1] != own or started == _UNKNOWN:
        return None
    return found[2] != started or _start(int(found[3])) != int(found[4])


def part_of(path: Path) -> Path:
    """A unique temporary name beside `path`."""
    return path.with_name(f".{path.name[:_KEPT]}.{own_process()}-{next(_numbers)}{SUFFIX}")


def is_part(name: str) -> bool:
    """Whether a file of that name is one that is being written, or was left by a process that died."""
    return _NAME.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove the files and folders that dead processes have left half-written in `folder`."""
    try:
        paths = [Path(entry) for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)]
    except OSError:  # the error is raised when something is written here
        return
    for path in paths:
        if _is_dead(path):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, as far as the system allows."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:  # somebody else's: it is only in the way
        return


def _is_dead(path: Path) -> bool:
    found = _NAME.fullmatch(path.name)
    ended = has_ended(found[1]) if found else False
    if ended is not None:
        return ended
    try:
        return time.time() - path.stat().st_mtime > WEEK
    except OSError:  # it has gone
        return False


@cache
def _here() -> str:
    """This machine, as programs in one container see it, and when it was started."""
    spaces = Path("/proc/self/ns/pid")
    machine = f"{platform.node()} {spaces.stat().st_ino if spaces.exists() else ''}"
    started = Path("/proc/sys/kernel/random/boot_id")
    boot = started.read_text(encoding="ascii") if started.is_file() else ""
    return f"{_short(machine)}.{_short(boot) if boot else _UNKNOWN}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _start(pid: int) -> int:
    """When a process began, in ticks since the machine was started; 0 where it is not known, -1 for no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return -1 if Path("/proc/self/stat").exists() else 0
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()  # from field 3 of proc(5) on; the name before it may hold anything
    return -1 if fields[0] in "ZX" else int(fields[19])  # a zombie has ended
