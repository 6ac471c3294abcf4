"""`skyclass compare`: runs side by side, on the same test images where they share them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.console import shown_messages

if TYPE_CHECKING:
    import pandas as pd


@shown_messages()
def compare(
    runs: Annotated[
        Sequence[Path | str], typer.Argument(help="runs that have ended; the first is what the others are held against")
    ],
    *,
    out: Annotated[Path | str, typer.Option(help="folder for the tables and the figure")] = "comparison",
    split: Annotated[str, typer.Option(help="train, val, test or all")] = "test",
    reported: Annotated[
        bool, typer.Option("--reported", help="with the figures that the authors of published systems report")
    ] = False,
) -> pd.DataFrame:
    """Put runs side by side: cost, scores with intervals, and whether they differ on the same test images.

    Writes `comparison.md`, which is printed too, `comparison.csv` and `comparison.png`. The other runs are tested
    against the first one, on the images that both were tested on: a paired bootstrap of each score, and McNemar's exact
    test of the accuracy. Images are the same where their id and label are, and the packs are one or the files are the
    same.

    Parameters
    ----------
    runs : sequence of str or Path
        Folders of runs.
    out : str or Path
        The folder to write into.
    split : str
        The split whose images are compared: train, val, test or all.
    reported : bool
        Whether to add what the authors of a published system reported, as the recipes cite them.

    Returns
    -------
    DataFrame
        One row a method: parameters, time, memory, and scores with the ends of their 95 % intervals.

    Raises
    ------
    SkyclassError
        For no run, the same run twice, and a run that has not ended or has no such split.
    """
    from ..classifier.run import Run
    from ..core.console import say_where
    from .steps.compare import reported_rows, rows_of_runs, write_comparison

    opened = [Run.open(Path(path)) for path in runs]
    rows = rows_of_runs(opened, split)
    if reported:
        rows += reported_rows(opened)
    table = write_comparison(rows, split, Path(out))
    say_where("Comparison", Path(out))
    return table
