"""Names of image files: what remains without the suffix, and ids made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..images import IMAGE_SUFFIXES

_LONGEST_FIRST = sorted(IMAGE_SUFFIXES, key=len, reverse=True)


def stem_of(name: str) -> str:
    """The name without the suffix of an image, if it has one; other dots (as in coordinates) stay."""
    suffix = next((suffix for suffix in _LONGEST_FIRST if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def ids_of(names: Iterable[str]) -> dict[str, str]:
    """File name -> the name without its suffix, or with it where two files share the rest."""
    stems = {name: stem_of(name) for name in names}
    times = Counter(stems.values())
    return {name: stem if times[stem] == 1 else name for name, stem in stems.items()}
