"""`skyclass explain`: Grad-CAM pictures of chosen images, and a sheet of every class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..classifier import Classifier
from ..console import progress, say, say_where
from ..data.opening import open_source
from ..data.pack import Pack
from ..data.source_options import SourceOptions
from ..data.training_rows import training_rows
from ..decoding import decode_files, decode_rows
from ..drawing import save_figure
from ..errors import SkyclassError
from ..explanation.figures import class_sheet, explanation_figure
from ..files import written_whole
from ..run import Run, is_run


def explain(
    classifier: str | Path,
    source: str | Path | None = None,
    *,
    out: str | Path | None = None,
    image: Sequence[str] = (),
    per_class: int = 6,
    target: str = "predicted",
    device: str = "auto",
    options: SourceOptions = SourceOptions(),
) -> Path:
    """Draw where a classifier looks; returns the folder.

    Writes a picture an image (original, overlay, heatmap), a sheet a class, and `explanations.csv` that lists them.

    source : pack, folder, table or image file; default: the test images of the run's pack
    image : ids of the images to explain; default: the first `per_class` of every class
    target : the class explained: predicted, true, or the name of one
    options : how the source is read
    """
    if per_class < 1:
        raise SkyclassError(f"{per_class} images a class", where="--per-class", fix="ask for at least one")
    path = Path(classifier)
    model = Classifier.load(path, device)
    folder = Path(out) if out else (Run.open(path).explanations if is_run(path) else Path("explanations"))
    if source is None and not is_run(path):
        fix = "name a pack, folder, table or image file after it"
        raise SkyclassError("a classifier by itself has no images", where=path, fix=fix)
    place = Path(source) if source else Path(Run.open(path).origin()["pack"])
    opened = open_source(place, options)
    catalog = opened.catalog
    if source is None and opened.pack:
        catalog = _training_catalog(opened.pack, Run.open(path))
    chosen = _choose(catalog, image, per_class, model.classes, only_test=source is None, where=place)
    pixels, table = _predicted(model, opened.pack, chosen, place)
    table["explained"] = _targets(table, target, model.classes)
    heatmaps = model.maps(pixels, table["explained"].tolist())
    _draw(folder, pixels, heatmaps, table)
    say_where("Explanations", folder)
    return folder


def _training_catalog(pack: Pack, run: Run) -> pd.DataFrame:
    """The catalog of the run's pack, with the labels and splits that the training went by.

    Errors: SkyclassError where the pack has changed since.
    """
    if pack.hash != run.origin()["pack_hash"]:
        fix = "name the images to explain after the run"
        raise SkyclassError("the pack has changed since the run was trained on it", where=pack.path, fix=fix)
    return training_rows(pack, run.recipe().data).catalog


def _choose(
    catalog: pd.DataFrame, ids: Sequence[str], per_class: int, classes: list[str], *, only_test: bool, where: Path
) -> pd.DataFrame:
    """The rows to explain; the index keeps their row numbers in the catalog."""
    if ids:
        missing = [name for name in ids if name not in set(catalog["image_id"])]
        if missing:
            near = ", ".join(catalog["image_id"].head(3))
            raise SkyclassError(f"no image has the id {missing[0]!r}", where=where, fix=f"ids here look like {near}")
        return catalog[catalog["image_id"].isin(ids)]
    if only_test and (catalog["split"] == "test").any():
        catalog = catalog[catalog["split"] == "test"]
    labelled = catalog[catalog["label"].isin(classes)]
    if labelled.empty:
        return catalog.head(per_class * len(classes))
    return labelled.groupby("label", sort=False).head(per_class)


def _predicted(
    model: Classifier, pack: Pack | None, chosen: pd.DataFrame, where: Path
) -> tuple[np.ndarray, pd.DataFrame]:
    """Images (n, C, h, w) that could be read, and their predictions with the catalog's labels."""
    if pack:
        recipes = model.recipes_for(pack.pixels, where)
        decoded = list(decode_rows(pack.images, chosen.index, pack.bands, recipes))
    else:
        decoded = list(decode_files(chosen["file"].tolist(), model.pixels))
    for file, one in zip(chosen["file"], decoded, strict=True):
        if one.error:
            say(f"left out: {file}: {one.error}")
    readable = [one.pixels is not None for one in decoded]
    good = [one for one in decoded if one.pixels is not None]
    if not good:
        raise SkyclassError("none of the chosen images can be read", where=where, fix="choose others with --image")
    rows = chosen[readable]
    table = model.frame(rows["image_id"].tolist(), good)
    for name in ("image_id", "label", "file"):
        table[name] = rows[name].to_numpy(dtype=object)
    return np.stack([one.pixels for one in good if one.pixels is not None]), table


