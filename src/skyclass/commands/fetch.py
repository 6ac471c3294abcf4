"""`skyclass fetch`: public data sets, with their licence and citation beside them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.console import shown_messages
from ..core.errors import SkyclassError

if TYPE_CHECKING:
    from ..data.public.registry import PublicDataset


@shown_messages()
def fetch(
    name: Annotated[str | None, typer.Argument(help="a public data set; without one, they are listed")] = None,
    *,
    out: Annotated[
        Path | str | None, typer.Option(help="the folder (default: one with the name of the data set)")
    ] = None,
) -> Path | None:
    """Download a public data set, with its licence and citation; without a name, list them.

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
    from ..core.console import say, say_where
    from ..data.public.dataset_folder import get_dataset, is_whole
    from ..data.public.registry import find_dataset

    if name is None:
        list_datasets()
        return None
    dataset = find_dataset(name)
    folder = Path(out or name)
    if folder.exists() and not folder.is_dir():
        raise SkyclassError("it is a file, not a folder", where=folder, fix="name another folder with --out")
    if is_whole(folder, name):
        say(f"{name} is there already")
    else:
        get_dataset(name, dataset, folder)
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
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..data.public.registry import read_datasets

    table = Table("Name", "What", "Size", "Licence", "Checked", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for name, dataset in read_datasets().items():
        table.add_row(name, dataset.title, dataset.size, dataset.licence, "yes" if dataset.verified else "not yet")
    Console(highlight=False, markup=False).print(table)


def next_command(dataset: PublicDataset, folder: Path) -> str:
    """What to type after the data set has arrived in the folder."""
    return dataset.then.format(out=shlex.quote(str(folder)), classes=",".join(dataset.classes))
