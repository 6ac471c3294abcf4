"""`skyclass evaluate`: how good a set of predictions is, from the predictions file alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..classifier.prediction_formats import read_predictions
from ..classifier.run import Run, is_run, predictions_of
from ..classifier.training_data import columns_of, leaked_into
from ..core.arguments import check_out
from ..core.console import say, say_where, shown_messages
from ..core.errors import SkyclassError
from ..core.files.atomic_files import read_json, sha256_of, write_json, write_text
from ..core.files.csv_files import write_csv
from ..core.files.json_documents import sealed
from ..core.files.replacing import new_contents
from ..core.plotting import save_figure
from ..evaluation import metrics
from ..evaluation.bootstrap import MAIN, score_line, score_table
from ..evaluation.calibration_report import calibration_report
from ..evaluation.caveats import evaluation_notes
from ..evaluation.figures.calibration import calibration_figures
from ..evaluation.figures.scores import accuracy_by_figure, confusion_figure, precision_recall_figure, roc_figure
from ..evaluation.figures.uncertainty import uncertainty_figure
from ..evaluation.intervals import RESAMPLES, SEED
from ..evaluation.predictions import count_unpredicted, labelled_predictions, probabilities
from ..evaluation.subgroups import IN_BIN, accuracy_by
from ..evaluation.uncertainty import compare_scores, scores_of_probabilities
from ..reports.model_card import write_card
from ..training.verify import check_run

MOST_IMAGES = 5000
"""Images for which the networks are sampled: more narrow the intervals, at nine times the cost of predicting."""


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """The predictions to evaluate, and where the results go.

    frame : all predictions of the file; rows : those of the split that were predicted, labelled or not
    labels : (N,) class names, None where unknown; p : (N, K); columns : to group by; all of `rows`
    provenance : in the metadata of the file
    uncertainty : whether the run's networks are sampled, on `device`
    """

    file: Path
    folder: Path
    run: Run | None
    frame: pd.DataFrame
    rows: pd.DataFrame
    split: str
    classes: list[str]
    labels: np.ndarray
    p: np.ndarray
    columns: pd.DataFrame
    provenance: dict[str, Any]
    uncertainty: bool
    device: str


@shown_messages()
def evaluate(
    path: str | Path,
    *,
    out: str | Path | None = None,
    split: str | None = None,
    by: Sequence[str] = (),
    catalog: str | Path | None = None,
    uncertainty: bool = False,
    device: str = "auto",
    check: bool = False,
) -> dict[str, Any]:
    """Evaluate a run or a predictions file.

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
    frame, classes, provenance = read_predictions(file)
    rows, split = labelled_predictions(frame, split, file)
    labels = rows["label"].where(rows["label"].notna() & (rows["label"] != ""), None).to_numpy(dtype=object)
    p = probabilities(rows, classes)
    columns = columns_of(rows.reset_index(drop=True), by, run, Path(catalog) if catalog else None)
    with new_contents(folder, "metrics.json", lambda: _files_of(folder)) as new:
        result = _written(
            EvaluationData(
                file, new, run, frame, rows, split, classes, labels, p, columns, provenance, uncertainty, device
            )
        )
    if run and folder == run.evaluation:
        write_card(run, result)
    say_where("Evaluation", folder)
    return result


def _written(data: EvaluationData) -> dict[str, Any]:
    """Do all that an evaluation consists of; returns its result."""
    result: dict[str, Any] = {}
    for section in SECTIONS:
        result |= section(data, result)
    result = sealed(result)
    write_json(data.folder / "metrics.json", result)
    write_csv(score_table(result), data.folder / "metrics.csv")
    return result


def _scores(data: EvaluationData, _: dict[str, Any]) -> dict[str, Any]:
    """All scores with their intervals, and what they were made from."""
    try:
        result = metrics.compute_metrics(data.labels, data.p, data.classes, resamples=RESAMPLES)
    except SkyclassError as refusal:
        place = f"{data.file}, {refusal.where}" if refusal.where else data.file
        raise SkyclassError(refusal.what, where=place, fix=refusal.fix) from None
    report = metrics.classification_report(data.labels, data.p, data.classes)
    write_text(data.folder / "classification_report.txt", report)
    say(report)
    say(f"Split {data.split}: {score_line(result)}")
    for note in evaluation_notes(result):
        say(note)
    made_from = {"split": data.split, "predictions_sha256": sha256_of(data.file)}
    return {**result, **made_from, "n_unpredicted": count_unpredicted(data.frame, data.split)}


def _pictures(data: EvaluationData, result: dict[str, Any]) -> dict[str, Any]:
    """The confusion matrix and the curves."""
    what = (data.labels, data.p, data.classes)
    save_figure(confusion_figure(result["confusion_matrix"], data.classes), data.folder / "confusion.png")
    save_figure(roc_figure(*what), data.folder / "roc.png")
    save_figure(precision_recall_figure(*what), data.folder / "precision_recall.png")
    return {}


