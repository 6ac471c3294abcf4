"""Ids made of the names of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..addresses import stem_of


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
