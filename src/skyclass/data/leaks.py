"""Which judged images the training has seen under another name, and what else is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..console import say
from ..errors import SkyclassError, did_you_mean
from ..run import Run
from .file_names import ids_of
from .pack import Pack, is_pack
from .source_options import SourceOptions
from .tables import read_named
from .training_rows import training_rows


def open_pack_of(run: Run) -> Pack:
    """The pack that a run was trained on; its images are not verified.

    Errors: SkyclassError for a pack that is gone, damaged or has changed.
    """
    origin = run.origin()
    pack = Pack.open(Path(origin["pack"]))
    if pack.hash != origin["pack_hash"]:
        fix = "train a new run on it, or restore the old pack"
        raise SkyclassError("the pack has changed since this run began", where=pack.path, fix=fix)
    return pack


def pack_of_run(run: Run) -> Pack | None:
    """As `open_pack_of`, or None where the pack is gone or has changed."""
    try:
        return open_pack_of(run)
    except SkyclassError:
        return None


def doubled_in_training(catalog: pd.DataFrame, train: np.ndarray) -> frozenset[str]:
    """Ids of images that show the same as an image of the training split, and are not in it.

    catalog : with `image_id` and `duplicates`, the clusters that `skyclass pack` found (None for single images)
    train : row numbers of the training images
    """
    clusters = catalog["duplicates"]
    trained = clusters.iloc[train].dropna().unique()
    others = np.setdiff1d(np.arange(len(catalog)), train)
    return frozenset(catalog["image_id"].iloc[others][clusters.iloc[others].isin(trained).to_numpy()])


def leaked_into(run: Run) -> frozenset[str] | str:
    """As `doubled_in_training`, of the run's pack; or in words why that is not known."""
    pack = pack_of_run(run)
    if pack is None:
        return "the pack of the run is gone or has changed"
    if "duplicates" not in pack.catalog:
        return "the pack was made without looking for duplicates"
    return doubled_in_training(pack.catalog, training_rows(pack, run.recipe().data).train)


def columns_by_id(path: Path) -> pd.DataFrame:
    """The columns of a pack's catalog or of a table of the user's, by image id.

    A table without ids goes by the names of its files. Of rows with the same id the first counts.
    Errors: SkyclassError for a file that is neither, and a table with neither ids nor files.
    """
    if is_pack(path):
        table = Pack.open(path).catalog
    elif path.is_file():
        table = read_named(path, SourceOptions())
    else:
        raise SkyclassError("no such table or pack", where=path, fix="give a table with one row an image, or a pack")
    if "image_id" not in table:
        ids = ids_of(table["file"].dropna())
        table = table.assign(image_id=table["file"].map(ids, na_action="ignore"))
    table = table[table["image_id"].notna()]
    repeated = int(table["image_id"].duplicated().sum())
    if repeated:
        say(f"{path.name}: {repeated:,} rows repeat the id of another, and do not count")
    return table.drop_duplicates("image_id").set_index("image_id")


def columns_of(rows: pd.DataFrame, by: Sequence[str], run: Run | None, catalog: Path | None) -> pd.DataFrame:
    """The columns asked for, of each of the rows of a table of predictions.

    Parameters
    ----------
    rows : with `image_id`, numbered from 0
    by : names of columns: of `rows`, or else of the table
    run : whose pack is the table, if any
    catalog : a table with a row an image, or a pack, in place of that

    Errors: SkyclassError for a column that is nowhere, a table that knows none of the images, and one for no column.
    """
    if catalog and not by:
        raise SkyclassError("a table of columns, and none to judge by", where="--catalog", fix="add --by COLUMN")
    table, where, path = rows, "the predictions", catalog
    if path is None and run and not set(by) <= set(table):
        pack = pack_of_run(run)
        path = pack.path if pack else None
    if path is not None and "image_id" in table:
        more = columns_by_id(path)
        if not table["image_id"].isin(more.index).any():
            fix = f"its ids are like {more.index[0]!r}, those of the predictions like {table['image_id'].iloc[0]!r}"
            raise SkyclassError("the table knows none of the judged images", where=path, fix=fix)
        new = [name for name in more.columns if name not in table]
        table, where = table.join(more[new], on="image_id"), f"the predictions and {path}"
    for name in by:
        if name not in table:
            fix = did_you_mean(name, table.columns) or f"the columns of {where} are {', '.join(table.columns)}"
            if path is None:
                fix += "; --catalog names a table with more"
            raise SkyclassError(f"no column {name!r} to judge by", where="--by", fix=fix)
    return table[list(dict.fromkeys(by))]
