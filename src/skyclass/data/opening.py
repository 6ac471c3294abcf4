"""One way to open whatever a person names: a pack, class folders, a table or an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import SkyclassError
from .catalog import problems_frame
from .pack import Pack, is_pack
from .sources import read_source


@dataclass(frozen=True, eq=False)
class Opened:
    """A catalog and what is wrong with it; `pack` where the images lie decoded in one, in the catalog's order."""

    catalog: pd.DataFrame
    problems: pd.DataFrame
    pack: Pack | None


def open_source(
    path: str | Path,
    *,
    image_root: str | Path | None = None,
    id_column: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> Opened:
    """Open a pack, or read a source as `read_source` does.

    Errors: SkyclassError as of `Pack.open` and `read_source`, and for table options given with a pack.
    """
    if is_pack(Path(path)):
        if any((image_root, id_column, file_column, label_column, split_column, group_column)):
            what = "an image root and columns are for tables, and this is a pack"
            raise SkyclassError(what, where=path, fix="leave those options out or give the table")
        pack = Pack.open(Path(path))
        return Opened(pack.catalog, problems_frame([]), pack)
    found = read_source(
        path,
        image_root=image_root,
        id_column=id_column,
        file_column=file_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
    )
    return Opened(found.catalog, found.problems, None)
