"""The images of a report: explanations with their grades, mistakes, ambiguous objects."""

from __future__ import annotations

from typing import Any

from ..core.errors import SkyclassError
from ..core.files.artefact_tables import read_own_csv
from ..evaluation.caveats import caveat_of_maps
from ..evaluation.predictions import PREFIX
from ..explanation.output import FEW_CELLS, LIST, MISTAKES
from .pages import Picture, sheet_picture
from .report_data import ReportData, picture_of

MOST_MISTAKES = 18
MOST_AMBIGUOUS = 12
SHEETS = 20  # explained classes shown, if they fit
SHEET_BYTES = 4_000_000  # of all sheets in the page, which shall stay below 10 MB

METHODS = {
    "gradcam": "Grad-CAM (Selvaraju et al. 2017)",
    "gradcam++": "Grad-CAM++ (Chattopadhay et al. 2018)",
    "layercam": "Layer-CAM (Jiang et al. 2021)",
    "integrated-gradients": "Integrated gradients (Sundararajan et al. 2017)",
}


def explanations_section(report: ReportData) -> dict[str, Any]:
    """The sheets of `skyclass explain`, as many as fit, and the grades of its methods."""
    folder = report.run.explanations
    listed = folder / LIST
    if not listed.is_file():
        nothing = {"sheets": [], "left_out": 0, "method": "", "few_cells": "", "mistakes": None}
        return {**nothing, "grades": _grades(report)}
    again = f"run `skyclass explain {report.run.path}` again"
    columns = ("label", "predicted", "sheet")
    table = read_own_csv(listed, "list of explanations", again, columns, dtype=str, keep_default_na=False)
    if table.empty:
        raise SkyclassError("the list of explanations is empty", where=listed, fix=again)
    key = "label" if (table["label"] != "").all() else "predicted"
    named = dict(zip(table["sheet"], table[key], strict=True))
    order = [name for name in report.metrics["classes"] if name in named.values()]
    files = sorted(named, key=lambda file: order.index(named[file]) if named[file] in order else len(order))
    # Lists of older versions lack these columns.
    method = table["method"].iloc[0] if "method" in table else "gradcam"
    layer, cells = (table[name].iloc[0] if name in table else "" for name in ("layer", "cells"))
    is_coarse = cells != "" and min(int(side) for side in cells.split("x")) < FEW_CELLS
    sheets: list[Picture] = []
    room = SHEET_BYTES
    for file in files[:SHEETS]:
        sheet = sheet_picture(folder / file, f"maps of the evidence in images of {named[file]}")
        room -= len(sheet.uri)
        if room < 0 and sheets:
            break
        sheets.append(sheet)
    return {
        "sheets": sheets,
        "left_out": len(files) - len(sheets),
        "method": METHODS.get(method, method) + (f" of {layer}" if layer else ""),
        "few_cells": cells.replace("x", " × ") if is_coarse else "",
        "mistakes": _mistakes_sheet(report),
        "grades": _grades(report),
    }


def _mistakes_sheet(report: ReportData) -> Picture | None:
    path = report.run.explanations / MISTAKES
    if not path.is_file():
        return None
    return sheet_picture(path, "the most confident mistakes, and maps of what spoke for the class predicted")


def _grades(report: ReportData) -> dict[str, Any] | None:
    """The grades of all methods over all classes, and their figures; None where they were not graded."""
    folder = report.run.explanations
    if not (folder / "grades.csv").is_file():
        return None
    again = f"run `skyclass explain {report.run.path} --grade` again"
    columns = ("method", "class", "passed", "checks", "failed")
    numbers: tuple[str, ...] = (
        "n",
        "deletion",
        "deletion_random",
        "insertion",
        "insertion_random",
        "randomised_network",
    )
    numbers += ("stability", "heat_beyond_ring")
    table = read_own_csv(folder / "grades.csv", "table of grades", again, columns, numbers)
    table = table[table["class"] == "all"].astype(object)
    texts = {
        "curves": "deletion and insertion: the probability as the hottest pixels are deleted or inserted",
        "sanity": "maps over orientations of an image, and of networks with random weights",
        "localisation": "share of the maps’ heat near the simulated substructure",
    }
    return {
        "rows": [
            {**row, "cannot_tell": row.get("cannot_tell") or caveat_of_maps(int(row["n"]))}
            for row in table.where(table.notna(), None).to_dict("records")
        ],
        "figures": [
            picture
            for name, text in texts.items()
            if (picture := picture_of(folder / f"grades-{name}.png", text)) is not None
        ],
    }


def mistakes_section(report: ReportData) -> dict[str, Any]:
    """The wrong predictions that the classifier was surest of, and how many there are."""
    evaluated = report.evaluated
    wrong = evaluated[evaluated["label"] != evaluated["predicted"]].sort_values("confidence", ascending=False)
    rows = [{**row, "p_true": row[f"{PREFIX}{row['label']}"]} for row in wrong.head(MOST_MISTAKES).to_dict("records")]
    for row in rows:
        text = f"{row['image_id']}: {row['label']} taken for {row['predicted']}"
        row["picture"] = report.picture(row["image_id"], text)
    return {"rows": rows, "all": len(wrong)}


def ambiguous_section(report: ReportData) -> dict[str, Any] | None:
    """Objects whose prediction set does not hold exactly one class; None where `evaluate` listed none."""
    path = report.run.evaluation / "ambiguous.csv"
    if not report.metrics.get("prediction_sets") or not path.is_file():
        return None
    dtypes = dict.fromkeys(("image_id", "label", "predicted", "prediction_set"), str)
    again = f"run `skyclass evaluate {report.run.path}` again"
    columns, numbers = ("image_id", "label", "predicted", "prediction_set"), ("confidence",)
    table = read_own_csv(
        path, "list of ambiguous objects", again, columns, numbers, dtype=dtypes, keep_default_na=False
    )
    rows = table.head(MOST_AMBIGUOUS).to_dict("records")
    for row in rows:
        row["picture"] = report.picture(row["image_id"], f"{row['image_id']}, an ambiguous object")
        row["prediction_set"] = row["prediction_set"].replace("|", ", ")
    return {"rows": rows, "all": len(table)}
