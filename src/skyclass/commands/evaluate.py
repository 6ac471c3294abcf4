"""`skyclass evaluate`: how good a set of predictions is, from the predictions file alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.arguments import check_out
from ..core.console import shown_messages
from ..core.errors import SkyclassError
from .options.shared import Check, Device


@shown_messages()
def evaluate(
    path: Annotated[Path | str, typer.Argument(help="a run or a predictions file")],
    *,
    out: Annotated[Path | str | None, typer.Option(help="folder for the metrics and figures")] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all (default: test where known)")] = None,
    by: Annotated[
        Sequence[str],
        typer.Option(metavar="COLUMN", help="accuracy against a column, such as a magnitude; repeat for more"),
    ] = (),
    catalog: Annotated[
        Path | str | None, typer.Option(help="a table or a pack with the columns (default: the run's pack)")
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="compare scores of uncertainty that need a run's networks again")
    ] = False,
    device: Device = "auto",
    check: Check = False,
) -> dict[str, Any]:
    """Evaluate predictions against their labels, with 95 % intervals.

    Writes `metrics.json`, the same scores as a table `metrics.csv`, `classification_report.txt`, `confusion.png`,
    `roc.png`, `precision_recall.png`, `reliability.png` and `uncertainty.png`, and where the file has prediction sets,
    `prediction_sets.png` and the objects without exactly one class in `ambiguous.csv`. Scores have 95 % intervals
    (`metrics.compute_metrics`). Rows without a label or a prediction do not count. The model card of a run's classifier
    shows these scores, unless they go elsewhere by `out`.

    Parameters
    ----------
    path : str or Path
        The folder of a run, or a predictions file.
    out : str or Path, optional
        The folder to write into. By default `evaluation` in the run, or beside the file.
    split : str, optional
        train, val, test or all. By default test if the file has a test split, else all.
    by : sequence of str
        Columns against which the accuracy is drawn, into `by_<column>.png` and `.csv`; of the predictions, of
        `catalog`, or of the run's pack.
    catalog : str or Path, optional
        A table with a row an image, or a pack.
    uncertainty : bool
        Whether to compare all scores of uncertainty that a run can give, and not only those that its predictions hold:
        the disagreement of an ensemble, Monte Carlo dropout, the orientations of the images. Its networks predict up to
        5,000 of the images some nine times.
    device : str
        Where they do: auto, cpu, cuda or cuda:N.
    check : bool
        Whether to compare every byte of the run and its pack with their hashes first.

    Returns
    -------
    dict
        The content of `metrics.json`.

    Raises
    ------
    SkyclassError
        For a run that has not ended, a split without predictions, labels that are no classes, and unknown columns.
    """
    from ..classifier.run import Run, is_run, predictions_of
    from ..core.console import say_where
    from ..core.files.replacing import new_contents
    from ..reports.model_card import write_card
    from ..training.verify import check_run
    from .steps.evaluate import evaluated_files, read_data, write_evaluation

    path = Path(path)
    file, run = predictions_of(path), Run.open(path) if is_run(path) else None
    if check and run is None:
        raise SkyclassError("a file of predictions has no hashes to check", where="--check", fix="name the run")
    if check and run:
        check_run(run)
    if uncertainty and run is None:
        what = "the networks are asked again, and a file of predictions has none"
        raise SkyclassError(what, where="--uncertainty", fix="name the run")
    usual = run.evaluation if run else path.parent / f"{path.stem}-evaluation"
    folder = check_out(Path(out) if out else usual)
    data = read_data(file, run, folder, split, by, catalog, sampled_on=device if uncertainty else None)
    with new_contents(folder, "metrics.json", lambda: evaluated_files(folder)) as new:
        result = write_evaluation(replace(data, folder=new))
    if run and folder == run.evaluation:
        write_card(run, result)
    say_where("Evaluation", folder)
    return result
