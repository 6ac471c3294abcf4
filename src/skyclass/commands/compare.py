"""`skyclass compare`: runs side by side, on the same test images where they share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from ..classifier.prediction_formats import read_predictions
from ..classifier.run import Run, predictions_of
from ..classifier.run_documents import Cost
from ..core.console import say, say_where, shown_messages
from ..core.errors import SkyclassError
from ..core.files.atomic_files import write_text
from ..core.files.csv_files import write_csv
from ..core.plotting import save_figure
from ..core.sample_sizes import class_notes
from ..core.text import duration, quantity
from ..evaluation.comparison import (
    Candidate,
    comparison_markdown,
    difference,
    difference_columns,
    scores_with_intervals,
)
from ..evaluation.figures.scores import comparison_figure
from ..evaluation.intervals import RESAMPLES
from ..evaluation.metrics import labelled_rows
from ..evaluation.predictions import labelled_predictions, probabilities


@shown_messages()
def compare(
    runs: Sequence[str | Path], *, out: str | Path = "comparison", split: str = "test", reported: bool = False
) -> pd.DataFrame:
    """Compare runs that have ended.

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
    opened = [Run.open(Path(path)) for path in runs]
    names = _names(opened)
    tested = [_tested(run, name, split) for run, name in zip(opened, names, strict=True)]
    rows = []
    for run, one in zip(opened, tested, strict=True):
        found = None if one is tested[0] else difference(tested[0], one, RESAMPLES)
        if isinstance(found, str):
            say(f"{one.name}: not held against {tested[0].name}, because {found}")
        elif found and found.n < max(len(one.labels), len(tested[0].labels)):
            say(f"{one.name}: held against {tested[0].name} on the {quantity(found.n, 'test image')} that they share")
        counts = {label: int((one.labels == k).sum()) for k, label in enumerate(one.classes)}
        for note in class_notes(counts):
            say(f"{one.name}: {note}")
        what = {"method": one.name, "run": str(run.path), "recipe": run.recipe().name, **_costs(run)}
        rows.append({**what, **scores_with_intervals(one, RESAMPLES), **difference_columns(found)})
    if reported:
        rows += _reported(opened)
    folder, text, table = Path(out), comparison_markdown(rows, split), pd.DataFrame(rows)
    write_text(folder / "comparison.md", text)
    write_csv(table, folder / "comparison.csv")
    save_figure(comparison_figure(rows), folder / "comparison.png")
    Console(highlight=False, markup=False, soft_wrap=True).print(text, end="")
    say_where("Comparison", folder)
    return table


def _names(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its recipe's, with the folder where others have the same, whole where these too are alike.

    Errors: SkyclassError for no run, and the same run twice.
    """
    if not runs:
        raise SkyclassError("no run to compare", fix="name the folders that `skyclass train` made")
    repeated = [path for path, times in Counter(run.path.resolve() for run in runs).items() if times > 1]
    if repeated:
        raise SkyclassError("the run is given twice", where=repeated[0], fix="name each run once")
    recipes = [run.recipe().name for run in runs]
    names = recipes
    for folders in ([run.path.resolve().name for run in runs], [str(run.path.resolve()) for run in runs]):
        times = Counter(names)
        names = [
            name if times[name] == 1 else f"{recipe} ({folder})"
            for name, recipe, folder in zip(names, recipes, folders, strict=True)
        ]
    return names


def _tested(run: Run, name: str, split: str) -> Candidate:
    """The labelled predictions of the run's split."""
    file = predictions_of(run.path)
    frame, classes, _ = read_predictions(file)
    rows, _ = labelled_predictions(frame, split, file)
    rows = rows[rows["label"].notna()]
    labels, p, _ = labelled_rows(rows["label"], probabilities(rows, classes), classes)
    images = rows[["image_id", "file"]].reset_index(drop=True)
    return Candidate(name, run.provenance()["pack_hash"], images, labels, p, classes)


def _costs(run: Run) -> dict[str, Any]:
    """What the training took, of all members of an ensemble; None where it was not measured."""
    costs = [one.cost() for one in (map(Run, run.member_paths) if run.member_paths else [run])]
    known: list[Cost] = [cost for cost in costs if cost is not None]
    names = ("trained_parameters", "total_parameters", "seconds", "peak_memory_bytes", "time", "memory", "device")
    if len(known) < len(costs):
        return dict.fromkeys(names)
    seconds, peak = sum(cost.seconds for cost in known), max(cost.peak_memory_bytes for cost in known)
    return {
        "trained_parameters": sum(cost.trained_parameters for cost in known),
        "total_parameters": sum(cost.total_parameters for cost in known),
        "seconds": seconds,
        "peak_memory_bytes": peak,
        "time": duration(seconds),
        "memory": f"{peak / 1e9:.2g} GB",
        "device": known[0].device,
    }


def _reported(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for the figures that each recipe cites, once where several recipes cite the same."""
    rows: dict[tuple[object, ...], dict[str, Any]] = {}
    for run in runs:
        recipe = run.recipe()
        cited = recipe.about.reported
        if cited is None:
            continue
        scores = ", ".join(f"{name} {value:.4g}" for name, value in cited.scores.items())
        row = {"method": f"{recipe.name}, as reported", "reported_by": f"reported by {cited.source}: {scores}"}
        rows.setdefault((cited.source, *cited.scores.items()), {**row, **cited.scores})
    if not rows:
        say("--reported: none of these recipes cites figures of others")
    return list(rows.values())
