"""`skyclass explain`: maps of the evidence for a class, image by image, and grades of how reliable they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..classifier.classifier import Classifier
from ..classifier.prediction_formats import read_predictions
from ..classifier.run import Run, is_run
from ..core.arguments import check_at_least_one, check_out
from ..core.console import progress, say, say_where
from ..core.devices import pick_device
from ..core.errors import SkyclassError
from ..core.files.replacing import new_contents
from ..data.open import open_source
from ..data.packs.pack import Pack
from ..data.packs.training_rows import training_rows
from ..data.source_options import SourceOptions
from ..explanation.grading import MapSettings, has_substructure, write_grades
from ..explanation.grading import grade as grade_maps
from ..explanation.methods import CLASS_ACTIVATION, METHODS, check_method
from ..explanation.output import (
    FEW_CELLS,
    LIST,
    ExplanationFolder,
    Sheet,
    SourceImage,
    caption,
    listed_files,
    source_image,
)
from ..images.decode import decode_files, decode_rows
from ..models.network import BATCH, backbone_stages, check_names

MISTAKES = 12  # on their sheet


class Images(NamedTuple):
    """Where images come from: a catalog, and the pack that it belongs to, if any."""

    catalog: pd.DataFrame
    pack: Pack | None
    place: Path


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
    """Draw maps of the evidence for a class; returns the folder.

    Writes a picture an image (original, overlay, heatmap), a sheet a class, `mistakes.png` of the surest mistakes where
    there are any, and `explanations.csv` that lists them.

    source : pack, folder, table or image file; default: the test images of the run's pack
    image : ids of the images to explain; default: the first `per_class` of every class
    target : the class explained: predicted, true, or the name of one
    method : gradcam, gradcam++, layercam or integrated-gradients
    layer : the backbone's module whose output is mapped, such as layer3; its last feature map where None
    fits : write each map as a FITS file too, of the original image's size and with its WCS
    grade : grade all methods, those that map a layer at this one, on the images named or the first `grade_per_class`
        of every class: `grades.csv`, `grades.json` and figures
    options : how the source is read
    check : first compare every byte of the pack with its hashes
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
    images = _images_of(path, source, options, check=check)
    chosen = _choose(images, image, per_class, model.classes, only_test=source is None)
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
        graded = chosen if image else _choose(images, (), grade_per_class, model.classes, only_test=source is None)
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
        for rows, pixels, table in _predicted(model, images, chosen):
            if not pictures.rows:
                cells = _cells(model, pixels, how)
            table["explained"], table["method"] = _targets(table, target, model.classes), how.method
            table["layer"], table["cells"] = how.layer, cells
            heatmaps = how.maps(model, pixels, table["explained"].tolist())
            pictures.add(pixels, heatmaps, table, _source_images(model, images, rows) if fits else None)
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


def _images_of(path: Path, source: str | Path | None, options: SourceOptions, *, check: bool) -> Images:
    """The source, or the images of the run's pack, with the labels and splits that the training went by.

    Errors: SkyclassError where there is neither, and where the pack has changed since.
    """
    if source is not None:
        opened = open_source(Path(source), options, check=check)
        return Images(opened.catalog, opened.pack, Path(source))
    if not is_run(path):
        fix = "name a pack, folder, table or image file after it"
        raise SkyclassError("a classifier by itself has no images", where=path, fix=fix)
    run = Run.open(path)
    place = Path(run.provenance()["pack"])
    pack = open_source(place, options, check=check).pack
    if pack is None or pack.hash != run.provenance()["pack_hash"]:
        fix = "name the images to explain after the run"
        raise SkyclassError("the pack has changed since the run was trained on it", where=place, fix=fix)
    return Images(training_rows(pack, run.recipe().data).catalog, pack, place)


def _choose(images: Images, ids: Sequence[str], per_class: int, classes: list[str], *, only_test: bool) -> pd.DataFrame:
    """The rows to explain; the index keeps their row numbers in the catalog."""
    catalog = images.catalog
    if ids:
        missing = [name for name in ids if name not in set(catalog["image_id"])]
        if missing:
            near = ", ".join(catalog["image_id"].head(3))
            fix = f"ids here look like {near}"
            raise SkyclassError(f"no image has the id {missing[0]!r}", where=images.place, fix=fix)
        return catalog[catalog["image_id"].isin(ids)]
    if only_test and (catalog["split"] == "test").any():
        catalog = catalog[catalog["split"] == "test"]
    labelled = catalog[catalog["label"].isin(classes)]
    if labelled.empty:
        return catalog.head(per_class * len(classes))
    return labelled.groupby("label", sort=False).head(per_class)


def _predicted(
    model: Classifier, images: Images, chosen: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, np.ndarray, pd.DataFrame]]:
    """A batch at a time: the rows whose images could be read, their pixels (n, C, h, w), and their predictions."""
    for start in range(0, len(chosen), BATCH):
        rows = chosen.iloc[start : start + BATCH]
        if images.pack:
            recipes = model.remaining_settings(images.pack.pixels, images.place)
            decoded = list(decode_rows(images.pack.images, rows.index, images.pack.bands, recipes))
        else:
            decoded = list(decode_files(rows["file"].tolist(), model.pixels))
        for file, one in zip(rows["file"], decoded, strict=True):
            if one.error:
                say(f"left out: {file}: {one.error}")
        good = [one for one in decoded if one.pixels is not None]
        rows = rows[[one.pixels is not None for one in decoded]]
        if not good:
            continue
        table = model.frame(rows["image_id"].tolist(), good)
        for name in ("image_id", "label", "file"):
            table[name] = rows[name].to_numpy(dtype=object)
        yield rows, np.stack([one.pixels for one in good if one.pixels is not None]), table


def _targets(table: pd.DataFrame, target: str, classes: list[str]) -> list[str]:
    if target == "predicted":
        return table["predicted"].tolist()
    if target == "true":
        # An unlabelled image, or one of a class unknown to the classifier, is explained by its prediction.
        return table["label"].where(table["label"].isin(classes), table["predicted"]).tolist()
    return [target] * len(table)


def _source_images(model: Classifier, images: Images, rows: pd.DataFrame) -> list[SourceImage]:
    """The original of each image: its file, or the image of the pack if there is no such file."""
    if images.pack is None:
        found = [source_image(file, model.pixels) for file in rows["file"]]
        return [one for one in found if one is not None]  # they have just been read
    later = model.remaining_settings(images.pack.pixels, images.place)
    height, width = images.pack.images.shape[2:]
    stored = SourceImage((height, width), later)
    return [source_image(file, [images.pack.pixels, *later]) or stored for file in rows["file"]]


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
    for _, pixels, table in _predicted(model, images, rows):
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
    for rows, pixels, table in _predicted(model, images, chosen):
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
