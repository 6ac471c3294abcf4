"""The table of the kinds of sources, SOURCES: how each is recognised, which options it refuses, and what reads it.

Nothing here opens an image; whether a file can be decoded shows when it is packed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from ...core.errors import SkyclassError
from ...images.formats.locations import image_id_of, parse_address
from ...images.formats.read import is_image_name
from ...images.formats.registry import IMAGE_SUFFIXES, STACK_SUFFIXES
from ..catalog import Found
from ..source_options import SourceOptions
from ..tables.table_files import TABLE_READERS, is_fits_table, table_suffix
from .array_stacks import is_stack, read_split_stacks, read_stack, read_stack_table, split_named
from .band_files import band_pattern, read_band_files, read_band_table
from .cutout_tables import read_cutouts
from .folders import files_below, read_folders
from .hf_parquet import holds_images, read_parquet_images
from .tables import read_table_source

logger = logging.getLogger(__name__)

_COLUMNS = ("id_column", "file_column", "label_column", "split_column", "group_column")
_FOLDERS = ("folders", "split_names")
_SPLIT_SUFFIXES = (".npz", ".h5", ".hdf5")


@dataclass(frozen=True)
class Place:
    """A path that is given as a source, and the options it is given with; what is there is looked up once."""

    path: Path
    options: SourceOptions

    @cached_property
    def where(self) -> Literal["folder", "file", "nowhere"]:
        """What the path leads to; an address leads nowhere."""
        try:
            return "folder" if self.path.is_dir() else "file" if self.path.exists() else "nowhere"
        except OSError:  # too long a name
            return "nowhere"

    @cached_property
    def files(self) -> list[str]:
        """Of a folder, as `files_below` gives them."""
        return files_below(self.path)

    @cached_property
    def split_stacks(self) -> list[Path]:
        """The arrays of a folder that has no other images, if some are called after splits."""
        images = [file for file in self.files if is_image_name(file) or file.lower().endswith(STACK_SUFFIXES)]
        plain = all("/" not in file and file.lower().endswith(_SPLIT_SUFFIXES) for file in images)
        if not plain or not any(split_named(Path(file)) for file in images):
            return []
        # Of damaged ones it is not known what they were; they are refused by name beside one that is sound.
        stacks = [self.path / file for file in images]
        return stacks if any(is_stack(file) for file in stacks) else []

    @cached_property
    def shards(self) -> list[Path]:
        """The Parquet files of a folder that has no image files."""
        found = [self.path / file for file in self.files if file.lower().endswith(".parquet")]
        return [] if any(map(is_image_name, self.files)) else found

    @cached_property
    def is_table(self) -> bool:
        """Whether a file is a table."""
        return bool(table_suffix(self.path)) or is_fits_table(self.path)

    def holds_images(self, file: Path) -> bool:
        """Whether a Parquet file has images in it; also where it has several columns of them, which is then refused."""
        try:
            return holds_images(file, self.options)
        except SkyclassError:
            return True


class Refused(NamedTuple):
    """Options that a kind of source does not have, what they are meant for, and what this is instead."""

    options: tuple[str, ...]
    meant_for: str
    this_is: str


@dataclass(frozen=True, kw_only=True)
class SourceKind:
    """A kind of source.

    Parameters
    ----------
    kind : what a pack made of it says that its source is
    kind_unlabelled : that where no image has a label; `kind` where empty
    where : what its path leads to
    is_one : whether a place is one; the kinds are asked in the order of SOURCES
    refused : the options that are refused
    read : the rows and the problems of a place
    """

    kind: str
    kind_unlabelled: str = ""
    where: Literal["folder", "file", "nowhere"]
    is_one: Callable[[Place], bool]
    refused: tuple[Refused, ...]
    read: Callable[[Place], Found]

    def name_of(self, found: Found) -> str:
        """`kind`, or `kind_unlabelled`."""
        return self.kind if found.catalog["label"].notna().any() else self.kind_unlabelled or self.kind


def kind_of(place: Place) -> SourceKind:
    """The kind of source that a place is; the last of its sort refuses what no other is.

    Errors: SkyclassError for an option that this kind does not have.
    """
    kind = next(one for one in SOURCES.values() if one.where == place.where and one.is_one(place))
    for names, meant_for, this_is in kind.refused:
        given = [name for name in names if name in place.options.given()]
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise SkyclassError(f"{flags} is for {meant_for}, and {this_is}", where=place.path, fix="leave it out")
    return kind


def _read_address(place: Place) -> Found:
    address = parse_address(place.path)
    return _one_image(image_id_of(address), str(address))


def _read_image_file(place: Place) -> Found:
    if is_image_name(place.path):
        return _one_image(image_id_of(place.path), str(place.path))
    known = ", ".join(dict.fromkeys((*TABLE_READERS, *IMAGE_SUFFIXES, *STACK_SUFFIXES)))
    what = "neither a table nor an image by its suffix"
    raise SkyclassError(what, where=place.path, fix=f"the suffixes are {known}")


def _one_image(image_id: str, file: str) -> Found:
    row = {"image_id": image_id, "file": file, "label": None, "split": None}
    return Found(pd.DataFrame([row]), [])


def _read_class_folders(place: Place) -> Found:
    if pattern := band_pattern(filter(is_image_name, place.files)):
        logger.warning(f"{place.path.name}: these names look like one file a band: --band-files '{pattern}'")
    return read_folders(place.path, place.files, place.options)


def _read_stack_table(place: Place) -> Found:
    root = place.options.image_root
    if root is None or root.suffix.lower() not in STACK_SUFFIXES:
        what = "the image root is a file, and neither a stack nor a mosaic to cut from"
        fix = "give a folder, a stack (.npy, .npz, .h5), or the size of cutouts"
        raise SkyclassError(what, where=root, fix=fix)
    return read_stack_table(place.path, root.absolute(), place.options)


def _is_parquet_of_images(place: Place) -> bool:
    others = place.options.cutout or place.options.band_files or place.options.image_root
    return place.holds_images(place.path) and not others


def _is_stack_table(place: Place) -> bool:
    return place.is_table and place.options.image_root is not None and place.options.image_root.is_file()


def _is_stack(place: Place) -> bool:
    named = any(getattr(place.options, name) for name in _COLUMNS)
    return (named and place.path.suffix.lower() in STACK_SUFFIXES) or is_stack(place.path)


_NO_TABLE = Refused(("image_root", "cutout"), "a table", "this is none")
_NO_FOLDER = Refused(("folders",), "folders of images", "this is a file")
_NO_TABLE_FILE = Refused(
    ("image_root", "cutout", "band_files"),
    "a table",
    f"this is none: tables end in {', '.join(TABLE_READERS)} or .fits",
)

SOURCES: dict[str, SourceKind] = {
    "address of an image": SourceKind(
        kind="files",
        where="nowhere",
        is_one=lambda place: True,
        refused=(
            Refused(
                ("image_root", "cutout", "band_files", *_FOLDERS, *_COLUMNS),
                "sources of many images",
                "this is the address of one",
            ),
        ),
        read=_read_address,
    ),
    "folder of band files": SourceKind(
        kind="band files",
        where="folder",
        is_one=lambda place: bool(place.options.band_files),
        refused=(Refused(("image_root", "cutout", *_COLUMNS), "a table", "this is a folder of band files"),),
        read=lambda place: read_band_files(place.path, place.options),
    ),
    "arrays called after splits": SourceKind(
        kind="arrays",
        where="folder",
        is_one=lambda place: bool(place.split_stacks),
        refused=(_NO_TABLE, Refused(("folders",), "folders of images", "this is one of arrays")),
        read=lambda place: read_split_stacks(place.path, place.split_stacks, place.options),
    ),
    "Parquet shards of an image data set": SourceKind(
        kind="parquet images",
        where="folder",
        is_one=lambda place: any(map(place.holds_images, place.shards)),
        refused=(_NO_TABLE, Refused(("folders",), "folders of images", "this is one of Parquet files")),
        read=lambda place: read_parquet_images(place.path, place.shards, place.options),
    ),
    "class folders, or images without labels": SourceKind(
        kind="folders",
        kind_unlabelled="files",
        where="folder",
        is_one=lambda place: True,
        refused=(_NO_TABLE, Refused(_COLUMNS, "tables and arrays", "this is neither")),
        read=_read_class_folders,
    ),
    "Parquet file with images in it": SourceKind(
        kind="parquet images",
        where="file",
        is_one=_is_parquet_of_images,
        refused=(_NO_FOLDER,),
        read=lambda place: read_parquet_images(place.path, [place.path], place.options),
    ),
    "table of positions to cut out": SourceKind(
        kind="cutouts",
        where="file",
        is_one=lambda place: place.is_table and bool(place.options.cutout),
        refused=(_NO_FOLDER, Refused(("band_files",), "whole images", "these are cutouts")),
        read=lambda place: read_cutouts(place.path, place.options),
    ),
    "table of band files": SourceKind(
        kind="band files",
        where="file",
        is_one=lambda place: place.is_table and bool(place.options.band_files),
        refused=(_NO_FOLDER,),
        read=lambda place: read_band_table(place.path, place.options),
    ),
    "table of the rows of an array": SourceKind(
        kind="arrays",
        where="file",
        is_one=_is_stack_table,
        refused=(_NO_FOLDER,),
        read=_read_stack_table,
    ),
    "table of files": SourceKind(
        kind="table",
        where="file",
        is_one=lambda place: place.is_table,
        refused=(_NO_FOLDER,),
        read=lambda place: read_table_source(place.path, place.options),
    ),
    "array of many images": SourceKind(
        kind="arrays",
        where="file",
        is_one=_is_stack,
        refused=(_NO_FOLDER, _NO_TABLE_FILE),
        read=lambda place: read_stack(place.path, place.options),
    ),
    "file of an image": SourceKind(
        kind="files",
        where="file",
        is_one=lambda place: True,
        refused=(
            _NO_FOLDER,
            _NO_TABLE_FILE,
            Refused(("split_names", *_COLUMNS), "tables and arrays", "this is neither"),
        ),
        read=_read_image_file,
    ),
}
