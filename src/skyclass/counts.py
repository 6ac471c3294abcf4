"""Counts and times in sentences: "1 image", "2,000 images", "3 min 12 s"."""

from __future__ import annotations

import re


def quantity(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, as in 1 image, 2,000 images, 3 classes, 2 bodies of fish.

    Parameters
    ----------
    n : the number
    noun : in the singular; the word before the first "of" takes the plural: "image of the split"
    plural : where the plural is irregular

    Returns
    -------
    The number with commas between thousands, and the noun in the number that fits.
    """
    return f"{n:,} {noun if n == 1 else plural or _plural(noun)}"


def _plural(noun: str) -> str:
    head, of, rest = noun.partition(" of ")
    if re.search(r"(s|x|z|ch|sh)$", head):
        return f"{head}es{of}{rest}"
    if re.search(r"[^aeiou]y$", head):
        return f"{head[:-1]}ies{of}{rest}"
    return f"{head}s{of}{rest}"


def duration(seconds: float) -> str:
    """Such as 0.8 s, 3 min 12 s or 2 h 5 min."""
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
