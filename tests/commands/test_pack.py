"""What `skyclass pack` says of splits and classes, and a training of a pack that is too small."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.commands import done
from helpers.logged import Logged
from helpers.make_data import class_folders
from skyclass.data.packs.write import warn_of_enlarging


def test_the_counts_of_the_splits_are_said(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", ("bar", "blob"), per_class=10)
    told = done("pack", tmp_path / "images", tmp_path / "p", "--no-duplicates", "--splits", "0.5,0.25,0.25").err
    line = next(line for line in told.splitlines() if line.startswith("splits: "))
    counts = [int(part.split()[1]) for part in line.removeprefix("splits: ").split(", ")]
    assert (sum(counts), len(counts)) == (20, 3)
    assert "Warning: all labels" not in told


def test_a_single_class_is_warned_of_and_an_image_is_one(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", ("bar",), splits={"train": 1})
    told = done("pack", tmp_path / "images", tmp_path / "p", "--no-duplicates").err
    assert "1 image, 3 bands of 24x32 pixels" in told
    assert "splits: train 1, val 0, test 0, as the source has them" in told
    assert "Warning: all labels are 'bar', and a classifier needs two classes at least" in told


@pytest.mark.parametrize(("wanted", "said"), [((224, 224), True), ((64, 64), True), ((63, 63), False), (None, False)])
def test_a_pack_much_smaller_than_the_recipe_is_said(
    wanted: tuple[int, int] | None, said: bool, logged: Logged
) -> None:
    warn_of_enlarging(wanted, (32, 32))
    assert ("the pack has images of 32x32 pixels, which the recipe enlarges to" in logged()) == said