def _targets(table: pd.DataFrame, target: str, classes: list[str]) -> list[str]:
    if target == "predicted":
        return table["predicted"].tolist()
    if target == "true":
        # An unlabelled image, or one of a class unknown to the classifier, is explained by its prediction.
        return table["label"].where(table["label"].isin(classes), table["predicted"]).tolist()
    if target not in classes:
        fix = f"use predicted, true, or one of {', '.join(classes)}"
        raise SkyclassError(f"no class is called {target!r}", where="--target", fix=fix)
    return [target] * len(table)


def _draw(folder: Path, pixels: np.ndarray, heatmaps: np.ndarray, table: pd.DataFrame) -> None:
    """Write the pictures, the sheets and the list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old(folder)
    captions = [_caption(row) for row in table.to_dict("records")]
    table["picture"] = [f"{number:03d}-{_safe(name)}.png" for number, name in enumerate(table["image_id"], 1)]
    with progress("Drawing", len(table)) as advance:
        for row, picture in enumerate(table["picture"]):
            title = f"{table['image_id'].iloc[row]}\n{captions[row]}"
            save_figure(explanation_figure(pixels[row], heatmaps[row], title), folder / picture)
            advance(1)
    _draw_sheets(folder, pixels, heatmaps, captions, table)
    columns = ["image_id", "file", "label", "predicted", "confidence", "explained", "picture", "sheet"]
    with written_whole(folder / "explanations.csv") as part:
        table[columns].to_csv(part, index=False)


def _remove_old(folder: Path) -> None:
    """Remove the pictures and sheets that `explanations.csv` lists; other pictures in the folder are not ours."""
    listed = folder / "explanations.csv"
    if listed.is_file():
        old = pd.read_csv(listed, dtype=str)
        for name in set(old.filter(["picture", "sheet"]).to_numpy().ravel()):
            (folder / name).unlink(missing_ok=True)


def _draw_sheets(
    folder: Path, pixels: np.ndarray, heatmaps: np.ndarray, captions: list[str], table: pd.DataFrame
) -> None:
    """Write a sheet a class, and its name into the column `sheet`."""
    key = "label" if table["label"].notna().all() else "predicted"
    used: set[str] = set()
    for name, rows in table.groupby(key, sort=False).indices.items():
        file = f"class-{_safe(str(name))}.png"
        if file in used:  # of a class whose name differs in signs that file names lack
            file = f"class-{_safe(str(name))}-{len(used)}.png"
        used.add(file)
        sheet = class_sheet(
            [pixels[row] for row in rows],
            heatmaps[rows],
            [captions[row] for row in rows],
            title=f"{'Class' if key == 'label' else 'Predicted'} {name}",
        )
        save_figure(sheet, folder / file)
        table.loc[table.index[rows], "sheet"] = file


def _caption(row: Mapping[Any, Any]) -> str:
    """True class where known, prediction, and the class explained where it is another."""
    parts = [f"true {row['label']}"] if pd.notna(row["label"]) else []
    parts.append(f"predicted {row['predicted']} {row['confidence']:.0%}")
    if row["explained"] != row["predicted"]:
        parts.append(f"map for {row['explained']}")
    return "\n".join(parts)


def _safe(name: str) -> str:
    """A file name from any id."""
    return re.sub(r"[^\w.+-]+", "_", name)[-80:]
