"""`skyclass inspect`: the audit of a source, before a network learns it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.arguments import check_out
from ..core.console import shown_messages
from ..data.source_options import SourceOptions
from .options.shared import Check
from .options.source import HowRead, SourceArgument


@shown_messages()
def inspect(
    source: SourceArgument,
    *,
    out: Annotated[Path | str | None, typer.Option(help="folder for the page, the figures and the tables")] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="find images that show the same")
    ] = True,
    run: Annotated[
        Sequence[Path | str],
        typer.Option(metavar="RUN", help="a run, or predictions file, whose held-out predictions doubt labels; repeat"),
    ] = (),
    check: Check = False,
    options: HowRead = SourceOptions(),
) -> dict[str, Any]:
    """Audit a source: classes, sizes, bad images, duplicates and leaks; with --run, likely label errors.

    With `out`, writes `inspect.html`, a page that needs no other file, and what it is made of: `summary.json`,
    `problems.csv`, `duplicates.csv`, `classes.csv`, `classes.png`, `samples.png`, and with runs `label_errors.csv`.

    Parameters
    ----------
    source : str or Path
        As `pack` takes it.
    out : str or Path, optional
        The folder to write into.
    duplicates : bool
        Whether to find copies of one picture, however turned, mirrored, cropped or brightened.
    run : sequence of str or Path
        Runs (or predictions files) whose held-out predictions rank the labels by how likely they are wrong.
    check : bool
        Whether to compare every byte of a pack with its hashes first.
    options : SourceOptions
        How the source is read.

    Returns
    -------
    dict
        The content of `summary.json`.

    Raises
    ------
    SkyclassError
        For a source without an image, and predictions that are not of these images.
    """
    from ..core.console import say_where
    from ..data.open import open_source
    from ..reports.audit_page import write_inspection
    from .steps.inspect import audit, label_errors_of, say_summary

    if out:
        check_out(Path(out))
    opened = open_source(source, options, check=check)
    # First, so that a wrong run shows before any image is read.
    label_errors = label_errors_of(opened.catalog, run, source) if run else None
    found = audit(opened, source, label_errors, duplicates=duplicates)
    if out:
        write_inspection(Path(out), found)
    say_summary(found, Path(out) / "problems.csv" if out else None)
    if out:
        say_where("Inspection", Path(out) / "inspect.html")
    return found.summary
