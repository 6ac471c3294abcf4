"""Replace the output of a command at once: the new one is built aside, and the old one stays until then.

The new files are made in a hidden folder inside the output folder, which works where that is a link, a mount, or holds
files of the user's own. One renaming to `.replacing` decides; what follows, old files removed and new ones moved, can
be done twice, and is done by the next command that opens the folder where this one is killed in its middle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import SkyclassError
from .atomic_files import read_json, sync, sync_tree
from .disk_errors import disk_errors
from .temporary_names import part_of, remove, remove_leftovers

REPLACING = ".replacing"
_ORDER = ".order.json"  # what is still to be removed, and which file completes the output


@contextmanager
def new_contents(folder: Path, key: str, old: Callable[[], Iterable[str]] = tuple) -> Iterator[Path]:
    """A hidden folder in `folder`, whose files take the places of the old ones when the block ends well.

    key : the file that makes the output whole: it is removed first and put in place last
    old : names the files and folders of the old output, relative to `folder`, called when the block has ended;
        those that have no successor are removed, and other files in the folder are left alone

    Raises
    ------
    MachineError : for a full disk and the like; the old output then stays as it was
    """
    finish_replacing(folder)
    stage = part_of(folder / "new")
    was_there = folder.is_dir()
    try:
        with disk_errors(folder, stage):
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
            stage.mkdir()
        try:
            yield stage
        except SkyclassError as error:
            raise _in_place(error, stage, folder) from error
        with disk_errors(folder, stage):
            gone = [name for name in old() if not (stage / name).is_file()]
            (stage / _ORDER).write_text(json.dumps({"key": key, "remove": gone}), encoding="utf-8")
            sync_tree(stage)
            stage.replace(folder / REPLACING)
            sync(folder)
    finally:
        remove(stage)
        if not was_there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # nothing was written
    finish_replacing(folder)


def _in_place(error: SkyclassError, stage: Path, folder: Path) -> SkyclassError:
    """The error with the folder in place of the hidden one, which is internal."""
    where = None if error.where is None else error.where.replace(str(stage), str(folder))
    return type(error)(error.what, where=where, fix=error.fix)


def finish_replacing(folder: Path) -> None:
    """Complete what a killed command had decided on; nothing is done where there is nothing to complete."""
    new = folder / REPLACING
    if not new.is_dir():
        return
    with disk_errors(folder):
        if (new / _ORDER).is_file():  # else nothing but empty folders is left of it
            order = read_json(new / _ORDER, "order of a replacement", ("key", "remove"))
            if (new / order["key"]).is_file():
                (folder / order["key"]).unlink(missing_ok=True)
            for name in order["remove"]:
                remove(folder / name)
            _move(new, folder, {order["key"], _ORDER})
            if (new / order["key"]).is_file():
                _put(new / order["key"], folder / order["key"])
            sync(folder)
        remove(new)


def _move(new: Path, folder: Path, last: Iterable[str]) -> None:
    """Move what is in `new` into `folder`, over what has the same names there."""
    for entry in sorted(os.scandir(new), key=lambda entry: entry.name):
        target = folder / entry.name
        if entry.name in last:
            continue
        if entry.is_dir(follow_symlinks=False) and target.is_dir():
            _move(Path(entry.path), target, ())
            sync(target)
        else:
            _put(Path(entry.path), target)


def _put(source: Path, target: Path) -> None:
    if target.is_dir() != source.is_dir():
        remove(target)
    try:
        source.replace(target)
    except FileNotFoundError:
        if not target.exists():
            raise  # else another command that opened the folder has done it in this moment
