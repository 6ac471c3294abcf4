"""Loaders: two ways to the same batches, every image once, an order that only seed and epoch decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.make_data import random_pixels
from helpers.toys import toy_pack
from skyclass.core.errors import SkyclassError
from skyclass.data.packs import loader as loaders
from skyclass.data.packs.augment import augment, draw
from skyclass.data.packs.loader import Batch, EpochOrder, Loader, augmenting
from skyclass.recipes.data_settings import AugmentRecipe

CPU = torch.device("cpu")
CLASSES = ["left", "other", "right"]
IMAGES = np.stack([random_pixels(row, (5, 7), 2) for row in range(40)])


def loader_of(n: int, batch_size: int, images: np.ndarray = IMAGES, **changes: Any) -> Loader:
    """A loader of `n` rows in some order."""
    rows = np.random.default_rng(1).permutation(len(images))[:n]
    return Loader(images, rows, rows % 3, batch_size=batch_size, device=CPU, **changes)


def batches_of(loader: Loader, epoch: int = 0) -> list[Batch]:
    loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_equal_batches(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("seed", [None, 3])
def test_resident_and_gathered_batches_are_the_same(tmp_path: Path, dtype: str, seed: int | None) -> None:
    images = toy_pack(tmp_path, bands=3, dtype=dtype).images  # a memory map
    resident, gathered = (loader_of(29, 4, images, shuffle_seed=seed, resident=resident) for resident in (True, False))
    for epoch in (0, 1, 5):
        one, other = batches_of(resident, epoch), batches_of(gathered, epoch)
        assert_equal_batches(one, other)
        for batch in one:
            np.testing.assert_array_equal(batch.images.numpy(), images[batch.rows.numpy()])
            assert (batch.labels == batch.rows % 3).all()
            assert batch.images.shape[1:] == (3, 12, 16)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 40), batch_size=st.integers(1, 50), shuffled=st.booleans(), resident=st.booleans())
def test_every_row_comes_once_an_epoch_in_even_batches(n: int, batch_size: int, shuffled: bool, resident: bool) -> None:
    loader = loader_of(n, batch_size, shuffle_seed=5 if shuffled else None, resident=resident)
    batches = batches_of(loader, 2)
    rows = [row for batch in batches for row in batch.rows.tolist()]
    assert sorted(rows) == sorted(loader.rows.tolist())
    assert shuffled or rows == loader.rows.tolist()
    assert len(batches) == len(loader) == -(-n // batch_size)
    lengths = {len(batch.rows) for batch in batches}
    assert not lengths or (max(lengths) <= batch_size and max(lengths) - min(lengths) <= 1)


def test_the_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    def order(seed: int | None, epoch: int, before: int = 0) -> list[int]:
        sampler = EpochOrder(30, seed)
        for earlier in range(before):
            sampler.set_epoch(earlier)
            sampler.positions()
        sampler.set_epoch(epoch)
        return sampler.positions().tolist()

    assert order(1, 4) == order(1, 4, before=9)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6
    assert order(None, 3) == list(range(30))


def test_an_epoch_can_be_iterated_over_twice_and_left_early() -> None:
    for resident in (True, False):
        loader = loader_of(30, 4, shuffle_seed=1, resident=resident)
        whole = batches_of(loader)
        for batch in loader:
            assert torch.equal(batch.rows, whole[0].rows)
            break
        assert_equal_batches(list(loader), whole)


def test_gathering_stays_a_few_batches_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = loader_of(40, 2, resident=False)
    gathered: list[int] = []
    original = Loader._gather
    monkeypatch.setattr(
        Loader, "_gather", lambda self, positions: gathered.append(len(positions)) or original(self, positions)
    )
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert 3 <= len(gathered) <= 3 + loaders.AHEAD + 1 < len(loader)


def test_a_fault_in_the_gathering_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Loader, "_gather", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        list(loader_of(10, 2, resident=False))


def test_what_fits_lies_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    n_bytes = 10 * 2 * 5 * 7
    for free, expected in ((4 * n_bytes, True), (n_bytes, False)):
        monkeypatch.setattr(loaders, "free_memory", lambda _, free=free: free)
        assert loader_of(10, 4).resident is expected


def test_two_loaders_do_not_count_on_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"free": 1000}
    original = loaders._tensor

    def taken(images: np.ndarray) -> torch.Tensor:
        device["free"] -= images.nbytes
        return original(images)

    monkeypatch.setattr(loaders, "_tensor", taken)
    monkeypatch.setattr(loaders, "free_memory", lambda _: device["free"])
    assert loader_of(6, 4).resident  # 420 bytes of 1000
    assert not loader_of(6, 4).resident  # of 580


def test_unknown_labels_stay_minus_one() -> None:
    loader = Loader(IMAGES, np.arange(4), np.array([-1, 0, -1, 2]), batch_size=4, device=CPU)
    assert batches_of(loader)[0].labels.tolist() == [-1, 0, -1, 2]


# Augmentation


@pytest.mark.parametrize("resident", [True, False])
def test_the_transform_is_the_augmentation_of_seed_epoch_and_row(resident: bool) -> None:
    recipe = AugmentRecipe(flip_horizontal=0.5, rotation=40.0, shift=0.2, mirror_swaps=(("left", "right"),))
    transform = augmenting(recipe, CLASSES, (5, 7), seed=9)
    loader = loader_of(30, 8, shuffle_seed=2, transform=transform, resident=resident)
    swapped = {0: 2, 1: 1, 2: 0}
    seen = set()
    for epoch in (0, 3):
        for batch in batches_of(loader, epoch):
            rows = batch.rows.numpy()
            stored = torch.from_numpy(IMAGES[rows])
            assert torch.equal(batch.images, augment(stored, recipe, (5, 7), 9, epoch, rows))
            mirrored = draw(recipe, 9, epoch, rows).mirrored
            for row, flag, label in zip(rows, mirrored, batch.labels.tolist(), strict=True):
                assert label == (swapped[row % 3] if flag else row % 3)
                seen.add((bool(flag), int(row % 3)))
    assert len(seen) == 6  # every class was seen mirrored and not


def test_an_image_is_augmented_the_same_in_any_batch() -> None:
    recipe = AugmentRecipe(flip_vertical=0.5, rotation=180.0, brightness=0.3)
    found = []
    for batch_size in (1, 7, 30):
        transform = augmenting(recipe, CLASSES, (5, 7), seed=9)
        batches = batches_of(loader_of(30, batch_size, transform=transform), 1)
        found.append(torch.cat([batch.images for batch in batches]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-6)


def test_no_augmentation_gives_the_images_in_unit_scale() -> None:
    transform = augmenting(AugmentRecipe(), CLASSES, (5, 7), seed=0)
    for batch in batches_of(loader_of(10, 4, transform=transform)):
        assert batch.images.dtype == torch.float32
        np.testing.assert_allclose(batch.images.numpy() * 255, IMAGES[batch.rows.numpy()], atol=1e-4)
        assert (batch.labels == batch.rows % 3).all()


def test_a_random_crop_has_the_size_of_the_network() -> None:
    transform = augmenting(AugmentRecipe(crop=(5, 7)), CLASSES, (3, 4), seed=0)
    for batch in batches_of(loader_of(10, 4, transform=transform)):
        assert batch.images.shape[2:] == (3, 4)


def test_swaps_of_unknown_classes_are_refused_before_the_first_batch() -> None:
    with pytest.raises(SkyclassError, match=r"no class is called 'lefft'; .* if one does, did you mean 'left'"):
        augmenting(AugmentRecipe(mirror_swaps=(("lefft", "right"),)), CLASSES, (5, 7), seed=0)


# The stream of a training, and its shares


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    start=st.integers(0, 60),
    length=st.integers(0, 30),
    resident=st.booleans(),
)
def test_the_stream_is_the_epochs_one_after_the_other(
    n: int, batch_size: int, start: int, length: int, resident: bool
) -> None:
    recipe = AugmentRecipe(rotation=30.0)
    transform = augmenting(recipe, CLASSES, (5, 7), seed=9)
    loader = loader_of(n, batch_size, shuffle_seed=4, transform=transform, resident=resident)
    stop = start + length
    epochs = range(start // loader.n_batches, -(-stop // loader.n_batches))
    whole = [batch for epoch in epochs for batch in batches_of(loader, epoch)]
    first = start - start // loader.n_batches * loader.n_batches
    assert_equal_batches(list(loader.stream(start, stop)), whole[first : first + length])


@settings(max_examples=40, deadline=None)
@given(world=st.integers(1, 4), batch_size=st.integers(4, 12), start=st.integers(0, 20))
def test_processes_share_each_batch_of_the_stream(world: int, batch_size: int, start: int) -> None:
    alone = list(loader_of(40, batch_size, shuffle_seed=4).stream(start, start + 9))
    loaders = [loader_of(40, batch_size, shuffle_seed=4, rank=rank, world=world) for rank in range(world)]
    shares = [list(loader.stream(start, start + 9)) for loader in loaders]
    assert all(len(share) == len(alone) for share in shares)
    for batch, parts in zip(alone, zip(*shares, strict=True), strict=True):
        assert batch.rows.tolist() == [row for part in parts for row in part.rows.tolist()]
        assert max(len(part.rows) for part in parts) - min(len(part.rows) for part in parts) <= 1


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 40), world=st.integers(1, 4), batch_size=st.integers(1, 12))
def test_every_row_comes_once_over_all_processes(n: int, world: int, batch_size: int) -> None:
    rows: list[int] = []
    for rank in range(world):
        loader = loader_of(n, batch_size, rank=rank, world=world)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(0 < len(batch.rows) <= -(-batch_size // world) for batch in batches)
        rows += [row for batch in batches for row in batch.rows.tolist()]
    assert rows == loader_of(n, batch_size).rows.tolist()


def test_more_processes_than_images_in_a_batch_are_refused() -> None:
    with pytest.raises(SkyclassError, match=r"training.batch_size: batches of 3 images among 4 devices"):
        next(loader_of(40, 3, rank=0, world=4).stream(0, 1))
