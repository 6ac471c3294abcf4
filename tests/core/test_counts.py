"""Counts in sentences."""

from __future__ import annotations

import pytest

from skyclass.core.text import quantity


@pytest.mark.parametrize(
    ("n", "noun", "told"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (2000, "image", "2,000 images"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
        (3, "image of the split", "3 images of the split"),
        (1, "image of the split", "1 image of the split"),
        (2, "copy", "2 copies"),
        (2, "array", "2 arrays"),
        (2, "batch", "2 batches"),
    ],
)
def test_a_number_has_its_noun(n: int, noun: str, told: str) -> None:
    assert quantity(n, noun) == told


def test_an_irregular_plural() -> None:
    assert quantity(3, "index", "indices") == "3 indices"
