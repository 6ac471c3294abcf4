"""Sources: class folders, tables and plain files become a catalog and a table of problems.

Nothing here opens an image; whether a file can be decoded shows when it is packed.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from ..console import say
from ..errors import SkyclassError
from ..images import IMAGE_SUFFIXES, is_image_name
from .catalog import REQUIRED, SPLIT_NAMES, TABLE_READERS, Problem, check_catalog, problems_frame, read_table

_USUAL_FOLDERS = ("images", "png")  # where a table's images lie when they do not lie beside it
_LONGEST_FIRST = sorted(IMAGE_SUFFIXES, key=len, reverse=True)


@dataclass(frozen=True, eq=False)
class Source:
    """Where images and labels come from, as read.

    catalog : as `check_catalog` gives it, with absolute files, in the order of the names or of the table
    problems : rows left out (errors), and oddities of what was kept or passed over (warnings)
    kind : class folders, a table, or images without labels
    """

    catalog: pd.DataFrame
    problems: pd.DataFrame
    kind: Literal["folders", "table", "files"]
    path: Path


def read_source(
    path: str | Path,
    *,
    image_root: str | Path | None = None,
    id_column: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> Source:
    """Read class folders, a folder of images, a table (CSV, TSV, Parquet) or one image file.

    Class folders are ROOT/class/... or ROOT/{train,val,test}/class/...; whatever lies deeper in a class folder belongs
    to the class. An image outside them is kept without a label. The options are for tables: `image_root` is the folder
    that file names are relative to (default: the table's own, or `images` or `png` in it), the others name columns,
    which are guessed where they are not given. A table without file names is matched by its ids.

    Errors: SkyclassError where there is nothing to read or no image in it, and for a column the table lacks.
    """
    path = Path(path).absolute()
    columns = {
        "image_id": id_column,
        "file": file_column,
        "label": label_column,
        "split": split_column,
        "group": group_column,
    }
    if not path.exists():
        raise SkyclassError("no such file or folder", where=path, fix="check the path")
    if path.is_file() and path.suffix.lower() in TABLE_READERS:
        return _read_table_source(path, columns, image_root)
    if image_root is not None or any(columns.values()):
        what = "an image root and columns are for tables, and this is none"
        raise SkyclassError(what, where=path, fix="leave those options out or give the table (.csv, .tsv or .parquet)")
    if path.is_dir():
        return _read_folder(path)
    if is_image_name(path):
        rows = [{"image_id": _stem(path.name), "file": str(path), "label": None, "split": None}]
        return _source(pd.DataFrame(rows), [], "files", path)
    known = ", ".join((*TABLE_READERS, *IMAGE_SUFFIXES))
    raise SkyclassError("neither a table nor an image by its suffix", where=path, fix=f"the suffixes are {known}")


def _source(
    catalog: pd.DataFrame, problems: Sequence[Problem], kind: Literal["folders", "table", "files"], path: Path
) -> Source:
    return Source(check_catalog(catalog, path), problems_frame(problems), kind, path)


def _warning(file: Path, problem: str, image_id: str = "") -> Problem:
    return Problem(image_id=image_id, file=str(file), problem=problem, severity="warning")


def _stem(name: str) -> str:
    """The name without the suffix of an image, if it has one; other dots (as in coordinates) stay."""
    suffix = next((suffix for suffix in _LONGEST_FIRST if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _ids(names: Iterable[str]) -> dict[str, str]:
    """File name -> the name without its suffix, or with it where two files share the rest."""
    stems = {name: _stem(name) for name in names}
    times = Counter(stems.values())
    return {name: stem if times[stem] == 1 else name for name, stem in stems.items()}


# Folders


def _read_folder(root: Path) -> Source:
    files = sorted(Path(file).relative_to(root) for file in _visible_files(root))
    images = [file for file in files if is_image_name(file)]
    if not images:
        raise SkyclassError("no image in this folder", where=root, fix=f"images end in {', '.join(IMAGE_SUFFIXES)}")
    tables = [file for file in files if len(file.parts) == 1 and file.suffix.lower() in TABLE_READERS]
    problems = [
        _warning(root / file, "a table; to read the labels from it, give it instead of the folder")
        if file in tables
        else _warning(root / file, "not an image by its suffix")
        for file in files
        if not is_image_name(file)
    ]

    with_splits = _has_splits(root)
    if tables and not with_splits:  # folders called train, val and test were made for the labels
        say(f"{root} is read as a folder of images; if the labels are in {tables[0]}, give that file instead")
    ids = _ids(file.as_posix() for file in images)
    rows = []
    for file in images:
        split, label = _place(file, with_splits)
        rows.append({"image_id": ids[file.as_posix()], "file": str(root / file), "label": label, "split": split})
        if label is None:
            problems.append(_warning(root / file, "in no class folder: kept without a label", ids[file.as_posix()]))
    catalog = pd.DataFrame(rows, columns=list(REQUIRED))
    problems += [
        _warning(folder, "no image in this class folder") for folder in _empty_classes(root, with_splits, images)
    ]
    if catalog["label"].isna().all():
        problems = [problem for problem in problems if not problem["image_id"]]  # nobody meant class folders
        return _source(catalog, problems, "files", root)
    return _source(catalog, problems, "folders", root)


def _visible_files(root: Path) -> Iterator[str]:
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


def _has_splits(root: Path) -> bool:
    """Whether the folders are train, val and test: there is a train folder, or there are no others."""
    names = [folder.name.lower() for folder in _folders(root)]
    return "train" in names or (bool(names) and all(name in SPLIT_NAMES for name in names))


def _place(file: Path, with_splits: bool) -> tuple[str | None, str | None]:
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


# Tables


def _read_table_source(path: Path, columns: Mapping[str, str | None], image_root: str | Path | None) -> Source:
    frame = read_table(path, columns)
    names = frame["file" if "file" in frame.columns else "image_id"]
    root, files = _resolve(names.tolist(), path, image_root)
    labelled = "label" in frame.columns
    if "image_id" not in frame.columns:
        frame["image_id"] = pd.Series(_ids_of_files(names.tolist(), files, root), dtype=object)
    frame["file"] = pd.Series(files, dtype=object)  # as object, or pandas turns None into NaN
    for name in REQUIRED:
        if name not in frame.columns:
            frame[name] = None
    problems = _faults(frame, names.tolist(), root, labelled)
    out = [row for row, problem in problems.items() if problem["severity"] == "error"]
    if len(out) == len(frame):
        first = problems[0]
        what = f"none of its {len(frame)} rows can be used; the first: {first['problem']} ({first['file']})"
        raise SkyclassError(
            what,
            where=path,
            fix="name the folder of the images (--image-root) and the columns (--file-column and the like)",
        )
    rest = [name for name in frame.columns if name not in REQUIRED]
    catalog = frame.drop(index=out)[[*REQUIRED, *rest]]
    return _source(catalog, list(problems.values()), "table", path)


def _resolve(names: Sequence[str | None], table: Path, image_root: str | Path | None) -> tuple[Path, list[str | None]]:
    """The folder that most of the names are found in, and each name's file there or None."""
    if image_root is not None and not Path(image_root).is_dir():
        what = "the image root is no folder"
        raise SkyclassError(what, where=image_root, fix="give the folder that the file names are relative to")
    usual = [table.parent, *(table.parent / name for name in _USUAL_FOLDERS)]
    roots = usual if image_root is None else [Path(image_root).absolute()]
    known: dict[Path, dict[str, str]] = {}
    found = {root: [_find(root, name, known) for name in names] for root in roots if root.is_dir()}
    root = max(found, key=lambda root: sum(file is not None for file in found[root]))  # the first of equals
    if image_root is None and root != table.parent:
        say(f"{table.name}: the images are in {root}")
    return root, found[root]


def _find(root: Path, name: str | None, known: dict[Path, dict[str, str]]) -> str | None:
    """The file called so, or so with the suffix of an image; an absolute name needs no root."""
    if name is None:
        return None
    place = root / name
    folder = place.parent
    if folder not in known:
        known[folder] = _names_in(folder)
    actual = known[folder].get(place.name)
    return None if actual is None else str(folder / actual)


def _names_in(folder: Path) -> dict[str, str]:
    """Name, and name without the suffix of an image, -> the name of a file in the folder.

    One listing answers for all rows; asking for each file with each suffix takes minutes on a network disk.
    """
    if not folder.is_dir():
        return {}
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    images = [name for name in names if is_image_name(name)]
    # Of several files that differ in the suffix alone, the one whose suffix stands first in IMAGE_SUFFIXES counts.
    images.sort(key=lambda name: IMAGE_SUFFIXES.index(name[len(_stem(name)) :].lower()), reverse=True)
    return {_stem(name): name for name in images} | {name: name for name in names}


def _ids_of_files(names: Sequence[str | None], files: Sequence[str | None], root: Path) -> list[str | None]:
    """Ids of a table that has none: the file's path from the root (or from where all files lie) without suffix."""
    found = {file: Path(file) for file in files if file is not None}
    if any(not path.is_relative_to(root) for path in found.values()):
        root = Path(os.path.commonpath([path.parent for path in found.values()]))
    below = {file: path.relative_to(root).as_posix() for file, path in found.items()}
    ids = _ids(below.values())
    return [
        ids[below[file]] if file is not None else name and _stem(name) for name, file in zip(names, files, strict=True)
    ]


def _faults(frame: pd.DataFrame, names: Sequence[str | None], root: Path, labelled: bool) -> dict[int, Problem]:
    """Row -> what is wrong with it. `names` are the files or ids that were looked for in `root`."""
    problems: dict[int, Problem] = {}
    first_of: dict[str, int] = {}
    labels_of: dict[tuple[str, str], set[str]] = defaultdict(set)  # of the same id and the same file
    rows = list(zip(frame["image_id"], frame["file"], frame["label"], strict=True))
    for image_id, file, label in rows:
        if image_id and file and label:
            labels_of[image_id, file].add(label)
    for row, (image_id, file, label) in enumerate(rows):
        severity: Literal["error", "warning"] = "error"
        if image_id is None and names[row]:
            problem = "no id"
        elif file is None:
            problem = "no such file" if names[row] else "no file named"
        elif len(labels_of[image_id, file]) > 1:
            problem = "conflicting labels: " + ", ".join(sorted(labels_of[image_id, file]))
        elif first_of.setdefault(image_id, row) != row:
            problem = "repeated id: the first row with it is kept"
        elif labelled and label is None:
            problem, severity = "no label", "warning"
        else:
            continue
        missing = str(root / (names[row] or ""))
        problems[row] = Problem(image_id=image_id or "", file=file or missing, problem=problem, severity=severity)
    return problems
