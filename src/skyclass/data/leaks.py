"""Which judged images the training has seen under another name, and what else is known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ..console import say
from ..errors import SkyclassError
from ..run import Run
from .file_names import ids_of
from .pack import Pack, is_pack
from .source_options import SourceOptions
from .tables import read_named
from .training_rows import training_rows


def pack_of_run(run: Run) -> Pack | None:
    """The pack that a run was trained on, or None where it is gone or has changed."""
    origin = run.origin()
    try:
        pack = Pack.open(Path(origin["pack"]))
    except SkyclassError:
        return None
    return pack if pack.hash == origin["pack_hash"] else None


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
