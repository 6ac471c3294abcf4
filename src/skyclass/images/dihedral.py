"""The eight orientations of an image: four quarter turns, mirrored or not (the dihedral group of the square)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Orientation(NamedTuple):
    """A mirror image about the vertical axis, or none, and then quarter turns from the first row towards the first
    column."""

    quarters: int
    mirrored: bool


AS_IT_IS = Orientation(quarters=0, mirrored=False)


def orientations_of(height: int, width: int) -> list[Orientation]:
    """The orientations that keep an image's shape, as it is first: all eight of a square one, four of any other.

    A network that was trained on wide images was not trained on tall ones, and many take no other shape.
    """
    quarters = range(4) if height == width else (0, 2)
    return [Orientation(turns, mirrored) for mirrored in (False, True) for turns in quarters]


def orient(images: Tensor, orientation: Orientation) -> Tensor:
    """Images or maps (..., H, W) in another orientation, (..., W, H) after one or three quarter turns."""
    view = images.flip(-1) if orientation.mirrored else images
    return view.rot90(orientation.quarters, dims=(-2, -1))


def orient_back(images: Tensor, orientation: Orientation) -> Tensor:
    """The inverse of `orient`."""
    held = images.rot90(-orientation.quarters, dims=(-2, -1))
    return held.flip(-1) if orientation.mirrored else held
