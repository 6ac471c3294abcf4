"""The folder of a public data set: downloaded, unpacked and converted whole, with its citation and its record."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ...core.errors import SkyclassError
from ...core.files.atomic_files import read_json, write_json, write_text
from .download import HUB_FOLDER, download
from .mirabest import CONVERSIONS
from .registry import PublicDataset
from .unpack import extract, is_archive

RECORD = "source.json"  # written last: where it is, the data are whole
CITATION = "CITATION.txt"
STAGE = ".unpacking"


def is_whole(folder: Path, name: str) -> bool:
    """Whether the folder holds the data set as it was fetched.

    Errors: SkyclassError where it holds another one, or some of it is missing or changed.
    """
    if not (folder / RECORD).is_file():
        return False
    record = read_json(folder / RECORD, "record of a fetched data set", ("name", "content"))
    fix = "fetch into another folder with --out, or delete this one"
    if record["name"] != name:
        raise SkyclassError(f"it holds the data set {record['name']}", where=folder, fix=fix)
    for entry, amount in record["content"].items():
        if not (folder / entry).exists() or _amount(folder / entry) != amount:
            raise SkyclassError(f"{entry} is not as it was fetched", where=folder, fix=fix)
    return True


def get_dataset(name: str, dataset: PublicDataset, folder: Path) -> None:
    """Download, check and unpack a data set into its folder, with its citation and the record of what was fetched.

    Errors: SkyclassError without a network, for every refusal of a host, a full disk, and files that are in the way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _located_full_disk(folder):
        _get(name, dataset, folder)


@contextmanager
def _located_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        fix = "make room and run the command again, or fetch onto another disk with --out"
        raise SkyclassError("the disk is full", where=folder, fix=fix) from None


def _get(name: str, dataset: PublicDataset, folder: Path) -> None:
    files = [download(file, folder, dataset.page) for file in dataset.files]
    archives = [file for file in files if is_archive(file)]
    made = _unpacked(dataset, archives, folder) if archives else []
    for archive in archives:
        archive.unlink()
    shutil.rmtree(folder / HUB_FOLDER, ignore_errors=True)
    text = (dataset.title, dataset.note, dataset.citation, f"Licence: {dataset.licence}", dataset.page)
    write_text(folder / CITATION, "\n\n".join(part for part in text if part) + "\n")
    kept = [*made, *(file for file in files if file not in archives)]
    record = dataset.model_dump(mode="json", include={"title", "files", "licence", "citation", "page", "found_in"})
    fetched = datetime.now(UTC).isoformat(timespec="seconds")
    content = {entry.name: _amount(entry) for entry in sorted(kept)}
    write_json(folder / RECORD, {"name": name, "fetched": fetched, "content": content, **record})


def _unpacked(dataset: PublicDataset, archives: Sequence[Path], folder: Path) -> list[Path]:
    """Unpack and convert aside, then move the result into the folder, so that a part is never taken for the whole."""
    stage = folder / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        for archive in archives:
            extract(archive, stage)
        if dataset.convert:
            CONVERSIONS[dataset.convert](stage)
        made = sorted(stage.iterdir())
        for entry in made:
            if (folder / entry.name).exists():
                fix = "delete it, or fetch into another folder with --out"
                raise SkyclassError(
                    "a file or folder of the data set is there already", where=folder / entry.name, fix=fix
                )
        return [entry.rename(folder / entry.name) for entry in made]
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _amount(entry: Path) -> dict[str, int]:
    """Files and bytes of an entry of the folder."""
    sizes = [path.stat().st_size for path in (entry.rglob("*") if entry.is_dir() else [entry]) if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)}
