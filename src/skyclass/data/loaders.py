"""Batches on the device: from an array that lies there whole, or gathered ahead from a memory map by a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..models.hardware import free_memory
from ..recipe import AugmentRecipe
from ..threads import in_order
from .augment import augment, draw, mirror_pairs, swap_labels

RESIDENT_SHARE = 0.5  # of the free memory that the images may take to lie on the device
AHEAD = 2  # batches that the gathering thread may be ahead


class Batch(NamedTuple):
    """Images (n, C, h, w), labels (n,) int64 (-1 where unknown), and their rows (n,) in the pack."""

    images: Tensor
    labels: Tensor
    rows: Tensor


# Changes a batch on the device, given the epoch: augmentation.
Transform = Callable[[Batch, int], Batch]


class EpochOrder:
    """The order of the images in an epoch: a permutation drawn from (seed, epoch), or the given order."""

    def __init__(self, n: int, seed: int | None) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def positions(self) -> np.ndarray:
        """(n,) positions in this epoch's order."""
        if self.seed is None:
            return np.arange(self.n)
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.n)


class Loader:
    """Iterates over batches of rows of an array of images, on `device`.

    Every image comes once an epoch; the batches of an epoch differ by one image at most, so that none is tiny.
    """

    batch_sampler = None  # Lightning asks for it wherever there is a `sampler`

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        device: torch.device,
        shuffle_seed: int | None = None,
        transform: Transform | None = None,
        resident: bool | None = None,
    ) -> None:
        self.images, self.rows = images, np.asarray(rows, dtype=np.int64)
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.batch_size, self.device, self.transform = batch_size, device, transform
        self.sampler = EpochOrder(len(self.rows), shuffle_seed)
        n_bytes = len(self.rows) * int(np.prod(images.shape[1:])) * images.dtype.itemsize
        self.resident = n_bytes < RESIDENT_SHARE * free_memory(device) if resident is None else resident
        # At once, so that the next loader finds this memory taken.
        self._on_device = _tensor(images[self.rows]).to(device) if self.resident else None

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Batches of this epoch, transformed, on the device."""
        if not len(self.rows):
            return
        order = np.array_split(self.sampler.positions(), len(self))
        resident = self._on_device
        for batch in self._gathered_batches(order) if resident is None else self._resident_batches(resident, order):
            yield self.transform(batch, self.sampler.epoch) if self.transform else batch

    def _resident_batches(self, resident: Tensor, order: list[np.ndarray]) -> Iterator[Batch]:
        for positions in order:
            images = resident.index_select(0, torch.from_numpy(positions).to(self.device))
            yield self._batch(images, positions)

    def _gathered_batches(self, order: list[np.ndarray]) -> Iterator[Batch]:
        for images, positions in zip(in_order(self._gather, order, threads=1, ahead=AHEAD), order, strict=True):
            yield self._batch(images.to(self.device, non_blocking=True), positions)

    def _gather(self, positions: np.ndarray) -> Tensor:
        rows = self.rows[positions]
        order = np.argsort(rows)  # a memory map is read in its own order
        images = np.empty((len(rows), *self.images.shape[1:]), self.images.dtype)
        images[order] = self.images[rows[order]]
        tensor = _tensor(images)
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _batch(self, images: Tensor, positions: np.ndarray) -> Batch:
        rows = torch.from_numpy(self.rows[positions])
        return Batch(images, self.labels[torch.from_numpy(positions)].to(self.device), rows)


def augmenting(recipe: AugmentRecipe, classes: list[str], out_size: tuple[int, int], seed: int) -> Transform:
    """The augmentation of a training: images become float32 in unit scale, and mirrored labels are swapped.

    Errors: SkyclassError for a class in `mirror_swaps` that is not among `classes`.
    """
    partner = mirror_pairs(recipe, classes)

    def transform(batch: Batch, epoch: int) -> Batch:
        rows = batch.rows.numpy()
        images = augment(batch.images, recipe, out_size, seed, epoch, rows)
        labels = swap_labels(batch.labels, draw(recipe, seed, epoch, rows).mirrored, partner)
        return Batch(images, labels, batch.rows)

    return transform


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images))
