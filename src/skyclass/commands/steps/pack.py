"""What `pack` takes from a classifier, and what it says of the pack."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ...core.console import say
from ...core.text import quantity
from ...data.audit.checks import duplicates_found
from ...data.catalog import SPLITS
from ...data.packs.write import Packed
from ...recipes.data_settings import PixelSettings


def pixels_of(classifier: str | Path) -> PixelSettings:
    """The pixel settings of the files that a classifier was made from."""
    from ...classifier.classifier import Classifier  # here, because the networks take seconds to import

    return Classifier.load(classifier, "cpu").pixels[0]


def say_packed(made: Packed, catalog: pd.DataFrame) -> None:
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
