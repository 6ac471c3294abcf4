"""`skyclass report`: one HTML page that a collaborator opens without Python."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import __version__
from ..console import say_where
from ..data.leaks import pack_of_run
from ..data.pack import Pack
from ..data.training_rows import training_rows
from ..drawing import Picture, figure_picture, file_picture, page, sheet_picture, thumbnail, thumbnail_picture
from ..errors import SkyclassError
from ..evaluation.figures import class_balance_figure
from ..files import read_json, sha256_of, write_text
from ..predictions import PREFIX, read_predictions
from ..recipe import DataRecipe
from ..run import RESUME, Run

SAMPLES = 4  # images a class in the data section
MISTAKES = 18
SHEETS = 20  # explained classes shown: bounds the size of the page


def report(run: str | Path, *, out: str | Path | None = None) -> Path:
    """Write the page of a run that has been evaluated; returns it.

    Explanations are shown where `skyclass explain` has made them.
    Errors: SkyclassError where the run has not ended or has no evaluation.
    """
    finished = Run.open(Path(run))
    if not finished.finished:
        raise SkyclassError("the run has not ended", where=run, fix=RESUME)
    if not (finished.evaluation / "metrics.json").is_file():
        raise SkyclassError("the run has no evaluation", where=run, fix=f"run `skyclass evaluate {run}` first")
    metrics = read_json(finished.evaluation / "metrics.json", "evaluation")
    stale = metrics["predictions_sha256"] != sha256_of(finished.predictions_file)
    if stale:
        fix = f"run `skyclass evaluate {run}` again"
        raise SkyclassError("the evaluation is of other predictions than the run's", where=run, fix=fix)
    target = Path(out) if out else finished.report_file
    write_text(target, page("report.html.j2", _content(finished, metrics)))
    say_where("Report", target)
    return target


def _content(run: Run, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    recipe, origin = run.recipe(), run.origin()
    frame, classes, _ = read_predictions(run.predictions_file)
    pack = pack_of_run(run)  # a report is owed without it too
    classifier = read_json(run.classifier / "classifier.json", "classifier")
    done, best_epoch = pd.read_csv(run.history_file)["epoch"], classifier["made_from"]["best_epoch"]
    sheets = _sheets(run, classes)
    return {
        "name": recipe.name,
        "about": recipe.about,
        "metrics": metrics,
        "rows": _class_rows(metrics),
        "chance_loss": math.log(len(classes)),
        "epochs": f"{done.iloc[-1]:.4g}" if len(done) else None,
        "best_epoch": f"{best_epoch:.4g}",
        "monitor": recipe.training.monitor,
        "cost": run.cost(),
        "data": _data(pack, recipe.data) if pack else None,
        "pack_path": origin["pack"],
        "curves": file_picture(run.curves_file, "losses, scores and learning rate after each validation")
        if len(done)
        else None,
        "confusion": file_picture(run.evaluation / "confusion.png", "confusion matrix: rows true, columns predicted"),
        "roc": file_picture(run.evaluation / "roc.png", "ROC curve of each class against the rest"),
        "sheets": sheets[:SHEETS],
        "sheets_left_out": len(sheets[SHEETS:]),
        "mistakes": _mistakes(frame, classes, metrics["split"], pack),
        # A part begins where a line is not indented; the short ones that come first are one part.
        "recipe": re.split(r"\n(?=[a-z_]+:\n)", run.recipe_file.read_text(encoding="utf-8").strip()),
        "environment": read_json(run.environment_file, "environment"),
        "hashes": {
            "pack": origin["pack_hash"],
            "recipe": classifier["made_from"]["recipe"],
            "weights": classifier["weights_sha256"],
            "predictions": metrics["predictions_sha256"],
        },
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d at %H:%M UTC"),
    }


def _data(pack: Pack, recipe: DataRecipe) -> dict[str, Any]:
    """The data section: counts, and some images of each class, by the labels and splits of the training."""
    used = training_rows(pack, recipe)
    catalog = used.catalog
    counts = pd.crosstab(catalog["label"], catalog["split"])
    counts = counts[[name for name in ("train", "val", "test") if name in counts]].reindex(used.classes)
    samples: dict[str, list[Picture]] = {}
    for name in used.classes:
        rows = catalog.index[catalog["label"] == name][:SAMPLES]
        samples[name] = [_thumbnail(pack, row, f"{name}: {catalog['image_id'].iloc[row]}") for row in rows]
    return {
        "counts": counts,
        "balance": figure_picture(class_balance_figure(counts), "images of each class in each split"),
        "samples": samples,
        "shape": pack.images.shape,
        "dtype": str(pack.images.dtype),
        "bands": ", ".join(pack.bands),
        "source": pack.meta["source"],
        "problems": _problem_counts(pack.path / "problems.csv"),
    }


def _thumbnail(pack: Pack, row: int, text: str) -> Picture:
    return thumbnail_picture(thumbnail(np.asarray(pack.images[row])), text)


def _problem_counts(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    counts = pd.read_csv(path)["severity"].value_counts()
    return {str(name): int(n) for name, n in counts.items()}


def _class_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a class for the table: images, completeness, purity, AUROC."""
    matrix = np.asarray(metrics["confusion_matrix"])
    return [
        {
            "name": name,
            "n": int(matrix[k].sum()),
            "accuracy": metrics["accuracy_per_class"][name],
            "purity": float(matrix[k, k] / max(matrix[:, k].sum(), 1)),
            "auroc": metrics["auroc_per_class"][name],
        }
        for k, name in enumerate(metrics["classes"])
    ]


def _sheets(run: Run, classes: list[str]) -> list[Picture]:
    """The sheets of `skyclass explain`, in the order of the classes."""
    listed = run.explanations / "explanations.csv"
    if not listed.is_file():
        return []
    table = pd.read_csv(listed, dtype=str, keep_default_na=False)
    key = "label" if (table["label"] != "").all() else "predicted"
    named = dict(zip(table["sheet"], table[key], strict=True))
    order = [name for name in classes if name in named.values()]
    files = sorted(named, key=lambda file: order.index(named[file]) if named[file] in order else len(order))
    return [sheet_picture(run.explanations / file, f"Grad-CAM maps of {named[file]}") for file in files]


def _mistakes(frame: pd.DataFrame, classes: list[str], split: str, pack: Pack | None) -> dict[str, Any]:
    """The wrong predictions that the classifier was surest of."""
    judged = frame[frame["label"].isin(classes) & frame["predicted"].notna()]
    if split != "all":
        judged = judged[judged["split"] == split]
    wrong = judged[judged["label"] != judged["predicted"]].sort_values("confidence", ascending=False).head(MISTAKES)
    rows = [{**row, "p_true": row[f"{PREFIX}{row['label']}"]} for row in wrong.to_dict("records")]
    place = {name: row for row, name in enumerate(pack.catalog["image_id"])} if pack else {}
    for row in rows:
        text = f"{row['image_id']}: {row['label']} taken for {row['predicted']}"
        row["picture"] = _thumbnail(pack, place[row["image_id"]], text) if pack else None
    return {"rows": rows, "all": int((judged["label"] != judged["predicted"]).sum())}
