"""`skyclass evaluate`: how good a set of predictions is, from the predictions file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..console import say, say_where
from ..drawing import save_figure
from ..errors import SkyclassError
from ..evaluation import metrics
from ..evaluation.figures import confusion_figure, roc_figure
from ..files import sha256_of, write_json, write_text
from ..predictions import probabilities, read_predictions
from ..run import RESUME, Run, is_run


def evaluate(path: str | Path, *, out: str | Path | None = None, split: str | None = None) -> dict[str, Any]:
    """Judge a run or a predictions file; returns what `metrics.json` holds.

    Writes `metrics.json`, `classification_report.txt`, `confusion.png` and `roc.png` into `out` (default: `evaluation`
    in the run, or beside the file). `split` is train, val, test or all (default: test where the file knows a test
    split, else all). Rows without a label or a prediction do not count.
    """
    path = Path(path)
    file, folder = path, path.parent / f"{path.stem}-evaluation"
    if is_run(path):
        run = Run.open(path)
        if not run.finished:
            raise SkyclassError("the run has not ended: it has no predictions", where=path, fix=RESUME)
        file, folder = run.predictions_file, run.evaluation
    folder = Path(out) if out else folder
    frame, classes, _ = read_predictions(file)
    rows, split = judged_rows(frame, split, file)
    labels, p = rows["label"].to_numpy(dtype=object), probabilities(rows, classes)
    try:
        result = metrics.evaluate(labels, p, classes)
    except SkyclassError as refusal:
        place = f"{file}, {refusal.where}" if refusal.where else file
        raise SkyclassError(refusal.what, where=place, fix=refusal.fix) from None
    result |= {"split": split, "n_unpredicted": _unpredicted(frame, split), "predictions_sha256": sha256_of(file)}
    write_json(folder / "metrics.json", result)
    report = metrics.classification_report(labels, p, classes)
    write_text(folder / "classification_report.txt", report)
    save_figure(confusion_figure(result["confusion_matrix"], classes), folder / "confusion.png")
    save_figure(roc_figure(labels, p, classes), folder / "roc.png")
    say(report)
    say(f"Split {split}: {_in_words(result)}")
    say_where("Evaluation", folder)
    return result


def _in_words(result: dict[str, Any]) -> str:
    """The scores in one line; an AUROC needs two classes among the labels."""
    names = ("accuracy", "balanced_accuracy", "auroc_macro", "log_loss")
    shown = ["undefined" if result[name] is None else f"{result[name]:.4f}" for name in names]
    return ", ".join(
        [f"{result['n']:,} images", *(f"{name} {value}" for name, value in zip(names, shown, strict=True))]
    )


def judged_rows(frame: pd.DataFrame, split: str | None, where: Path) -> tuple[pd.DataFrame, str]:
    """The predicted rows of the split, and its name. Errors: SkyclassError for a split without rows."""
    known = frame["split"] if "split" in frame else pd.Series(index=frame.index, dtype=object)
    if split is None:
        split = "test" if (known == "test").any() else "all"
    rows = frame if split == "all" else frame[known == split]
    rows = rows[rows["predicted"].notna()] if "predicted" in rows else rows.dropna(how="all")
    if "label" not in rows:
        rows = rows.assign(label=None)
    if rows.empty:
        have = ", ".join(sorted(set(known.dropna()))) or "none"
        raise SkyclassError(f"no prediction in the split {split!r}", where=where, fix=f"the splits here are {have}")
    return rows, split


def _unpredicted(frame: pd.DataFrame, split: str) -> int:
    """Images of the split that could not be predicted."""
    rows = frame if split == "all" else frame[frame["split"] == split]
    return int(rows["error"].notna().sum()) if "error" in rows else 0
