"""Batches on the device, from an array that is there whole, or prefetched from a memory map by a thread."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core.devices import free_memory
from ...core.errors import SkyclassError
from ...core.parallel import in_order
from ...recipes.data_settings import AugmentSettings
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
        """The epoch that `Loader.__iter__` goes through."""
        self.epoch = epoch

    def positions(self, epoch: int | None = None) -> np.ndarray:
        """(n,) positions in the order of that epoch (default: the one that was set)."""
        if self.seed is None:
            return np.arange(self.n)
        return np.random.default_rng([self.seed, self.epoch if epoch is None else epoch]).permutation(self.n)


class Loader:
    """Batches of rows of an array of images, on `device`: of one epoch (`__iter__`), or of the endless `stream`.

    Every image comes once an epoch; the batches of an epoch differ by one image at most, so that none is tiny.
    Where `world` processes share the work, `batch_size` is that of all together, and this one is number `rank`:
    `__iter__` goes through its share of the rows, `stream` gives its share of each batch.
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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images, self.rows = images, np.asarray(rows, dtype=np.int64)
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.batch_size, self.device, self.transform = batch_size, device, transform
        self.rank, self.world = rank, world
        self.sampler = EpochOrder(len(self.rows), shuffle_seed)
        n_bytes = len(self.rows) * int(np.prod(images.shape[1:])) * images.dtype.itemsize
        free = free_memory(device) / (1 if device.type == "cuda" else world)  # processes share the machine's
        self.resident = n_bytes < RESIDENT_SHARE * free if resident is None else resident
        # At once, so that the next loader finds this memory taken.
        self._on_device = _tensor(images[self.rows]).to(device) if self.resident else None

    def unshared(self) -> Loader:
        """The same batches whole, on the same memory."""
        whole = copy.copy(self)
        whole.rank, whole.world = 0, 1
        return whole

    @property
    def n_batches(self) -> int:
        """Batches in an epoch of the stream."""
        return -(-len(self.rows) // self.batch_size)

    def __len__(self) -> int:
        """Number of batches that `__iter__` gives."""
        return -(-len(self._share(np.arange(len(self.rows)))) // -(-self.batch_size // self.world))

    def __iter__(self) -> Iterator[Batch]:
        """Batches of this epoch, transformed, on the device."""
        if not len(self):
            return
        positions = self._share(self.sampler.positions())
        epoch = self.sampler.epoch
        yield from self._batches([(epoch, some) for some in np.array_split(positions, len(self))])

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches [start, stop) of the endless stream: batch b of epoch e is number e * n_batches + b.

        Errors: SkyclassError where a batch has fewer images than there are processes to share it.
        """
        if len(self.rows) // max(1, self.n_batches) < self.world:
            what = f"batches of {self.batch_size} images among {self.world} devices leave some without an image"
            raise SkyclassError(what, where="training.batch_size", fix="give larger batches, or use fewer devices")
        chosen = []
        for epoch in range(start // self.n_batches, -(-stop // self.n_batches)):
            first = epoch * self.n_batches
            batches = np.array_split(self.sampler.positions(epoch), self.n_batches)
            chosen += [(epoch, self._share(some)) for some in batches[max(0, start - first) : stop - first]]
        yield from self._batches(chosen)

    def _share(self, positions: np.ndarray) -> np.ndarray:
        """This process's share of positions."""
        return np.array_split(positions, self.world)[self.rank]

    def _batches(self, chosen: list[tuple[int, np.ndarray]]) -> Iterator[Batch]:
        """The batches of these (epoch, positions), transformed."""
        resident, order = self._on_device, [positions for _, positions in chosen]
        batches = self._gathered_batches(order) if resident is None else self._resident_batches(resident, order)
        for (epoch, _), batch in zip(chosen, batches, strict=True):
            yield self.transform(batch, epoch) if self.transform else batch

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


def augmenting(settings: AugmentSettings, classes: list[str], out_size: tuple[int, int], seed: int) -> Transform:
    """The augmentation of a training: images become float32 in unit scale, and mirrored labels are swapped.

    Errors: SkyclassError for a class in `mirror_swaps` that is not among `classes`.
    """
    partner = mirror_pairs(settings, classes)

    def transform(batch: Batch, epoch: int) -> Batch:
        rows = batch.rows.numpy()
        images = augment(batch.images, settings, out_size, seed, epoch, rows)
        labels = swap_labels(batch.labels, draw(settings, seed, epoch, rows).mirrored, partner)
        return Batch(images, labels, batch.rows)

    return transform


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images))
