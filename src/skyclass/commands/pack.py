"""`skyclass pack`: decode a source once, into a folder of plain NumPy and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ..core.arguments import check_out
from ..core.console import say, say_where, shown_messages
from ..core.errors import SkyclassError
from ..core.text import quantity
from ..data.audit.checks import duplicates_found
from ..data.catalog import SPLITS, say_problems
from ..data.packs.export import unpack_splits
from ..data.packs.pack import is_pack, new_pack
from ..data.packs.split import check_splits
from ..data.packs.write import Packed, pack_catalog
from ..data.source_options import SourceOptions
from ..data.sources.read import read_source
from ..recipes.data_settings import PixelSettings
from ..recipes.recipe import parse_pixels


@shown_messages()
def pack(
    source: str | Path,
    out: str | Path,
    *,
    splits: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    pixels: Sequence[str] = (),
    like: str | Path | None = None,
    duplicates: bool = True,
    form: Literal["pack", "npz"] = "pack",
    overwrite: bool = False,
    options: SourceOptions = SourceOptions(),
) -> Path:
    """Decode the images of a source into a pack.

    Parameters
    ----------
    source : str or Path
        Class folders, a table, arrays, Parquet of images, a pack or one image.
    out : str or Path
        The new folder.
    splits : sequence of float
        Shares of train, val and test for images without a split, drawn by image id (and group).
    seed : int
        Of the splits.
    pixels : sequence of str
        Pixel settings KEY=VALUE, such as size=256, crop=[300,300] or interval=zscale. What is not set follows the
        commonest image.
    like : str or Path, optional
        A classifier or run whose pixel settings are taken instead.
    duplicates : bool
        Whether to find copies of one picture, keep them in one split, and list them in `duplicates.csv`, with the pairs
        that may be copies, which move nothing.
    form : str
        `pack`, or `npz` for one file a split with the arrays images (n, C, H, W), labels, image_id and bands.
    overwrite : bool
        Whether to replace a pack that is there.
    options : SourceOptions
        How the source is read.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SkyclassError
        For a source without an image that can be read, settings that do not fit, and a folder that holds something.
    """
    out = check_out(Path(out))
    if is_pack(Path(source)):
        raise SkyclassError("it is a pack already", where=source, fix="train on it, or pack the files it was made from")
    recipe = parse_pixels(_pixels_of(like) if like else PixelSettings(), pixels)
    found = read_source(source, options)
    train, val, test = splits
    provenance: dict[str, Any] = {"source": str(source), "kind": found.kind, "splits": list(splits), "seed": seed}
    try:
        check_splits(found.catalog, (train, val, test))  # before an old pack is given up, and images are decoded
        with new_pack(out, overwrite=overwrite) as folder:
            made = pack_catalog(
                found.catalog,
                found.problems,
                folder,
                recipe,
                provenance,
                splits=(train, val, test),
                seed=seed,
                duplicates=duplicates,
            )
            _say_packed(made, found.catalog)
            files = unpack_splits(made.pack) if form == "npz" else []
    except SkyclassError as refusal:  # what is wrong with the splits is wrong with the source
        raise type(refusal)(refusal.what, where=refusal.where or source, fix=refusal.fix) from None
    if files:
        say(f"One file a split: {', '.join(file.name for file in files)}")
    say_problems(made.problems, out / "problems.csv")
    say_where("Pack" if form == "pack" else "Arrays", out)
    return out


def _pixels_of(classifier: str | Path) -> PixelSettings:
    """The pixel settings of the files that a classifier was made from."""
    from ..classifier.classifier import Classifier  # here, because the networks take seconds to import

    return Classifier.load(classifier, "cpu").pixels[0]


def _say_packed(made: Packed, catalog: pd.DataFrame) -> None:
    """Log what was packed of the source's catalog."""
    pack = made.pack
    _, bands, height, width = pack.images.shape
    size = f"{quantity(bands, 'band')} of {height}x{width} pixels"
    say(f"{quantity(len(pack.images), 'image')}, {size}, {pack.images.dtype}")
    for name in pack.classes:
        say(f"  {name}: {int((pack.catalog['label'] == name).sum()):,}")
    for name in sorted(set(catalog["label"].dropna()) - set(pack.classes)):
        of = quantity(int((catalog["label"] == name).sum()), "image")
        say(f"  {name}: none of its {of} can be used")
    _say_splits(pack.catalog["split"], catalog.loc[catalog["label"].notna(), "split"].notna())
    if len(pack.classes) == 1:
        say(f"Warning: all labels are {pack.classes[0]!r}, and a classifier needs two classes at least")
    if not pack.classes:
        say("  no labels: good for predicting, not for training; see --label-column, or use class folders")
    if made.duplicates is not None and len(made.duplicates):
        clusters = pack.catalog["duplicates"].dropna()
        maybe = int(made.duplicates["kind"].eq("maybe").sum())
        say(f"{duplicates_found(len(clusters), clusters.nunique(), maybe)}: see duplicates.csv")


def _say_splits(split: pd.Series, given: pd.Series) -> None:
    """Log how many images each split has, and where the splits come from.

    split : of the images of the pack; given : whether the source itself has a split for each labelled image
    """
    counts = [f"{name} {int((split == name).sum()):,}" for name in SPLITS]
    without = int(split.isna().sum())
    if without == len(split):
        return
    if without:
        counts.append(f"none {without:,}")
    whose = "" if not given.any() else ", as the source has them"
    if given.any() and not given.all():
        whose = f", {quantity(int(given.sum()), 'image')} as the source has them"
    say(f"splits: {', '.join(counts)}{whose}")
