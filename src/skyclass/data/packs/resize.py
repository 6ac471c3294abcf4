"""The images of a pack at the size that a training asks for, computed once and kept beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...core.console import progress
from ...core.files.atomic_files import sha256_of, written_whole
from ...core.parallel import in_order
from ...images.preprocess import apply_settings, named_bands
from ...recipes.data_settings import PixelSettings
from ...recipes.recipe import recipe_hash
from .pack import Pack
from .verify import is_verified, remember


def resize_for_training(pack: Pack, settings: PixelSettings) -> np.ndarray:
    """The pack's images (N, C, h, w) taken through a training's pixel settings; the pack's own array where that changes
    nothing, else a memory-mapped file kept in the pack for the next training with the same pixels.
    """
    if _changes_nothing(pack, settings):
        return pack.images
    # The normalisation comes later. The name has the pack's hash, so that pixels of another pack are not taken.
    pixels = PixelSettings.model_validate(settings.model_dump(include=set(PixelSettings.model_fields)))
    name = f"prepared/{pack.hash[:16]}-{recipe_hash(pixels)[:16]}.npy"
    file = pack.path / name
    if is_verified(pack.path, name):  # one that is not, or was changed, is made again
        return _mapped(file)
    first = apply_settings(np.asarray(pack.images[0]), pack.bands, settings)
    shape = (len(pack.images), *first.shape)
    if not os.access(pack.path, os.W_OK):
        result = np.empty(shape, first.dtype)
        _fill(result, pack, settings)
        return result
    with written_whole(file) as part:
        _reserve(part, first.nbytes * len(pack.images))
        target = np.lib.format.open_memmap(part, mode="w+", dtype=first.dtype, shape=shape)
        _fill(target, pack, settings)
        target.flush()
        del target  # Windows renames no file that is mapped
    remember(pack.path, {name: sha256_of(file)})
    return _mapped(file)


def _reserve(path: Path, n_bytes: int) -> None:
    """Take the room for a file that will be mapped into memory: a full disk would kill the process there."""
    if hasattr(os, "posix_fallocate"):  # elsewhere the system takes the room itself
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, n_bytes)


def _fill(target: np.ndarray, pack: Pack, settings: PixelSettings) -> None:
    """Write every image of the pack, through `settings`, into `target` (N, C, h, w)."""

    def one(row: int) -> None:
        target[row] = apply_settings(np.asarray(pack.images[row]), pack.bands, settings)

    with progress("Preparing pixels", len(target)) as advance:
        for _ in in_order(one, range(len(target))):
            advance(1)


def _mapped(file: Path) -> np.ndarray:
    array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    return array


def _changes_nothing(pack: Pack, settings: PixelSettings) -> bool:
    height, width = pack.images.shape[2:]
    same_bands = settings.bands in (None, named_bands(pack.bands, settings.file_bands))
    same_values = settings.interval == "none" and settings.stretch == "linear"
    same_size = settings.crop in (None, (height, width)) and settings.size in (None, (height, width))
    same_type = settings.dtype in (None, str(pack.images.dtype))
    return same_bands and same_values and same_size and same_type
