"""The least number of images for each statement, and the notes on classes that have fewer."""

from __future__ import annotations

from collections.abc import Mapping

from .text import listed

LEAST_RANKED = 10

LEAST_GRADED = 10

LEAST_IN_CLASS = 10

LEAST_DISCORDANT = 6

LEAST_TRIALS = 10


def class_notes(counts: Mapping[str, int], what: str = "image") -> list[str]:
    """Notes on classes with few images or none among those that a classifier is evaluated on.

    Parameters
    ----------
    counts : images of each class of the classifier
    what : what an image of them is called
    """
    absent = [name for name, n in counts.items() if n == 0]
    few = [f"{name} ({n})" for name, n in counts.items() if 0 < n < LEAST_IN_CLASS]
    present = len(counts) - len(absent)
    notes = []
    if present == 1:
        (only,) = (name for name, n in counts.items() if n)
        notes.append(f"Every {what} is labelled {only}: whether the classes are told apart cannot be told.")
    elif absent:
        notes.append(
            f"No {what} is labelled {listed(absent)}: averages are over the {present} classes that are present."
        )
    if few:
        notes.append(
            f"Too few to tell how well these classes are recognised, below {LEAST_IN_CLASS} {what}s: {listed(few)}."
        )
    return notes