def _near_duplicates(data: EvaluationData, result: dict[str, Any]) -> dict[str, Any]:
    """How many evaluated images are duplicates of training images, and the main scores without them.

    `near_duplicates` has `n`, the number of them (None where it is not known, and `reason` is why), and `without`,
    the main scores of the other images and their `intervals`; None where there is none, or nothing would be left.
    """
    ids = leaked_into(data.run) if data.run else "these are predictions of a file, not of a run"
    if isinstance(ids, str):
        say(f"Near-duplicates in training: not known, {ids}")
        return {"near_duplicates": {"n": None, "reason": ids, "without": None}}
    known = pd.notna(data.labels)
    doubled = data.rows["image_id"].isin(ids).to_numpy() & known
    n, without = int(doubled.sum()), None
    say(f"Near-duplicates in training: {n:,} of {result['n']:,} images")
    if 0 < n < known.sum():
        rest = metrics.compute_metrics(data.labels[~doubled], data.p[~doubled], data.classes, resamples=RESAMPLES)
        without = {"n": rest["n"], **{name: rest[name] for name in MAIN}}
        without["intervals"] = {name: rest["intervals"][name] for name in MAIN}
        without["ece_by_chance"] = rest["ece_by_chance"]
        change = result["accuracy"] - rest["accuracy"]
        verb = "raise" if change > 0 else "lower"
        effect = f"{verb} the accuracy by {abs(change):.3f}" if change else "do not change the accuracy"
        say(f"Without them: {score_line(rest)}; they {effect}")
    return {"near_duplicates": {"n": n, "reason": None, "without": without}}


def _by_columns(data: EvaluationData, result: dict[str, Any]) -> dict[str, Any]:
    """The accuracy against each requested column: a figure, a table, and `by` in the metrics."""
    if data.columns.empty:
        return {}
    known = pd.notna(data.labels)
    right = np.array(data.classes, dtype=object)[data.p[known].argmax(axis=1)] == data.labels[known]
    found = {}
    for name in map(str, data.columns):
        by = accuracy_by(data.columns[name][known], right)
        if by.table.empty:
            say(f"By {name}: no labelled image has a value")
            continue
        stem = "by_" + re.sub(r"[^\w.+-]+", "_", name)
        write_csv(by.table, data.folder / f"{stem}.csv")
        save_figure(accuracy_by_figure(by, name, result["accuracy"]), data.folder / f"{stem}.png")
        bins = by.table.astype(object).where(by.table.notna(), None).to_dict("records")
        found[name] = {"file": f"{stem}.png", "n_missing": by.n_missing, "numeric": by.numeric, "bins": bins}
        missing = f", {by.n_missing:,} images without a value" if by.n_missing else ""
        low, high = by.table["accuracy"].min(), by.table["accuracy"].max()
        if by.numeric and len(by.table) == 1:
            say(f"By {name}: one bin, with accuracy {low:.3f}; more take {IN_BIN} images each{missing}")
        else:
            say(f"By {name}: accuracy {low:.3f} to {high:.3f} in {len(by.table)} bins{missing}")
    return {"by": found}


def _files_of(folder: Path) -> list[str]:
    """The figures of columns that an earlier evaluation lists, and files that a new one may not have; the folder may be
    the user's, with files of theirs.
    """
    try:
        earlier = read_json(folder / "metrics.json", "evaluation")
    except SkyclassError:
        return ["ambiguous.csv"]  # there is none
    columns = earlier.get("by")
    found = columns.values() if isinstance(columns, dict) else ()
    files = [column.get("file") for column in found if isinstance(column, dict)]
    drawn = [name for name in files if isinstance(name, str) and re.fullmatch(r"by_[\w.+-]+\.png", name)]
    tables = [str(Path(name).with_suffix(".csv")) for name in drawn]
    return ["metrics.json", "ambiguous.csv", *drawn, *tables]


def _calibration(data: EvaluationData, _: dict[str, Any]) -> dict[str, Any]:
    """What calibration has changed, and whether the prediction sets hold what they promise."""
    found = calibration_report(data.rows, data.classes, data.provenance)
    for name, figure in calibration_figures(found).items():
        save_figure(figure, data.folder / name)
    if found.sets is not None:
        write_csv(found.sets.ambiguous, data.folder / "ambiguous.csv")
    for sentence in found.sentences():
        say(sentence)
    return found.scores


def _uncertainty(data: EvaluationData, _: dict[str, Any]) -> dict[str, Any]:
    """How well each uncertainty score separates wrong predictions from right ones: a figure, and `uncertainty`."""
    rows = np.flatnonzero(pd.notna(data.labels))
    if data.uncertainty and len(rows) > MOST_IMAGES:
        say(f"The uncertainty is evaluated on {MOST_IMAGES:,} of the {len(rows):,} images, drawn at random")
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MOST_IMAGES, replace=False))
    p = data.p[rows]
    wrong = np.array(data.classes, dtype=object)[p.argmax(axis=1)] != data.labels[rows]
    scores = scores_of_probabilities(p)
    uncertainty = data.rows["uncertainty"].to_numpy()[rows] if "uncertainty" in data.rows else scores["entropy"]
    # Where there is no such head, it is the entropy; in a file of another program it may be anything.
    if np.isfinite(uncertainty).all() and not np.allclose(uncertainty, scores["entropy"], atol=1e-4):
        scores["uncertainty_head"] = uncertainty
    if data.uncertainty and data.run:
        ids = data.rows["image_id"].iloc[rows].tolist()
        from ..classifier.sampled_uncertainty import sampled_scores  # torch, which nothing else here needs

        scores |= sampled_scores(data.run, ids, device=data.device)
    compared = compare_scores(wrong, scores, SEED)
    save_figure(uncertainty_figure(wrong, scores, compared), data.folder / "uncertainty.png")
    say(compared["advice"])
    return {"uncertainty": compared}


# The parts of an evaluation, in this order. Each takes the predictions and the result so far, writes its files,
# and returns what it adds to the result.
SECTIONS: tuple[Callable[[EvaluationData, dict[str, Any]], dict[str, Any]], ...] = (
    _scores,
    _pictures,
    _calibration,
    _near_duplicates,
    _by_columns,
    _uncertainty,
)
