"""Arguments that can be checked at once, before networks are imported, images read or a progress bar drawn."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import SkyclassError

_DEVICE = re.compile(r"auto|cpu|(cuda|mps)(:\d+)?")


def check_device_name(name: str) -> str:
    """The name. Errors: SkyclassError where no machine has a device of that name."""
    if not _DEVICE.fullmatch(name):
        raise SkyclassError(f"{name!r} is no device", where="--device", fix="use auto, cpu, cuda or cuda:N")
    return name


def check_at_least_one(value: int, option: str, what: str) -> int:
    """The value. Errors: SkyclassError below 1, as in "0 images at a time"."""
    if value < 1:
        raise SkyclassError(f"{value} {what}", where=option, fix="give 1 or more")
    return value


def check_out(path: Path) -> Path:
    """The path of an output that is still to be written, a file or a folder.

    Errors: SkyclassError where a part of the path above it is a file, or its folder cannot be written to.
    """
    above = path.absolute().parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise SkyclassError(f"{above} is a file and no folder", where=path, fix="name another folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise SkyclassError(f"no permission to write in {above}", where=path, fix="name another folder")
    return path
