"""What the tests of sources ask of a catalog and its problems: `from catalogs import faults, rows, touch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skyclass.data.sources.read import Source


def touch(folder: Path, *names: str) -> Path:
    """Empty files of these names in a folder, which is returned; a catalog opens no image."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def rows(source: Source, *columns: str) -> list[tuple[Any, ...]]:
    """The catalog's rows, of these columns."""
    return list(source.catalog[list(columns)].itertuples(index=False, name=None))


def faults(source: Source) -> list[tuple[str, str, str]]:
    """Name of the file, problem and severity of each problem."""
    frame = source.problems.assign(file=[Path(file).name for file in source.problems["file"]])
    return list(frame[["file", "problem", "severity"]].itertuples(index=False, name=None))
