"""`skyclass report`: one HTML page that a collaborator opens without Python."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .. import __version__
from ..console import say_where
from ..data.pack import Pack
from ..errors import SkyclassError
from ..evaluation.figures import class_balance_figure, sample_sheet
from ..files import read_json, sha256_of, write_text
from ..predictions import PREFIX, read_predictions
from ..run import RESUME, Run

SAMPLES = 4  # images a class in the data section
MISTAKES = 18
TEMPLATES = Path(__file__).parent.parent / "templates"


class Picture(NamedTuple):
    """An image inside the page, and what it shows in words."""

    data: str
    text: str


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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(**_content(finished, metrics))
    target = Path(out) if out else finished.report_file
    write_text(target, page)
    say_where("Report", target)
    return target


def _content(run: Run, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    recipe, origin = run.recipe(), run.origin()
    frame, classes, _ = read_predictions(run.predictions_file)
    pack = _pack_of(run)
    environment = read_json(run.environment_file, "environment")
    history = pd.read_csv(run.history_file)
    classifier = read_json(run.classifier / "classifier.json", "classifier")
    return {
        "name": recipe.name,
        "about": recipe.about,
        "metrics": metrics,
        "rows": _class_rows(metrics, frame),
        "epochs": len(history),
        "best_epoch": classifier["made_from"]["best_epoch"],
        "data": _data(pack) if pack else None,
        "pack_path": origin["pack"],
        "curves": _file_picture(run.curves_file, "losses, scores and learning rate against the epoch"),
        "confusion": _file_picture(run.evaluation / "confusion.png", "confusion matrix, rows true, columns predicted"),
        "roc": _file_picture(run.evaluation / "roc.png", "ROC curve of each class against the rest"),
        "sheets": [
            _file_picture(path, f"images and Grad-CAM maps: {path.stem.removeprefix('class-')}")
            for path in sorted(run.explanations.glob("class-*.png"))
        ],
        "mistakes": _mistakes(frame, classes, metrics["split"], pack),
        "recipe": run.recipe_file.read_text(encoding="utf-8"),
        "environment": environment,
        "hashes": {
            "pack": origin["pack_hash"],
            "recipe": classifier["made_from"]["recipe"],
            "weights": classifier["weights_sha256"],
            "predictions": metrics["predictions_sha256"],
        },
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _pack_of(run: Run) -> Pack | None:
    """The pack of the run, or None where it is gone or has changed: a report is still owed."""
    origin = run.origin()
    try:
        pack = Pack.open(Path(origin["pack"]))
    except SkyclassError:
        return None
    return pack if pack.hash == origin["pack_hash"] else None


def _data(pack: Pack) -> dict[str, Any]:
    """The data section: counts, and some images of each class."""
    catalog = pack.catalog
    counts = pd.crosstab(catalog["label"], catalog["split"])
    counts = counts[[name for name in ("train", "val", "test") if name in counts]].reindex(pack.classes)
    shown = (
        catalog[catalog["label"].notna()].groupby("label", sort=True).head(SAMPLES).sort_values("label", kind="stable")
    )
    images = [np.asarray(pack.images[row]) for row in shown.index]
    sheet = sample_sheet(images, shown["label"].tolist(), columns=SAMPLES * (2 if len(pack.classes) > 3 else 1))
    problems = pack.path / "problems.csv"
    return {
        "counts": counts,
        "balance": _picture(class_balance_figure(counts), "images of each class in each split"),
        "samples": _picture(sheet, "some images of every class"),
        "shape": pack.images.shape,
        "dtype": str(pack.images.dtype),
        "bands": ", ".join(pack.bands),
        "source": pack.meta["source"],
        "problems": _problem_counts(problems),
    }


def _problem_counts(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    counts = pd.read_csv(path)["severity"].value_counts()
    return {str(name): int(n) for name, n in counts.items()}


def _class_rows(metrics: dict[str, Any], frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a class for the table: images, accuracy, AUROC."""
    judged = [sum(row) for row in metrics["confusion_matrix"]]
    return [
        {
            "name": name,
            "n": n,
            "accuracy": metrics["accuracy_per_class"][name],
            "auroc": metrics["auroc_per_class"][name],
        }
        for name, n in zip(metrics["classes"], judged, strict=True)
    ]


def _mistakes(frame: pd.DataFrame, classes: list[str], split: str, pack: Pack | None) -> dict[str, Any]:
    """The wrong predictions that the classifier was surest of."""
    judged = frame[frame["label"].isin(classes) & frame["predicted"].notna()]
    if split != "all":
        judged = judged[judged["split"] == split]
    wrong = judged[judged["label"] != judged["predicted"]].sort_values("confidence", ascending=False).head(MISTAKES)
    rows = [{**row, "p_true": row[f"{PREFIX}{row['label']}"]} for row in wrong.to_dict("records")]
    picture = None
    if pack and rows:
        place = {name: row for row, name in enumerate(pack.catalog["image_id"])}
        images = [np.asarray(pack.images[place[row["image_id"]]]) for row in rows]
        captions = [f"{row['label']}\ntaken for {row['predicted']}\n{row['confidence']:.0%} sure" for row in rows]
        picture = _picture(sample_sheet(images, captions, columns=6), "the most confident mistakes")
    return {"rows": rows, "picture": picture, "all": int((judged["label"] != judged["predicted"]).sum())}


def _picture(figure: Figure, text: str) -> Picture:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return Picture(base64.b64encode(stream.getvalue()).decode("ascii"), text)


def _file_picture(path: Path, text: str) -> Picture:
    return Picture(base64.b64encode(path.read_bytes()).decode("ascii"), text)
