"""The pack of a run: its training rows, and which other images are duplicates of training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ..core.distributed import broadcast_from_first
from ..core.errors import SkyclassError
from ..data.packs.pack import Pack
from ..data.packs.training_rows import TrainingRows, training_rows
from .run import Run


def pack_of_run(run: Run) -> Pack | None:
    """The pack that a run was trained on, or None if it is missing or has changed."""
    provenance = run.provenance()
    try:
        pack = Pack.open(Path(provenance["pack"]))
    except SkyclassError:
        return None
    return pack if pack.hash == provenance["pack_hash"] else None


def duplicates_of_training(catalog: pd.DataFrame, train: np.ndarray) -> frozenset[str]:
    """Ids of images that show the same as an image of the training split, and are not in it.

    catalog : with `image_id` and `duplicates`, the clusters that `skyclass pack` found (None for single images)
    train : row numbers of the training images
    """
    clusters = catalog["duplicates"]
    trained = clusters.iloc[train].dropna().unique()
    others = np.setdiff1d(np.arange(len(catalog)), train)
    return frozenset(catalog["image_id"].iloc[others][clusters.iloc[others].isin(trained).to_numpy()])


def leaked_into(run: Run) -> frozenset[str] | str:
    """As `duplicates_of_training`, of the run's pack; or why that is not known."""
    pack = pack_of_run(run)
    if pack is None:
        return "the pack of the run is gone or has changed"
    if "duplicates" not in pack.catalog:
        return "the pack was made without looking for duplicates"
    return duplicates_of_training(pack.catalog, training_rows(pack, run.recipe().data).train)


def data_of(run: Run, rows: TrainingRows | None = None) -> tuple[Pack, TrainingRows]:
    """The pack that a run is trained on, and its rows, where they are not known already.

    Errors: SkyclassError for a pack that is missing, damaged or has changed.
    """
    data = Pack.open(Path(run.provenance()["pack"]))
    if rows is None:  # else the pack of a new run, which was verified before it began
        broadcast_from_first(data.verify)
    if data.hash != run.provenance()["pack_hash"]:
        fix = "train a new run on it, or restore the old pack"
        raise SkyclassError("the pack has changed since this run began", where=data.path, fix=fix)
    return data, rows or training_rows(data, run.recipe().data)
