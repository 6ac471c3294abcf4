"""The data of a run and their audit, and what the training took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..core.files.artefact_tables import read_own_csv
from ..data.packs.pack import Pack
from ..data.packs.training_rows import training_rows
from ..data.problem_kinds import group_problems
from ..recipes.data_settings import DataSettings
from .class_balance import class_balance_figure
from .pages import Picture, figure_picture
from .report_data import ReportData, picture_of

SAMPLES = 4  # images a class
SAMPLED = 24  # classes shown


def class_counts_of_pack(pack: Pack, settings: DataSettings) -> pd.DataFrame:
    """Images of each class (rows) in train, val and test (columns), by the labels and splits of the training."""
    used = training_rows(pack, settings)
    counts = pd.crosstab(used.catalog["label"], used.catalog["split"])
    return counts[[name for name in ("train", "val", "test") if name in counts]].reindex(used.classes)


def data_section(report: ReportData) -> dict[str, Any] | None:
    """Counts, some images of each class, the problems of the source; None if the pack is missing."""
    pack = report.pack
    if pack is None:
        return None
    counts = class_counts_of_pack(pack, report.recipe.data)
    return {
        "counts": counts,
        "balance": figure_picture(class_balance_figure(counts), "images of each class in each split"),
        "samples": _samples(report),
        "classes_left_out": max(len(counts) - SAMPLED, 0),
        "shape": pack.images.shape,
        "dtype": str(pack.images.dtype),
        "bands": ", ".join(pack.bands),
        "source": pack.meta["source"],
        **_problems(pack.path / "problems.csv"),
    }


def _samples(report: ReportData) -> dict[str, list[Picture]]:
    """The first images of each class."""
    assert report.pack is not None
    used = training_rows(report.pack, report.recipe.data)
    samples = {}
    for name in used.classes[:SAMPLED]:
        ids = used.catalog.loc[used.catalog["label"] == name, "image_id"].head(SAMPLES)
        shown = [report.picture(image_id, f"{name}: {image_id}") for image_id in ids]
        samples[name] = [picture for picture in shown if picture]
    return samples


def _problems(path: Path) -> dict[str, Any]:
    """How many errors and warnings the source had (`problems`, empty where it had none), and their kinds."""
    if not path.is_file():
        return {"problems": {}, "groups": []}
    columns = ("image_id", "file", "problem", "severity")
    table = read_own_csv(path, "list of problems", "remove it", columns, dtype=str, keep_default_na=False)
    groups = group_problems(table)
    counts = {str(name): int(n) for name, n in table["severity"].value_counts().items()}
    return {"problems": counts, "groups": groups}


def training_section(report: ReportData) -> dict[str, Any]:
    """Epochs, curves and cost."""
    run = report.run
    done = run.history()["epoch"]
    text = "losses, scores and learning rate after each validation"
    return {
        "epochs": f"{done.iloc[-1]:.4g}" if len(done) else None,
        "best_epoch": f"{report.classifier['made_from']['best_epoch']:.4g}",
        "monitor": report.recipe.training.monitor,
        "members": report.classifier["members"],
        "cost": run.cost(),
        "curves": picture_of(run.curves_file, text) if len(done) else None,
    }
