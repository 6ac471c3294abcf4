"""The hash of a checkpoint, inside the checkpoint itself, so that both are written in one step.

A checkpoint is a ZIP archive. Its comment, which every reader of archives skips, holds the SHA-256 of all bytes before
the comment's length.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from ...core.errors import SkyclassError

SUFFIX = ".ckpt"

PREFIX = b"skyclass sha256 "
COMMENT = len(PREFIX) + 64  # bytes
LENGTH = COMMENT.to_bytes(2, "little")  # as the archive's last record names it


def add_hash(path: Path) -> None:
    """Put the hash into the comment of an archive that has none."""
    with path.open("r+b") as stream:
        stream.seek(-2, 2)
        end = stream.tell()
        assert stream.read() == b"\0\0", "an archive with a comment"
        stream.seek(end)
        stream.write(LENGTH + PREFIX + _hash_before(path, end))


def check_checkpoint(path: Path) -> None:
    """Compare a checkpoint with its hash; of one of Skyclass 0.1, which has none, the checksums of the archive.

    Errors: SkyclassError, which names the other checkpoints, where the file is missing or damaged.
    """
    try:
        intact = is_intact(path)
    except FileNotFoundError:
        raise SkyclassError("no such checkpoint", where=path, fix=other_than(path)) from None
    except Exception:  # a damaged archive fails in many ways
        intact = False
    if not intact:
        what = "the checkpoint is damaged: its bytes are not those that were written"
        raise SkyclassError(what, where=path, fix=other_than(path))


def other_than(path: Path) -> str:
    """The fix for a checkpoint that cannot be used."""
    others = ", ".join(sorted(other.name for other in path.parent.glob(f"*{SUFFIX}") if other != path))
    return (
        f"go on from another one with `skyclass train --resume RUN --checkpoint NAME`: {others}"
        if others
        else "train a new run"
    )


def is_intact(path: Path) -> bool:
    """Whether every byte is as it was written; of an archive without our hash, whether its checksums are right.

    Errors: zipfile.BadZipFile, OSError and others for a file that is no archive.
    """
    end = path.stat().st_size - COMMENT - len(LENGTH)
    with path.open("rb") as stream:
        stream.seek(max(end, 0))
        found = stream.read()
    if found[2:].startswith(PREFIX):
        return found == LENGTH + PREFIX + _hash_before(path, end)
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


def _hash_before(path: Path, end: int) -> bytes:
    """Hexadecimal SHA-256 of the bytes before `end`."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        left = end
        while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest().encode()
