"""`skyclass explain`: maps of the evidence for a class, image by image, and grades of how reliable they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..classifier.chosen_images import Images, choose, images_of, predicted_batches, source_images
from ..classifier.classifier import Classifier
from ..classifier.prediction_formats import read_predictions
from ..classifier.run import Run, is_run
from ..core.arguments import check_at_least_one, check_out
from ..core.console import progress, say, say_where, shown_messages
from ..core.devices import pick_device
from ..core.errors import SkyclassError
from ..core.files.replacing import new_contents
from ..data.source_options import SourceOptions
from ..explanation.grading import MapSettings, has_substructure, write_grades
from ..explanation.grading import grade as grade_maps
from ..explanation.methods import CLASS_ACTIVATION, METHODS, check_method
from ..explanation.output import (
    FEW_CELLS,
    LIST,
    ExplanationFolder,
    Sheet,
    caption,
    listed_files,
)
from ..models.network import backbone_stages, check_names

MISTAKES = 12  # on their sheet


@shown_messages()
def explain(
    classifier: str | Path,
    source: str | Path | None = None,
    *,
    out: str | Path | None = None,
    image: Sequence[str] = (),
    per_class: int = 6,
    target: str = "predicted",
    method: str = "gradcam",
    layer: str | None = None,
    fits: bool = False,
    grade: bool = False,
    grade_per_class: int = 24,
    device: str = "auto",
    check: bool = False,
    options: SourceOptions = SourceOptions(),
) -> Path:
    """Draw maps of the evidence for a class.

    Writes a picture an image (original, overlay, heatmap), a sheet a class, `mistakes.png` of the surest mistakes where
    there are any, and `explanations.csv` that lists them.

    Parameters
    ----------
    classifier : str or Path
        The folder of a classifier or of a run.
    source : str or Path, optional
        As `pack` takes it. By default the test images of the run's pack.
    out : str or Path, optional
        The folder. By default `explanations`, in the run if it is one.
    image : sequence of str
        Ids of the images to explain. By default the first `per_class` of every class.
    per_class : int
        Images of each class, without `image`.
    target : str
        The class explained: predicted, true, or the name of one.
    method : str
        gradcam, gradcam++, layercam or integrated-gradients.
    layer : str, optional
        The backbone's module whose output is mapped, such as layer3. By default its last feature map.
    fits : bool
        Whether to write each map as a FITS file too, of the original image's size and with its WCS.
    grade : bool
        Whether to grade all methods, those that map a layer at this one, on the images named or the first
        `grade_per_class` of every class, into `grades.csv`, `grades.json` and figures.
    grade_per_class : int
        Images of each class that are graded, without `image`.
    device : str
        auto, cpu, cuda or cuda:N.
    check : bool
        Whether to compare every byte of the pack with its hashes first.
    options : SourceOptions
        How the source is read.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SkyclassError
        For an unknown class, method, layer or image, a pack that has changed, and where no image can be read.
    """
    check_method(method, layer)
    check_at_least_one(per_class, "--per-class", "images of a class")
    check_at_least_one(grade_per_class, "--grade-per-class", "images of a class")
    pick_device(device)
    path = Path(classifier)
    if out:
        check_out(Path(out))
    model = Classifier.load(path, device)
    if target not in ("predicted", "true", *model.classes):
        fix = f"use predicted, true, or one of {', '.join(model.classes)}"
        raise SkyclassError(f"no class is called {target!r}", where="--target", fix=fix)
    if layer is not None:
        check_names(model.networks[0], [layer], "--layer")
    folder = Path(out) if out else (Run.open(path).explanations if is_run(path) else Path("explanations"))
    images = images_of(path, source, options, check=check)
    chosen = choose(images, image, per_class, model.classes, only_test=source is None)
    key = "label" if chosen["label"].notna().all() else "predicted"
    how, mistakes = MapSettings(method, layer), Sheet()
    with new_contents(folder, LIST, lambda: listed_files(folder)) as new:
        pictures = ExplanationFolder(new, key)
        _draw(model, images, chosen, target, how, pictures, fits)
        if not pictures.rows:
            fix = "choose others with --image"
            raise SkyclassError("none of the chosen images can be read", where=images.place, fix=fix)
        if not image:
            mistakes = _mistakes(model, images, _wrong(path, source, pd.DataFrame(pictures.rows), model), how)
        pictures.finish(mistakes)
    if grade:
        graded = chosen if image else choose(images, (), grade_per_class, model.classes, only_test=source is None)
        _grade(model, images, graded, target, layer, folder)
    say_where("Explanations", folder)
    return folder


def _draw(
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


def _wrong(path: Path, source: str | Path | None, explained: pd.DataFrame, model: Classifier) -> list[str]:
    """Ids of the mistakes that the classifier was surest of: of the run's test, or among the images explained."""
    table = explained
    if source is None:
        table = read_predictions(Run.open(path).predictions_file)[0]
        table = table[table["split"] == "test"]
    table = table[table["label"].isin(model.classes) & table["predicted"].notna()]
    wrong = table[table["label"] != table["predicted"]]
    return wrong.sort_values("confidence", ascending=False, kind="stable")["image_id"].head(MISTAKES).tolist()


def _mistakes(model: Classifier, images: Images, ids: Sequence[str], how: MapSettings) -> Sheet:
    """The sheet of these mistakes, the surest first, with the maps of the classes predicted."""
    sheet = Sheet()
    rows = images.catalog[images.catalog["image_id"].isin(ids)]
    rows = rows.loc[rows["image_id"].map({name: k for k, name in enumerate(ids)}).sort_values().index]
    for _, pixels, table in predicted_batches(model, images, rows):
        table["explained"] = table["predicted"]
        heatmaps = how.maps(model, pixels, table["explained"].tolist())
        for image, heatmap, row in zip(pixels, heatmaps, table.to_dict("records"), strict=True):
            sheet.add(image, heatmap, f"{row['image_id'][-30:]}\n{caption(row)}")
    return sheet


def _grade(
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
