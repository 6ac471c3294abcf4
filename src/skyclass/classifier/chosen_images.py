"""The images to explain: of a source or of a run's pack, chosen, read and predicted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..core.errors import SkyclassError
from ..data.open import open_source
from ..data.packs.pack import Pack
from ..data.packs.training_rows import training_rows
from ..data.source_options import SourceOptions
from ..explanation.output import SourceImage, source_image
from ..images.decode import decode_files, decode_rows
from ..models.network import BATCH
from .classifier import Classifier
from .run import Run, is_run

logger = logging.getLogger(__name__)


class Images(NamedTuple):
    """Where images come from: a catalog, and the pack that it belongs to, if any."""

    catalog: pd.DataFrame
    pack: Pack | None
    place: Path


def images_of(path: Path, source: str | Path | None, options: SourceOptions, *, check: bool) -> Images:
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


def choose(images: Images, ids: Sequence[str], per_class: int, classes: list[str], *, only_test: bool) -> pd.DataFrame:
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


def predicted_batches(
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
                logger.warning(f"left out: {file}: {one.error}")
        good = [one for one in decoded if one.error is None]
        rows = rows[[one.error is None for one in decoded]]
        if not good:
            continue
        table = model.frame(rows["image_id"].tolist(), good)
        for name in ("image_id", "label", "file"):
            table[name] = rows[name].to_numpy(dtype=object)
        yield rows, np.stack([one.pixels for one in good]), table


def source_images(model: Classifier, images: Images, rows: pd.DataFrame) -> list[SourceImage]:
    """The original of each image: its file, or the image of the pack if there is no such file."""
    if images.pack is None:
        found = [source_image(file, model.pixels) for file in rows["file"]]
        return [one for one in found if one is not None]  # they have just been read
    later = model.remaining_settings(images.pack.pixels, images.place)
    height, width = images.pack.images.shape[2:]
    stored = SourceImage((height, width), later)
    return [source_image(file, [images.pack.pixels, *later]) or stored for file in rows["file"]]
