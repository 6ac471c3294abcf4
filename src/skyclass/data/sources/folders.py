"""Folders of images: class folders, perhaps with splits above or below them, or images without labels."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...core.errors import SkyclassError
from ...images.formats.read import is_image_name
from ...images.formats.registry import IMAGE_SUFFIXES, STACK_SUFFIXES
from ..catalog import Found, Problem, warning
from ..source_options import SourceOptions
from ..split_names import split_of
from ..tables.table_files import table_suffix
from .folder_layout import Layout, find_layout
from .rows import ids_of

logger = logging.getLogger(__name__)

OUTPUTS = ("pack.json", "run.json", "inspect.html")  # one of these lies in every folder that Skyclass writes


def read_folders(root: Path, files: Sequence[str], options: SourceOptions = SourceOptions()) -> Found:
    """Class folders, with or without splits (`find_layout`); what lies deeper in a class folder belongs to the class.

    An image outside them is kept without a label; a folder without class folders is one of images without labels.
    files : as `files_below` gives them

    Errors: SkyclassError where there is no image.
    """
    files, unreadable = _names_as_text(root, files)
    images = [file for file in files if is_image_name(file)]
    if not images:
        raise SkyclassError("no image in this folder", where=root, fix=_fix(files))
    tables = [file for file in files if "/" not in file and table_suffix(file)]
    problems = [
        warning((root / file).parent, "an output of Skyclass's own, no class: left out")
        if _is_output(file)
        else warning(root / file, "a table; to read the labels from it, give it instead of the folder")
        if file in tables
        else warning(root / file, "not an image by its suffix")
        for file in files
        if not is_image_name(file)
    ]
    layout = find_layout(root, images, options)
    if tables and not layout.splits:  # folders called train, val and test were made for the labels
        logger.warning(
            f"{root} is read as a folder of images; if the labels are in {tables[0]}, give that file instead"
        )
    ids = ids_of(images)
    places = [layout.place(file) for file in images]
    catalog = pd.DataFrame(
        {
            "image_id": [ids[file] for file in images],
            "file": [f"{root}{os.sep}{file.replace('/', os.sep)}" for file in images],
            "label": pd.Series([place.label for place in places], dtype=object),
            "split": pd.Series([place.split for place in places], dtype=object),
        }
    )
    if "{group}" in layout.levels:
        catalog["group"] = pd.Series([place.group for place in places], dtype=object)
    if catalog["label"].notna().any():  # else nobody meant class folders
        outside = [file for file, place in zip(images, places, strict=True) if place.label is None]
        problems += [warning(root / file, "in no class folder: kept without a label", ids[file]) for file in outside]
    problems += [
        warning(folder, "no image in this class folder")
        for folder in _empty_classes(root, layout, images)
        if not any((folder / name).is_file() for name in OUTPUTS)
    ]
    return Found(catalog, problems + unreadable)


def _names_as_text(root: Path, files: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """The files whose names are text, and an error for each other one: no table can hold it."""
    names = {file: os.fsencode(file).decode("utf-8", "backslashreplace") for file in files}
    fault = "its name is not UTF-8, and no table can hold it: rename the file"
    errors = [
        Problem(image_id=name, file=f"{root}{os.sep}{name}", problem=fault, severity="error", kind="row")
        for file, name in names.items()
        if file != name
    ]
    return [file for file, name in names.items() if file == name], errors


def _is_output(file: str) -> bool:
    """Whether the file marks its folder, below the root, as one of Skyclass's own."""
    return "/" in file and file.rpartition("/")[2] in OUTPUTS


def _fix(files: Sequence[str]) -> str:
    """What to do about a folder without images."""
    sources = [file for file in files if table_suffix(file) or file.lower().endswith(STACK_SUFFIXES)]
    if sources:
        return f"if the images are those of {sources[0]}, give that file instead"
    return f"images end in {', '.join(IMAGE_SUFFIXES)}"


def files_below(root: Path) -> list[str]:
    """Paths from the root, with slashes, in order, of the files below it, through linked folders too.

    Hidden files, and those in hidden folders, are left out. Of a folder that Skyclass wrote, one of OUTPUTS is given.
    """
    entered = {root.resolve()}
    found: list[str] = []
    for folder, below, names in os.walk(root, followlinks=True):
        kept = []
        ours = [name for name in OUTPUTS if name in names and Path(folder) != root]
        if ours:
            below[:], names = [], ours[:1]
        for name in sorted(below):
            real = Path(folder, name).resolve()
            if not name.startswith(".") and real not in entered:  # a link may lead back to where we are
                entered.add(real)
                kept.append(name)
        below[:] = kept
        prefix = "".join(f"{part}/" for part in Path(folder).relative_to(root).parts)
        found += [prefix + name for name in names if not name.startswith(".")]
    return sorted(found, key=lambda file: file.split("/"))


def _folders(path: Path) -> list[Path]:
    return sorted(Path(entry) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _empty_classes(root: Path, layout: Layout, images: Sequence[str]) -> list[Path]:
    """Folders of classes without an image."""
    depth = layout.levels.index("{label}") + 1 if "{label}" in layout.levels else 0
    full = {"/".join(file.split("/")[:depth]) for file in images}
    found = [root] if depth else []
    for level in layout.levels[:depth]:
        found = [below for folder in found for below in _folders(folder)]
        if level == "{split}":
            found = [folder for folder in found if folder.name in layout.splits or split_of(folder.name)]
    return [folder for folder in found if folder.relative_to(root).as_posix() not in full]
