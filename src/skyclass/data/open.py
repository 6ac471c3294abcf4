"""Open a source of images: a pack, class folders, a table or an image."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..core.errors import SkyclassError
from .catalog import problems_frame
from .packs.pack import Pack, is_pack
from .source_options import SourceOptions
from .sources.read import read_source
from .sources.rows import ids_of
from .sources.tables import read_named

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Opened:
    """A catalog and what is wrong with it; `pack` where the images lie decoded in one, in the catalog's order.

    left_out : the rows of images that are not in the catalog, such as those whose files are not there, one an id
    """

    catalog: pd.DataFrame
    problems: pd.DataFrame
    pack: Pack | None
    left_out: pd.DataFrame


def open_source(path: str | Path, options: SourceOptions = SourceOptions(), *, check: bool = False) -> Opened:
    """Open a pack, or read a source as `read_source` does.

    check : compare every byte of the pack with its hashes
    Errors: SkyclassError as of `Pack.open` and `read_source`, for options of sources given with a pack, and for a
    source that is to be checked and has no hashes.
    """
    if is_pack(Path(path)):
        if options.given():
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in options.given())
            what = f"{flags}: these options are for sources, and this is a pack"
            raise SkyclassError(what, where=path, fix="leave those options out or give the source")
        pack = Pack.open(Path(path))
        if check:
            pack.verify(every_byte=True)
        return Opened(pack.catalog, problems_frame([]), pack, pack.catalog.iloc[:0])
    if check:
        raise SkyclassError("only a pack has hashes to check", where="--check", fix="leave it out, or give a pack")
    found = read_source(path, options)
    return Opened(found.catalog, found.problems, None, found.left_out)


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
        logger.warning(f"{path.name}: {repeated:,} rows repeat the id of another, and do not count")
    return table.drop_duplicates("image_id").set_index("image_id")
