"""`skyclass pack`: decode a source once, into a folder of plain NumPy and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..classifier import Classifier
from ..console import say, say_where
from ..data.catalog import tell_problems
from ..data.pack import is_pack, start_pack
from ..data.packing import pack_catalog
from ..data.sources import read_source
from ..data.split import assign_splits
from ..errors import SkyclassError
from ..recipe import PixelRecipe, parse_pixels


def pack(
    source: str | Path,
    out: str | Path,
    *,
    image_root: str | Path | None = None,
    id_column: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    splits: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    pixels: Sequence[str] = (),
    like: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Decode the images of `source` (class folders or a table) into a pack; returns its folder.

    splits : shares of train, val and test for images without a split, drawn by image id (and group)
    pixels : settings KEY=VALUE of the pixel recipe, such as size=256, crop=[300,300] or interval=zscale; what is not
        set follows the commonest image
    like : a classifier or run whose pixel recipe is taken instead
    """
    out = Path(out)
    if is_pack(Path(source)):
        raise SkyclassError("it is a pack already", where=source, fix="train on it, or pack the files it was made from")
    found = read_source(
        source,
        image_root=image_root,
        id_column=id_column,
        file_column=file_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
    )
    recipe = Classifier.load(like, "cpu").pixels[0] if like else PixelRecipe()
    recipe = parse_pixels(recipe, pixels)
    catalog = _split(found.catalog, splits, seed, source)
    start_pack(out, overwrite=overwrite)
    origin: dict[str, Any] = {"source": str(source), "kind": found.kind, "splits": list(splits), "seed": seed}
    made, problems = pack_catalog(catalog, found.problems, out, recipe, origin)
    _, bands, height, width = made.images.shape
    plural = "" if bands == 1 else "s"
    say(f"{len(made.images):,} images, {bands} band{plural} of {height}x{width} pixels, {made.images.dtype}")
    for name in made.classes:
        say(f"  {name}: {int((made.catalog['label'] == name).sum()):,}")
    if not made.classes:
        say("  no labels: good for predicting, not for training; see --label-column, or use class folders")
    tell_problems(problems, out / "problems.csv")
    say_where("Pack", out)
    return out


def _split(catalog: pd.DataFrame, splits: Sequence[float], seed: int, source: str | Path) -> pd.DataFrame:
    """The catalog with splits; what is wrong with them is wrong with the source."""
    train, val, test = splits
    try:
        return assign_splits(catalog, (train, val, test), seed)
    except SkyclassError as refusal:
        raise SkyclassError(refusal.what, where=refusal.where or source, fix=refusal.fix) from None
