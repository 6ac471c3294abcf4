"""Tables of images: their rows, and the files that these name."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ...core.errors import SkyclassError
from ...images.formats.locations import BandFiles, ContainerRow, Cutout, parse_address, stem_of
from ...images.formats.read import is_image_name
from ...images.formats.registry import IMAGE_SUFFIXES
from ..catalog import Found
from ..source_options import SourceOptions
from ..tables.columns import given_columns, name_columns, text_columns
from ..tables.table_files import read_rows
from .rows import checked_rows, ids_of

logger = logging.getLogger(__name__)

# Root and folder as rows name it -> its path with a separator, and which files its names resolve to.
Listings = dict[tuple[str, str], tuple[str, dict[str, str]]]

_USUAL_FOLDERS = ("images", "png")  # where a table's images lie when they do not lie beside it


def read_named(path: Path, options: SourceOptions, *, places: bool = True) -> pd.DataFrame:
    """A table of the user's with the catalog's column names, as `name_columns` gives them."""
    given = given_columns(options)
    return name_columns(
        read_rows(path, text_columns(given)), given, path, places=places, split_names=options.split_names
    )


def read_table_source(path: Path, options: SourceOptions) -> Found:
    """A table whose rows name files, or ids that are names of files without their suffix.

    Errors: SkyclassError where none of the rows leads to a file, and as of `read_named`.
    """
    frame = read_named(path, options)
    names = frame["file" if "file" in frame.columns else "image_id"]
    root, files = find_files(names.tolist(), path, options.image_root)
    if "image_id" not in frame.columns:
        frame["image_id"] = pd.Series(_ids_of_files(names.tolist(), files, root), dtype=object)
    frame["file"] = pd.Series(files, dtype=object)  # as object, or pandas turns None into NaN
    sought = [file or (str(root / name) if name else None) for name, file in zip(names, files, strict=True)]
    return checked_rows(frame, path, sought=sought)


def find_files(names: Sequence[str | None], table: Path, image_root: Path | None) -> tuple[Path, list[str | None]]:
    """The folder that most of the names are found in, and each name's file there or None.

    Without an `image_root` these are the table's own folder, then `images` and `png` in it, and where most of the names
    are in none of them, any other folder beside the table.

    Errors: SkyclassError where the image root is no folder.
    """
    known: Listings = {}
    if image_root is not None:
        if not image_root.is_dir():
            what = "the image root is no folder"
            raise SkyclassError(what, where=image_root, fix="give the folder that the file names are relative to")
        root = image_root.absolute()
        return root, [_find(str(root), name, known) for name in names]
    below = [table.parent / name for name in _USUAL_FOLDERS]
    usual = [table.parent, *(folder for folder in below if folder.is_dir())]
    found: dict[Path, list[str | None]] = {}
    for root in (*usual, *_other_folders(table.parent, usual)):
        if len(found) >= len(usual) and 2 * max(map(_count, found.values())) >= len(names):
            break
        found[root] = [_find(str(root), name, known) for name in names]
    root = max(found, key=lambda root: _count(found[root]))  # the first of equals
    if root != table.parent:
        logger.info(f"{table.name}: the images are in {root}")
    return root, found[root]


def _count(files: Sequence[str | None]) -> int:
    return sum(file is not None for file in files)


def _other_folders(parent: Path, usual: Sequence[Path]) -> list[Path]:
    below = (Path(entry.path) for entry in os.scandir(parent) if entry.is_dir() and not entry.name.startswith("."))
    return sorted(folder for folder in below if folder not in usual)


def _find(root: str, name: str | None, known: Listings) -> str | None:
    """The file called so, or so with the suffix of an image, or the address with its files found."""
    if name is None:
        return None
    found = _find_file(root, name, known)
    if found is not None:
        return found
    address = parse_address(name)
    if isinstance(address, ContainerRow | Cutout):
        file = _find_file(root, str(address.path), known)
        return None if file is None else str(replace(address, path=Path(file)))
    if isinstance(address, BandFiles):
        files = [_find_file(root, str(file), known) for file in address.files.values()]
        before = address.before if Path(address.before).is_absolute() else f"{root}/{address.before}"
        return None if None in files else str(replace(address, before=before))
    return None


def _find_file(root: str, name: str, known: Listings) -> str | None:
    """The file in a folder; an absolute name needs no root."""
    head, slash, last = name.replace(os.sep, "/").rpartition("/")
    place = root, head + slash
    if place not in known:
        folder = Path(*place)  # once a folder: a path for each name would take most of the time
        known[place] = f"{folder}{os.sep}", _names_in(folder)
    beginning, names = known[place]
    return beginning + names[last] if last in names else None


def _names_in(folder: Path) -> dict[str, str]:
    """Name, and name without the suffix of an image, -> the name of a file in the folder.

    One listing answers for all rows; asking for each file with each suffix takes minutes on a network disk.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except (OSError, ValueError):  # no folder, or none that may be read, or could be by its name
        return {}
    images = [name for name in names if is_image_name(name)]
    # Of several files that differ in the suffix alone, the one whose suffix comes first in IMAGE_SUFFIXES counts.
    images.sort(key=lambda name: IMAGE_SUFFIXES.index(name[len(stem_of(name)) :].lower()), reverse=True)
    return {stem_of(name): name for name in images} | {name: name for name in names}


def _ids_of_files(names: Sequence[str | None], files: Sequence[str | None], root: Path) -> list[str | None]:
    """Ids of a table that has none: the file's path from the root (or from where all files lie) without suffix."""
    found = [file for file in files if file is not None]
    top = f"{root}{os.sep}"
    if not all(file.startswith(top) for file in found):
        top = os.path.commonpath([Path(file).parent for file in found]).rstrip(os.sep) + os.sep
    below = {file: file[len(top) :].replace(os.sep, "/") for file in found}
    ids = ids_of(below.values())
    return [
        ids[below[file]] if file is not None else name and stem_of(name)
        for name, file in zip(names, files, strict=True)
    ]
