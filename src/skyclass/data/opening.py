"""One way to open whatever a person names: a pack, class folders, a table or an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import SkyclassError
from .catalog import problems_frame
from .pack import Pack, is_pack
from .source_options import SourceOptions
from .sources import read_source


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
            said = ", ".join(f"--{name.replace('_', '-')}" for name in options.given())
            what = f"{said}: these options are for sources, and this is a pack"
            raise SkyclassError(what, where=path, fix="leave those options out or give the source")
        pack = Pack.open(Path(path))
        if check:
            pack.verify(every_byte=True)
        return Opened(pack.catalog, problems_frame([]), pack, pack.catalog.iloc[:0])
    if check:
        raise SkyclassError("only a pack has hashes to check", where="--check", fix="leave it out, or give a pack")
    found = read_source(path, options)
    return Opened(found.catalog, found.problems, None, found.left_out)
