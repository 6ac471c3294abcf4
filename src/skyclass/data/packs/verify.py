"""Verify the images and the catalog of a pack against the hashes in `pack.json`, byte by byte.

A pass over all images takes its time, so the size and the time of the last change of each file that was found right are
kept beside the pack, and a file that still has both is not read again. A copy of a pack has other times: it is read
once. A disk that rots changes no time: `every_byte` reads whatever is known.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...core.errors import MachineError, SkyclassError
from ...core.files.atomic_files import read_json, sha256_of, write_json
from ...core.files.json_documents import Document, checked

logger = logging.getLogger(__name__)

VERIFIED = "verified.json"
"""What was found right, by the name of the file: its size, the time of its last change, its hash."""


class _Known(Document):
    size: int
    mtime_ns: int
    sha256: str


def verify_files(folder: Path, hashes: Mapping[str, str], *, every_byte: bool = False) -> None:
    """Compare the files of a pack with their hashes.

    Parameters
    ----------
    folder : the pack
    hashes : file: SHA-256 of its bytes
    every_byte : read the files also where they have the size and the time of a check before

    Raises
    ------
    SkyclassError
        For a file whose bytes are not those that were packed.
    """
    for name, wanted in hashes.items():
        if not is_verified(folder, name, wanted, every_byte=every_byte):
            what = f"{name} was changed after it was packed, or is damaged"
            raise SkyclassError(what, where=folder, fix="restore it from a copy, or pack the source again")


def is_verified(folder: Path, name: str, wanted: str | None = None, *, every_byte: bool = False) -> bool:
    """Whether a file of a pack has its hash, `wanted` or the one that was kept; what is found out is kept.

    A file of which no hash is known is not verified.
    """
    known = _known(folder).get(name)
    wanted = wanted or (known.sha256 if known else None)
    path = folder / name
    if wanted is None or not path.is_file():
        return False
    now = _size_and_time(path)
    if known and not every_byte and (known.size, known.mtime_ns, known.sha256) == (*now, wanted):
        return True
    if path.stat().st_size > 1 << 30:
        logger.info(f"Checking {path} against its hash")
    if sha256_of(path) != wanted:
        return False
    if not known or (known.size, known.mtime_ns, known.sha256) != (*now, wanted):
        remember(folder, {name: wanted})
    return True


def remember(folder: Path, hashes: Mapping[str, str]) -> None:
    """Keep that these files of a pack, as they are now, have these hashes, where the pack can be written to."""
    if not os.access(folder, os.W_OK):
        return
    known = {name: one.model_dump() for name, one in _known(folder).items()}
    for name, sha256 in hashes.items():
        size, mtime_ns = _size_and_time(folder / name)
        known[name] = {"size": size, "mtime_ns": mtime_ns, "sha256": sha256}
    with suppress(MachineError):  # a full disk: the files are read again next time
        write_json(folder / VERIFIED, {name: one for name, one in known.items() if (folder / name).is_file()})


def _size_and_time(path: Path) -> tuple[int, int]:
    """Size in bytes, and time of the last change in ns."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _known(folder: Path) -> dict[str, _Known]:
    """What was found out before; nothing where that cannot be read, as it can be found out again."""
    try:
        content: dict[str, Any] = read_json(folder / VERIFIED, "record of checks")
        return {name: checked(one, "record of checks", folder, _Known, "check again") for name, one in content.items()}
    except SkyclassError:
        return {}
