"""The pack of a run: its training rows, and which other images are duplicates of training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.distributed import broadcast_from_first
from ..core.errors import SkyclassError, did_you_mean
from ..data.open import columns_by_id
from ..data.packs.pack import Pack
from ..data.packs.training_rows import TrainingRows, training_rows
from .run import Run


def open_pack_of(run: Run) -> Pack:
    """The pack that a run was trained on; its images are not verified.

    Raises
    ------
    SkyclassError : for a pack that is missing, damaged or has changed
    """
    provenance = run.provenance()
    pack = Pack.open(Path(provenance["pack"]))
    if pack.hash != provenance["pack_hash"]:
        fix = "train a new run on it, or restore the old pack"
        raise SkyclassError("the pack has changed since this run began", where=pack.path, fix=fix)
    return pack


def pack_of_run(run: Run) -> Pack | None:
    """As `open_pack_of`, or None if the pack is missing, damaged or has changed."""
    try:
        return open_pack_of(run)
    except SkyclassError:
        return None


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


def columns_of(rows: pd.DataFrame, by: Sequence[str], run: Run | None, catalog: Path | None) -> pd.DataFrame:
    """The requested columns of the rows of a table of predictions.

    Parameters
    ----------
    rows : with `image_id`, numbered from 0
    by : names of columns: of `rows`, or else of the table
    run : whose pack is the table, if any
    catalog : a table with a row an image, or a pack, in place of that

    Raises
    ------
    SkyclassError : for an unknown column, a table with none of the images, and one for no column
    """
    if catalog and not by:
        raise SkyclassError("a table of columns, and none to group by", where="--catalog", fix="add --by COLUMN")
    table, where, path = rows, "the predictions", catalog
    if path is None and run and not set(by) <= set(table):
        pack = pack_of_run(run)
        path = pack.path if pack else None
    if path is not None and "image_id" in table:
        more = columns_by_id(path)
        if not table["image_id"].isin(more.index).any():
            fix = f"its ids are like {more.index[0]!r}, those of the predictions like {table['image_id'].iloc[0]!r}"
            raise SkyclassError("the table has none of the evaluated images", where=path, fix=fix)
        new = [name for name in more.columns if name not in table]
        table, where = table.join(more[new], on="image_id"), f"the predictions and {path}"
    for name in by:
        if name not in table:
            fix = did_you_mean(name, table.columns) or f"the columns of {where} are {', '.join(table.columns)}"
            if path is None:
                fix += "; --catalog names a table with more"
            raise SkyclassError(f"no column {name!r} to group by", where="--by", fix=fix)
    return table[list(dict.fromkeys(by))]


def data_of(run: Run, rows: TrainingRows | None = None) -> tuple[Pack, TrainingRows]:
    """The pack that a run is trained on, and its rows, where they are not known already.

    Errors: as of `open_pack_of`, and SkyclassError for images that are not those that were packed.
    """
    data = open_pack_of(run)
    if rows is None:  # else the pack of a new run, which was verified before it began
        broadcast_from_first(data.verify)
    return data, rows or training_rows(data, run.recipe().data)
