"""The pictures of an explanation: maps of the images chosen, the surest mistakes, and grades of the methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...classifier.chosen_images import Images, predicted_batches, source_images
from ...classifier.classifier import Classifier
from ...classifier.prediction_formats import read_predictions
from ...classifier.run import Run
from ...core.console import progress, say
from ...core.errors import SkyclassError
from ...explanation.grading import MapSettings, has_substructure, write_grades
from ...explanation.grading import grade as grade_maps
from ...explanation.methods import CLASS_ACTIVATION, METHODS
from ...explanation.output import (
    FEW_CELLS,
    ExplanationFolder,
    Sheet,
    caption,
)
from ...models.network import backbone_stages

MISTAKES = 12  # on their sheet


def draw(
    model: Classifier,
    images: Images,
    chosen: pd.DataFrame,
    target: str,
    how: MapSettings,
    pictures: ExplanationFolder,
    fits: bool,
) -> None:
    """Explain these rows, a batch at a time."""
    cells = None
    with progress("Explaining", len(chosen)) as advance:
        for rows, pixels, table in predicted_batches(model, images, chosen):
            if not pictures.rows:
                cells = _cells(model, pixels, how)
            table["explained"], table["method"] = _targets(table, target, model.classes), how.method
            table["layer"], table["cells"] = how.layer, cells
            heatmaps = how.maps(model, pixels, table["explained"].tolist())
            pictures.add(pixels, heatmaps, table, source_images(model, images, rows) if fits else None)
            advance(len(rows))


def _cells(model: Classifier, images: np.ndarray, how: MapSettings) -> str | None:
    """Cells of the maps of such images, as in 7x7, and a word where they are few; None for maps pixel by pixel."""
    if how.method not in CLASS_ACTIVATION:
        return None
    own = how.cells(model, images)
    if min(own) < FEW_CELLS:
        found = _finer(model, images, how.method)
        finer = f"--layer {found[0]} shows {_times(found[1])}; " if found else ""
        shrunk = f"to which {how.layer or 'the backbone'} shrinks images of {_times(images.shape[2:])} pixels"
        say(f"The maps have {_times(own)} cells, {shrunk}: {finer}larger images (pixels.size) show more")
    return _times(own)


def _finer(model: Classifier, images: np.ndarray, method: str) -> tuple[str, tuple[int, int]] | None:
    """The deepest stage of the backbone with maps that are not coarse, and its cells; None where none is known."""
    for name in reversed(backbone_stages(model.networks[0])):
        try:
            size = model.map_size(images, method, name)
        except SkyclassError:  # its output is no feature map
            continue
        if min(size) >= FEW_CELLS:
            return name, size
    return None


def _times(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _targets(table: pd.DataFrame, target: str, classes: list[str]) -> list[str]:
    if target == "predicted":
        return table["predicted"].tolist()
    if target == "true":
        # An unlabelled image, or one of a class unknown to the classifier, is explained by its prediction.
        return table["label"].where(table["label"].isin(classes), table["predicted"]).tolist()
    return [target] * len(table)


def _surest(path: Path, source: str | Path | None, explained: pd.DataFrame, model: Classifier) -> list[str]:
    """Ids of the mistakes that the classifier was surest of: of the run's test, or among the images explained."""
    table = explained
    if source is None:
        table = read_predictions(Run.open(path).predictions_file)[0]
        table = table[table["split"] == "test"]
    table = table[table["label"].isin(model.classes) & table["predicted"].notna()]
    wrong = table[table["label"] != table["predicted"]]
    return wrong.sort_values("confidence", ascending=False, kind="stable")["image_id"].head(MISTAKES).tolist()


def mistakes_of(
    model: Classifier,
    images: Images,
    path: Path,
    source: str | Path | None,
    pictures: ExplanationFolder,
    how: MapSettings,
) -> Sheet:
    """The sheet of the surest mistakes, the surest first, with the maps of the classes predicted.

    They are those of the test of the run at `path`; with a source, those among the images of the pictures.
    """
    sheet, ids = Sheet(), _surest(path, source, pd.DataFrame(pictures.rows), model)
    rows = images.catalog[images.catalog["image_id"].isin(ids)]
    rows = rows.loc[rows["image_id"].map({name: k for k, name in enumerate(ids)}).sort_values().index]
    for _, pixels, table in predicted_batches(model, images, rows):
        table["explained"] = table["predicted"]
        heatmaps = how.maps(model, pixels, table["explained"].tolist())
        for image, heatmap, row in zip(pixels, heatmaps, table.to_dict("records"), strict=True):
            sheet.add(image, heatmap, f"{row['image_id'][-30:]}\n{caption(row)}")
    return sheet


def grade_methods(
    model: Classifier, images: Images, chosen: pd.DataFrame, target: str, layer: str | None, folder: Path
) -> None:
    """Grade all methods on these images, and log the grades."""
    parts, classes, truth, labels = [], [], [], []
    for rows, pixels, table in predicted_batches(model, images, chosen):
        parts.append(pixels)
        explained = _targets(table, target, model.classes)
        classes += explained
        labels += table["label"].tolist()
        for name, row in zip(explained, rows.to_dict("records"), strict=True):
            truth.append(row if name == row["label"] and has_substructure(row) else None)
    if not any(name in model.classes for name in labels):
        say("No image has a label: whether the network is better than chance is not known")
    with progress("Grading", len(METHODS) * len(classes)) as advance:
        grades = grade_maps(model, np.concatenate(parts), classes, truth, advance, layer, labels)
    for line in write_grades(grades, folder):
        say(line)
