"""Folders of images: ROOT/class/... or ROOT/{train,val,test}/class/..., or images without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..console import say
from ..errors import SkyclassError
from ..images import IMAGE_SUFFIXES, is_image_name
from .arrays import STACK_SUFFIXES
from .catalog import SPLIT_NAMES, Found, warning
from .file_names import ids_of
from .table_files import table_suffix

OUTPUTS = ("pack.json", "run.json", "inspect.html")  # one of these lies in every folder that Skyclass writes


def read_folders(root: Path, files: Sequence[str]) -> Found:
    """Class folders with or without splits; whatever lies deeper in a class folder belongs to the class.

    An image outside them is kept without a label; a folder without class folders is one of images without labels.
    files : as `files_below` gives them

    Errors: SkyclassError where there is no image.
    """
    images = [file for file in files if is_image_name(file)]
    if not images:
        raise SkyclassError("no image in this folder", where=root, fix=_way_out(files))
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
    with_splits = has_splits(root)
    if tables and not with_splits:  # folders called train, val and test were made for the labels
        say(f"{root} is read as a folder of images; if the labels are in {tables[0]}, give that file instead")
    ids = ids_of(images)
    places = [place_of(file, with_splits) for file in images]
    catalog = pd.DataFrame(
        {
            "image_id": [ids[file] for file in images],
            "file": [f"{root}{os.sep}{file.replace('/', os.sep)}" for file in images],
            "label": pd.Series([label for _, label in places], dtype=object),
            "split": pd.Series([split for split, _ in places], dtype=object),
        }
    )
    if catalog["label"].notna().any():  # else nobody meant class folders
        outside = [file for file, (_, label) in zip(images, places, strict=True) if label is None]
        problems += [warning(root / file, "in no class folder: kept without a label", ids[file]) for file in outside]
    problems += [
        warning(folder, "no image in this class folder")
        for folder in _empty_classes(root, with_splits, images)
        if not any((folder / name).is_file() for name in OUTPUTS)
    ]
    return Found(catalog, problems, "folders" if catalog["label"].notna().any() else "files")


def _is_output(file: str) -> bool:
    """Whether the file marks its folder, below the root, as one of Skyclass's own."""
    return "/" in file and file.rpartition("/")[2] in OUTPUTS


def _way_out(files: Sequence[str]) -> str:
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


def has_splits(root: Path) -> bool:
    """Whether the folders are train, val and test: there is a train folder, or there are no others."""
    names = [folder.name.lower() for folder in _folders(root)]
    return "train" in names or (bool(names) and all(name in SPLIT_NAMES for name in names))


def place_of(file: str, with_splits: bool) -> tuple[str | None, str | None]:
    """Split and label of an image, by its path from the root; both None outside the class folders."""
    folders = file.split("/")[:-1]
    if not with_splits:
        return None, folders[0] if folders else None
    split = SPLIT_NAMES.get(folders[0].lower()) if folders else None
    return (split, folders[1]) if split and len(folders) > 1 else (None, None)


def _empty_classes(root: Path, with_splits: bool, images: Sequence[str]) -> list[Path]:
    full = {"/".join(file.split("/", 2)[: 2 if with_splits else 1]) for file in images}
    above = [folder for folder in _folders(root) if folder.name.lower() in SPLIT_NAMES] if with_splits else [root]
    return [
        folder for parent in above for folder in _folders(parent) if folder.relative_to(root).as_posix() not in full
    ]
