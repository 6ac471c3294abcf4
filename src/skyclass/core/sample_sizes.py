"""The least number of images for each statement, and the notes on classes that have fewer."""

from __future__ import annotations

from collections.abc import Mapping

from .text import listed

LEAST_RANKED = 10
"""Wrong predictions, and right ones, from which a ranking of the errors is reliable.

With ten of each an AUROC of 0.75 has a standard error of 0.11 (Hanley & McNeil 1982, Radiology 143, 29, equation 1), so
that its 95 % interval just excludes 0.5; with fewer not even so good a ranking can be told from chance.
"""

LEAST_GRADED = 10
"""Images from which maps are graded.

Each check compares pairs, a map with another of the same image. Of ten pairs one may go the other way for a sign test
to exclude chance at 95 % (p = 0.021; two: p = 0.11); of five, all that agree do not (p = 0.06).
"""

LEAST_IN_CLASS = 10
"""Images of a class from which its scores are reliable: Wilson's 95 % interval of 9 right among 10 is 0.60 to 0.98."""

LEAST_DISCORDANT = 6
"""Images that only one of two classifiers gets right, below which McNemar's exact test cannot reach p = 0.05."""

LEAST_TRIALS = 10
"""Complete trials from which the importance of settings is drawn.

The variance of a forest on fewer is that of its few leaves: Hutter, Hoos & Leyton-Brown 2014 (ICML 32, section 4) fit
theirs to hundreds.
"""


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
