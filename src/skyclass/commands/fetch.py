"""`skyclass fetch`: public data sets, with their licence and citation beside them."""

from __future__ import annotations

import errno
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from ..core.console import say, say_where, shown_messages
from ..core.errors import SkyclassError
from ..core.files.atomic_files import read_json, write_json, write_text
from ..data.public.download import HUB_FOLDER, download
from ..data.public.mirabest import CONVERSIONS
from ..data.public.registry import PublicDataset, find_dataset, read_datasets
from ..data.public.unpack import extract, is_archive

RECORD = "source.json"  # written last: where it is, the data are whole
CITATION = "CITATION.txt"
STAGE = ".unpacking"


@shown_messages()
def fetch(name: str | None = None, *, out: str | Path | None = None) -> Path | None:
    """Download, check and unpack a public data set.

    A call that was interrupted resumes where it stopped; one for what is there already does nothing. Archives are
    removed once they are unpacked. The folder gets `CITATION.txt` and `source.json`.

    Parameters
    ----------
    name : str, optional
        The data set; without one, all are listed.
    out : str or Path, optional
        The folder. By default one with the name of the data set.

    Returns
    -------
    Path or None
        The folder; None where the data sets were listed.

    Raises
    ------
    SkyclassError
        For an unknown name, without a network and for every refusal of a host, with a fix.
    """
    if name is None:
        list_datasets()
        return None
    dataset = find_dataset(name)
    folder = Path(out or name)
    if folder.exists() and not folder.is_dir():
        raise SkyclassError("it is a file, not a folder", where=folder, fix="name another folder with --out")
    if _is_whole(folder, name):
        say(f"{name} is there already")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with _located_full_disk(folder):
            _get(name, dataset, folder)
    if dataset.note:
        say(f"Note: {dataset.note}")
    say(f"Licence: {dataset.licence}")
    say(f"Please cite: {dataset.citation}")
    if not dataset.verified:
        say(f"Nobody has checked this entry of the list yet; if something is wrong, see {dataset.page}")
    say_where("Data", folder)
    say(f"Next: {next_command(dataset, folder)}")
    return folder


def list_datasets() -> None:
    """Print the data sets with size and licence on standard output."""
    table = Table("Name", "What", "Size", "Licence", "Checked", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for name, dataset in read_datasets().items():
        table.add_row(name, dataset.title, dataset.size, dataset.licence, "yes" if dataset.verified else "not yet")
    Console(highlight=False, markup=False).print(table)


def next_command(dataset: PublicDataset, folder: Path) -> str:
    """What to type after the data set has arrived in the folder."""
    return dataset.then.format(out=shlex.quote(str(folder)), classes=",".join(dataset.classes))


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


def _is_whole(folder: Path, name: str) -> bool:
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
