"""Folders of images: ROOT/class/... or ROOT/{train,val,test}/class/..., or images without labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from ..console import say
from ..errors import SkyclassError
from ..images import IMAGE_SUFFIXES, is_image_name
from .arrays import STACK_SUFFIXES
from .catalog import REQUIRED, SPLIT_NAMES, Found, warning
from .file_names import ids_of
from .table_files import table_suffix


def read_folders(root: Path) -> Found:
    """Class folders with or without splits; whatever lies deeper in a class folder belongs to the class.

    An image outside them is kept without a label; a folder without class folders is one of images without labels.

    Errors: SkyclassError where there is no image.
    """
    files = sorted(Path(file).relative_to(root) for file in visible_files(root))
    images = [file for file in files if is_image_name(file)]
    if not images:
        raise SkyclassError("no image in this folder", where=root, fix=_way_out(files))
    tables = [file for file in files if len(file.parts) == 1 and table_suffix(file)]
    problems = [
        warning(root / file, "a table; to read the labels from it, give it instead of the folder")
        if file in tables
        else warning(root / file, "not an image by its suffix")
        for file in files
        if not is_image_name(file)
    ]
    with_splits = has_splits(root)
    if tables and not with_splits:  # folders called train, val and test were made for the labels
        say(f"{root} is read as a folder of images; if the labels are in {tables[0]}, give that file instead")
    ids = ids_of(file.as_posix() for file in images)
    rows = []
    for file in images:
        split, label = place_of(file, with_splits)
        rows.append({"image_id": ids[file.as_posix()], "file": str(root / file), "label": label, "split": split})
        if label is None:
            problems.append(warning(root / file, "in no class folder: kept without a label", ids[file.as_posix()]))
    catalog = pd.DataFrame(rows, columns=list(REQUIRED))
    problems += [
        warning(folder, "no image in this class folder") for folder in _empty_classes(root, with_splits, images)
    ]
    if catalog["label"].isna().all():
        problems = [problem for problem in problems if not problem["image_id"]]  # nobody meant class folders
        return Found(catalog, problems, "files")
    return Found(catalog, problems, "folders")


def _way_out(files: Sequence[Path]) -> str:
    """What to do about a folder without images."""
    sources = [file for file in files if table_suffix(file) or file.suffix.lower() in STACK_SUFFIXES]
    if sources:
        return f"if the images are those of {sources[0]}, give that file instead"
    return f"images end in {', '.join(IMAGE_SUFFIXES)}"


def visible_files(root: Path) -> Iterator[str]:
    """Files below the root, through linked folders too, without those that are hidden or in a hidden folder."""
    entered = {root.resolve()}
    for folder, below, names in os.walk(root, followlinks=True):
        kept = []
        for name in sorted(below):
            real = Path(folder, name).resolve()
            if not name.startswith(".") and real not in entered:  # a link may lead back to where we are
                entered.add(real)
                kept.append(name)
        below[:] = kept
        yield from (f"{folder}{os.sep}{name}" for name in names if not name.startswith("."))


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def has_splits(root: Path) -> bool:
    """Whether the folders are train, val and test: there is a train folder, or there are no others."""
    names = [folder.name.lower() for folder in _folders(root)]
    return "train" in names or (bool(names) and all(name in SPLIT_NAMES for name in names))


def place_of(file: Path, with_splits: bool) -> tuple[str | None, str | None]:
    """Split and label of an image, by its path from the root; both None outside the class folders."""
    folders = file.parts[:-1]
    if not with_splits:
        return None, folders[0] if folders else None
    split = SPLIT_NAMES.get(folders[0].lower()) if folders else None
    return (split, folders[1]) if split and len(folders) > 1 else (None, None)


def _empty_classes(root: Path, with_splits: bool, images: Sequence[Path]) -> list[Path]:
    full = {Path(*file.parts[: 2 if with_splits else 1]) for file in images}
    above = [folder for folder in _folders(root) if folder.name.lower() in SPLIT_NAMES] if with_splits else [root]
    return [folder for parent in above for folder in _folders(parent) if folder.relative_to(root) not in full]
