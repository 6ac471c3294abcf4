"""The data of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ...data.packs.loader import Batch
from ...images.preprocess import Statistics

# Called after each validation with the epochs done, such as 2.25, and the scores.
OnValidation = Callable[[float, dict[str, float]], None]


class Stream(Protocol):
    """The endless stream of training batches: batch b of epoch e is number e * n_batches + b."""

    @property
    def n_batches(self) -> int:
        """Batches in an epoch."""

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches [start, stop) of the stream."""


@dataclass(frozen=True)
class Inputs:
    """The data of a training.

    train, val : training batches as a stream, and the validation batches in any order
    n_images : training images in an epoch
    classes : K names, in the order of the labels
    normalisation : mean and deviation of each band
    class_weights : (K,) weights of the classes in the loss
    names : image_id of each row of the pack, for messages
    shown : validation images as they are stored, on the CPU, for TensorBoard
    """

    train: Stream
    val: Iterable[Batch]
    n_images: int
    classes: list[str]
    normalisation: Statistics
    class_weights: Tensor | None = None
    names: list[str] | None = None
    shown: Batch | None = None
