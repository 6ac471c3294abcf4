"""Rows of catalogs: ids from file names, addresses of array rows, and checks."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import pandas as pd

from ...core.errors import SkyclassError
from ...images.formats.locations import ContainerRow, stem_of
from ..catalog import FAULT, ODDITY, REQUIRED, Found, Problem, warning

logger = logging.getLogger(__name__)


def ids_of(names: Iterable[str]) -> dict[str, str]:
    """File name -> the name without its suffix, or with it where two files share the rest."""
    stems = {name: stem_of(name) for name in names}
    times = Counter(stems.values())
    return {name: stem if times[stem] == 1 else name for name, stem in stems.items()}


def short_names(files: Sequence[Path], root: Path) -> list[str]:
    """A name for each file below the root: its stem, or with the folders too, or also with the suffix, to be unlike."""
    below = [file.relative_to(root) for file in files]
    stems, paths = [file.stem for file in below], [file.with_suffix("").as_posix() for file in below]
    return next(
        (names for names in (stems, paths) if len(set(names)) == len(names)), [file.as_posix() for file in below]
    )


_WAY_OUT = "name the folder of the images (--image-root) and the columns (--file-column and the like)"


def join_table(parts: Sequence[tuple[str, pd.DataFrame]], path: Path) -> pd.DataFrame:
    """The rows of several files, or splits of one, each with what its ids begin with where they need it, as one table.

    If most ids of a part occur in others too, they restart in each: the part's name is put before them, and this is
    logged.
    """
    if len(parts) == 1:
        return parts[0][1]
    ids = [set(part["image_id"].dropna()) for _, part in parts]
    times = Counter(chain.from_iterable(ids))
    if any(2 * sum(times[name] > 1 for name in part) > len(part) for part in ids):
        logger.info(f"{path.name}: the ids begin anew in each file or split, whose names are put before them")
        for beginning, part in parts:
            part["image_id"] = part["image_id"].map(
                lambda name, beginning=beginning: beginning + name, na_action="ignore"
            )
    return pd.concat([part for _, part in parts], ignore_index=True)


def addressed(frame: pd.DataFrame, path: Path, key: str, prefix: str) -> pd.DataFrame:
    """All rows of a file of many images with the address of theirs, in the array or column `key`.

    Rows without an id are called by `prefix` and their number. A `file` of the user's own becomes `table_file`.
    """
    if "file" in frame.columns:
        frame = frame.rename(columns={"file": "table_file"})
    if "image_id" not in frame.columns:
        frame["image_id"] = [f"{prefix}{row}" for row in range(len(frame))]
    frame["file"] = pd.Series([str(ContainerRow(path, key, row)) for row in range(len(frame))], dtype=object)
    return frame


def checked_rows(
    frame: pd.DataFrame,
    path: Path,
    *,
    sought: Sequence[str | None],
    faults: Mapping[int, str] | None = None,
    fix: str = _WAY_OUT,
) -> Found:
    """The rows that are images, with the columns of a catalog first, and what is wrong with the rest.

    frame : columns `image_id` and `file` (None where there is none), rows numbered from 0; perhaps FAULT and ODDITY
    path : the source, which messages name
    sought : a row's file as it was sought, or None if the row names none
    faults : row -> the fault that the reader found

    Errors: SkyclassError, with the fix `fix`, where no row is left.
    """
    labelled = "label" in frame.columns
    for name in REQUIRED:
        column = frame[name].astype(object) if name in frame.columns else pd.Series(None, frame.index, dtype=object)
        frame[name] = column.mask(column.isna(), None)
    odd = frame[ODDITY].dropna() if ODDITY in frame.columns else pd.Series(dtype=object)
    if FAULT in frame.columns:
        faults = {**(faults or {}), **frame[FAULT].dropna()}
    frame = frame.drop(columns=[FAULT, ODDITY], errors="ignore")
    problems = _problems(frame, sought, path, labelled, faults or {})
    out = [row for row, problem in problems.items() if problem["severity"] == "error"]
    if len(out) == len(frame):
        first = problems[out[0]]
        what = f"none of its {len(frame)} rows can be used; the first: {first['problem']} ({first['file']})"
        raise SkyclassError(what, where=path, fix=fix)
    rest = [name for name in frame.columns if name not in REQUIRED]
    kept = frame.drop(index=out)[[*REQUIRED, *rest]]
    left_out = frame.loc[out, [*REQUIRED, *rest]].assign(file=[problems[row]["file"] for row in out])
    odd = odd[odd.index.isin(kept.index)]
    named = zip(odd, kept.loc[odd.index, "file"], kept.loc[odd.index, "image_id"], strict=True)
    oddities = [warning(Path(file), text, image_id) for text, file, image_id in named]
    return Found(kept, [*problems.values(), *oddities], _one_an_id(left_out, kept))


def _one_an_id(left_out: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The first row of each id that is not among the kept ones, without a label where its rows have several."""
    rows = left_out[left_out["image_id"].notna() & ~left_out["image_id"].isin(kept["image_id"])]
    several = rows.groupby("image_id")["label"].transform("nunique") > 1
    return rows.assign(label=rows["label"].mask(several, None)).drop_duplicates("image_id")


def _problems(
    frame: pd.DataFrame, sought: Sequence[str | None], path: Path, labelled: bool, faults: Mapping[int, str]
) -> dict[int, Problem]:
    """Row -> what is wrong with it."""
    problems: dict[int, Problem] = {}
    first_of: dict[str, int] = {}
    labels_of: dict[tuple[str, str], set[str]] = defaultdict(set)  # of the same id and the same file
    rows = list(zip(frame["image_id"], frame["file"], frame["label"], strict=True))
    for image_id, file, label in rows:
        if image_id and file and label:
            labels_of[image_id, file].add(label)
    for row, (image_id, file, label) in enumerate(rows):
        severity: Literal["error", "warning"] = "error"
        if row in faults:
            problem = faults[row]
        elif image_id is None and sought[row]:
            problem = "no id"
        elif file is None:
            problem = "no such file" if sought[row] else f"row {row} names no file"
        elif len(labels_of[image_id, file]) > 1:
            problem = "conflicting labels: " + ", ".join(sorted(labels_of[image_id, file]))
        elif first_of.setdefault(image_id, row) != row:
            problem = "repeated id: the first row with it is kept"
        elif labelled and label is None:
            problem, severity = "no label", "warning"
        else:
            continue
        named = str(file or sought[row] or path)
        problems[row] = Problem(image_id=image_id or "", file=named, problem=problem, severity=severity, kind="row")
    return problems
