"""Read any source of images and labels into a catalog and a table of problems.

Nothing here opens an image; whether a file can be decoded shows when it is packed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...core.errors import SkyclassError
from ...core.files.replacing import finish_replacing
from ...images.formats.locations import files_of, image_id_of, parse_address
from ...images.formats.read import is_image_name
from ...images.formats.registry import IMAGE_SUFFIXES
from ..catalog import Found, SourceKind, check_catalog, problems_frame
from ..source_options import SourceOptions
from ..tables.columns import name_classes
from ..tables.table_files import TABLE_READERS, is_fits_table, table_suffix
from ..vote_questions import Questions, questions_of, refusal_to_guess
from ..votes import label_by_votes, parse_votes
from .array_stacks import STACK_SUFFIXES, is_stack, read_split_stacks, read_stack, read_stack_table, split_named
from .band_files import band_pattern, read_band_files, read_band_table
from .cutout_tables import read_cutouts
from .folders import files_below, read_folders
from .hf_parquet import holds_images, read_parquet_images
from .tables import read_table_source

logger = logging.getLogger(__name__)

_COLUMNS = ("id_column", "file_column", "label_column", "split_column", "group_column")
_FOLDERS = ("folders", "split_names")
_SPLIT_SUFFIXES = (".npz", ".h5", ".hdf5")


@dataclass(frozen=True, eq=False)
class Source:
    """Where images and labels come from, as read.

    catalog : as `check_catalog` gives it, with absolute files, in the order of the names or of the table
    problems : rows left out (errors), and oddities of what was kept or passed over (warnings)
    kind : what it turned out to be
    left_out : the rows of images that are not in the catalog, one an id, with the catalog's columns
    """

    catalog: pd.DataFrame
    problems: pd.DataFrame
    kind: SourceKind
    path: Path
    left_out: pd.DataFrame


def read_source(path: str | Path, options: SourceOptions = SourceOptions()) -> Source:
    """Read whatever holds images and labels.

    - a folder: class folders ROOT/class/... or ROOT/{train,val,test}/class/... (or what `folders` says), images without
      labels, arrays called train.npz, val.npz and test.npz, the Parquet shards of an image data set, or one file a band
      (`band_files`)
    - a table (CSV, TSV, ECSV, Parquet, FITS, VOTable) of files, ids, votes, rows of an array or positions for cutouts
    - arrays of many images: HDF5, NPZ, NPY; a Parquet file with images in it; one image, by its file or its address

    Errors: SkyclassError where there is nothing to read or no image in it, and for options that do not apply.
    """
    path = Path(path).absolute()
    if not _exists(path):
        found = _read_address(path, options)
    else:
        found = _read_folder(path, options) if path.is_dir() else _read_file(path, options)
    catalog = found.catalog
    left_out = catalog.iloc[:0] if found.left_out is None else found.left_out
    questions = questions_of(map(str, catalog.columns)) if catalog["label"].isna().all() else {}
    if options.votes or _one(questions, path):
        catalog = label_by_votes(catalog, parse_votes(options.votes), path)
        left_out = left_out.assign(label=None)
    if options.class_names:
        named = name_classes(catalog["label"], options.class_names, path)
        left_out = left_out.assign(label=left_out["label"].map(dict(zip(catalog["label"], named, strict=True))))
        catalog = catalog.assign(label=named)
    return Source(check_catalog(catalog, path), problems_frame(found.problems), found.kind, path, left_out)


def _one(questions: Questions, path: Path) -> bool:
    """Whether a table without labels has the votes of one question, whose answers are its classes; this is logged."""
    if len(questions) == 1:
        logger.info(
            f"{path.name}: no column of labels; the largest of each row's votes becomes its label (see --votes)"
        )
    elif questions:
        what, fix = refusal_to_guess(questions)
        logger.warning(f"{path.name}: no image gets a label: {what}; {fix}, by --votes or in training by data.votes")
    return len(questions) == 1


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name
        return False


def _read_address(path: Path, options: SourceOptions) -> Found:
    """The one image that an address names.

    Errors: SkyclassError where it names none, or a file that does not exist.
    """
    address = parse_address(path)
    lacking = [file for file in files_of(address) if not _exists(file)] if address != path else [path]
    if lacking:
        raise SkyclassError("no such file or folder", where=lacking[0], fix="check the path")
    options_of_more = ("image_root", "cutout", "band_files", *_FOLDERS, *_COLUMNS)
    _refuse(options, options_of_more, path, "sources of many images", "this is the address of one")
    return _one_image(image_id_of(address), str(address))


def _one_image(image_id: str, file: str) -> Found:
    row = {"image_id": image_id, "file": file, "label": None, "split": None}
    return Found(pd.DataFrame([row]), [], "files")


def _read_folder(path: Path, options: SourceOptions) -> Found:
    finish_replacing(path)
    if options.band_files:
        _refuse(options, ("image_root", "cutout", *_COLUMNS), path, "a table", "this is a folder of band files")
        return read_band_files(path, options)
    _refuse(options, ("image_root", "cutout"), path, "a table", "this is none")
    files = files_below(path)
    stacks = _split_stacks(path, files)
    if stacks:
        _refuse(options, ("folders",), path, "folders of images", "this is one of arrays")
        return read_split_stacks(path, stacks, options)
    shards = [path / file for file in files if file.lower().endswith(".parquet")]
    if shards and not any(map(is_image_name, files)) and any(holds_images(file, options) for file in shards):
        _refuse(options, ("folders",), path, "folders of images", "this is one of Parquet files")
        return read_parquet_images(path, shards, options)
    _refuse(options, _COLUMNS, path, "tables and arrays", "this is neither")
    if pattern := band_pattern(filter(is_image_name, files)):
        logger.warning(f"{path.name}: these names look like one file a band: --band-files '{pattern}'")
    return read_folders(path, files, options)


def _split_stacks(root: Path, files: Sequence[str]) -> list[Path]:
    """The arrays of a folder that has no other images, if some are called after splits."""
    images = [file for file in files if is_image_name(file) or file.lower().endswith(STACK_SUFFIXES)]
    plain = all("/" not in file and file.lower().endswith(_SPLIT_SUFFIXES) for file in images)
    if not plain or not any(split_named(Path(file)) for file in images):
        return []
    # Of damaged ones it is not known what they were; they are refused by name beside one that is sound.
    stacks = [root / file for file in images]
    return stacks if any(is_stack(file) for file in stacks) else []


def _read_file(path: Path, options: SourceOptions) -> Found:
    _refuse(options, ("folders",), path, "folders of images", "this is a file")
    if holds_images(path, options) and not (options.cutout or options.band_files or options.image_root):
        return read_parquet_images(path, [path], options)
    if table_suffix(path) or is_fits_table(path):
        return _read_table(path, options)
    known = ", ".join(TABLE_READERS)
    _refuse(
        options,
        ("image_root", "cutout", "band_files"),
        path,
        "a table",
        f"this is none: tables end in {known} or .fits",
    )
    named = any(getattr(options, name) for name in _COLUMNS) and path.suffix.lower() in STACK_SUFFIXES
    if named or is_stack(path):
        return read_stack(path, options)
    _refuse(options, ("split_names", *_COLUMNS), path, "tables and arrays", "this is neither")
    if is_image_name(path):
        return _one_image(image_id_of(path), str(path))
    known = ", ".join(dict.fromkeys((*TABLE_READERS, *IMAGE_SUFFIXES, *STACK_SUFFIXES)))
    raise SkyclassError("neither a table nor an image by its suffix", where=path, fix=f"the suffixes are {known}")


def _read_table(path: Path, options: SourceOptions) -> Found:
    if options.cutout:
        _refuse(options, ("band_files",), path, "whole images", "these are cutouts")
        return read_cutouts(path, options)
    if options.band_files:
        return read_band_table(path, options)
    root = options.image_root
    if root is not None and root.is_file():
        if root.suffix.lower() not in STACK_SUFFIXES:
            what = "the image root is a file, and neither a stack nor a mosaic to cut from"
            raise SkyclassError(
                what, where=root, fix="give a folder, a stack (.npy, .npz, .h5), or the size of cutouts"
            )
        return read_stack_table(path, root.absolute(), options)
    return read_table_source(path, options)


def _refuse(options: SourceOptions, names: Sequence[str], path: Path, meant_for: str, this_is: str) -> None:
    """Errors: SkyclassError for an option that this kind of source does not have."""
    given = [name for name in names if name in options.given()]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise SkyclassError(f"{flags} is for {meant_for}, and {this_is}", where=path, fix="leave it out")
