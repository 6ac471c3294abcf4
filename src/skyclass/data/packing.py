"""From a catalog of files to a pack, and from a pack to the pixels that one training wants."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..console import progress, say
from ..csv_files import write_csv
from ..decoding import Decoded, read_and_decode
from ..errors import SkyclassError
from ..files import sha256_of, written_whole
from ..images import read_image
from ..pixels import apply_recipe, named_bands, stored_bands
from ..recipe import PixelRecipe, parse_pixels, recipe_hash
from ..threads import in_order
from .audit import cluster_problems, duplicate_clusters, duplicate_problems, duplicate_table
from .catalog import Problem, pixel_problems, problems_frame, write_problems
from .duplicates import Fingerprint, find_duplicates, fingerprint
from .file_kinds import NOTHING, Look, file_problems, look_of, mixture_problems
from .pack import PROBLEMS, Chunk, Pack, write_pack
from .pack_check import is_verified, remember
from .split import assign_splits

SURVEYED = 100  # images looked at to find the usual bands, size and type
CHUNK = 256


class Packed(NamedTuple):
    """A pack, all problems met on the way, and the `audit.duplicate_table` of its images (None: not looked for)."""

    pack: Pack
    problems: pd.DataFrame
    duplicates: pd.DataFrame | None


class _Read(NamedTuple):
    decoded: Decoded
    fingerprint: Fingerprint | None
    oddities: list[Problem]
    look: Look


def pack_catalog(
    catalog: pd.DataFrame,
    problems: pd.DataFrame,
    folder: Path,
    pixels: PixelRecipe,
    source: dict[str, Any],
    *,
    splits: tuple[float, float, float],
    seed: int,
    duplicates: bool,
) -> Packed:
    """Decode the images of `catalog` (column `file`, paths or addresses) into a pack, and split them.

    Files that cannot be used are left out; `problems.csv` in the folder lists them after those in `problems`.
    What `pixels` leaves open is settled first (`settle`), so that the pack's recipe says everything. The pack's catalog
    gains `bad_pixels`, the share of NaN and infinite pixels that were filled, and with `duplicates` a column of that
    name: the clusters of copies of one picture, which `assign_splits` keeps together; `duplicates.csv` lists all pairs.
    Errors: SkyclassError where no image can be read, and as of `assign_splits`.
    """
    found: list[dict[str, Any]] = []
    prints: list[Fingerprint] = []
    looks: list[Look] = []
    table: list[pd.DataFrame] = []

    def finish(packed: pd.DataFrame) -> pd.DataFrame:
        found.extend(dict(row) for row in mixture_problems(looks, str(source.get("source", "")), pixels))
        if duplicates:
            pairs = find_duplicates(prints)
            packed["duplicates"] = duplicate_clusters(packed, pairs)
        packed = assign_splits(packed, splits, seed)
        if duplicates:
            table.append(duplicate_table(packed, pairs))
            large = cluster_problems(table[0], len(packed), str(source.get("source", folder)))
            found.extend(dict(row) for row in [*large, *duplicate_problems(table[0])])
            write_csv(table[0], folder / "duplicates.csv")
        return packed

    try:
        pixels = settle(pixels, catalog["file"].tolist())
        chunks = _chunks(catalog, pixels, found, prints if duplicates else None, looks)
        pack = write_pack(_some(chunks, found, folder), folder, pixels, classes=None, source=source, finish=finish)
    finally:
        problems = pd.concat([problems, problems_frame(found)], ignore_index=True)
        write_problems(problems, folder / PROBLEMS)
    return Packed(pack, problems, table[0] if table else None)


def _some(chunks: Iterator[Chunk], found: list[dict[str, Any]], folder: Path) -> Iterator[Chunk]:
    """The chunks. Errors: SkyclassError where there is none, with the first of the reasons in `found`."""
    first = next(chunks, None)
    if first is None:
        error = next(problem for problem in found if problem["severity"] == "error")
        what = f"none of the images can be used, the first, {error['file']}, because: {error['problem']}"
        raise SkyclassError(what, where=folder / PROBLEMS, fix="the file has the reason of each")
    yield first
    yield from chunks


def _chunks(
    catalog: pd.DataFrame,
    pixels: PixelRecipe,
    found: list[Any],
    prints: list[Fingerprint] | None,
    looks: list[Look],
) -> Iterator[Chunk]:
    """Decoded chunks of the readable rows; what is wrong with the others goes to `found`, what all look like to
    `looks`, and if wanted fingerprints to `prints`.
    """

    def read(file: str) -> _Read:
        image, decoded = read_and_decode(file, [pixels])
        if image is None:
            return _Read(decoded, None, [], NOTHING)
        look = look_of(image)
        if prints is None or decoded.pixels is None:
            return _Read(decoded, None, file_problems("", file, image), look)
        # The fingerprint is of the image as it was read: margins and other sizes would mislead.
        return _Read(decoded, fingerprint(image.pixels), file_problems("", file, image), look)

    ids, files = catalog["image_id"].tolist(), catalog["file"].tolist()
    images: list[np.ndarray] = []
    rows: list[int] = []
    bad: list[float] = []
    with progress("Packing", len(catalog)) as advance:
        for row, (decoded, print_, oddities, look) in enumerate(in_order(read, files)):
            image_id, file = ids[row], files[row]
            found += pixel_problems(image_id, file, decoded.error, decoded.warning)
            found += [{**problem, "image_id": image_id} for problem in oddities]
            looks.append(look)
            if decoded.pixels is not None:
                images.append(decoded.pixels)
                rows.append(row)
                bad.append(decoded.bad)
            if prints is not None and print_ is not None:
                prints.append(print_)
            advance(1)
            if len(images) == CHUNK:
                yield Chunk(np.stack(images), catalog.iloc[rows].assign(bad_pixels=bad))
                images, rows, bad = [], [], []
        if images:
            yield Chunk(np.stack(images), catalog.iloc[rows].assign(bad_pixels=bad))


def settle(pixels: PixelRecipe, files: Sequence[str]) -> PixelRecipe:
    """Fill in the bands, size and type that the recipe leaves open: the commonest among a sample of the files.

    Where none can be read the recipe stays as it is. Errors: SkyclassError where there is no file at all.
    """
    if not files:
        raise SkyclassError("no image to pack", where="source", fix="check the path and the column names")
    step = max(1, len(files) // SURVEYED)
    sample = list(_readable(files[::step][:SURVEYED])) or list(_readable(files))
    if not sample:
        return pixels  # packing will name the reason of each
    bands, sizes, types = zip(*sample, strict=True)
    tell_padding(pixels.crop, _commonest(sizes))
    changes: dict[str, Any] = {}
    if pixels.bands is None:
        changes["bands"] = stored_bands(_commonest(bands), pixels)
    if pixels.size is None:
        changes["size"] = pixels.crop or _commonest(sizes)
    for size in dict.fromkeys(sizes):
        if tell_distortion(pixels.model_copy(update=changes), size):
            break
    if pixels.dtype is None:
        as_they_are = pixels.interval == "none" and pixels.stretch == "linear"
        picture = "uint8" if pixels.stretch == "lupton" else "float32"
        changes["dtype"] = _common_type(types) if as_they_are else picture
    return parse_pixels(pixels.model_copy(update=changes), ())  # checked: lupton wants three bands, say


def tell_padding(crop: tuple[int, int] | None, size: Sequence[int]) -> None:
    """Say so where `crop` is larger than images of `size`, both (height, width): it adds zeros instead of cutting."""
    if crop is not None and any(wanted > side for wanted, side in zip(crop, size, strict=True)):
        say(
            f"pixels.crop is {crop[0]}x{crop[1]} and the images are {size[0]}x{size[1]}: zeros fill the margin; "
            "pixels.crop=null keeps the images whole"
        )


def tell_distortion(pixels: PixelRecipe, size: Sequence[int]) -> bool:
    """Say so, and return it, where `pixels` stretches images of (height, width) `size` to another aspect ratio."""
    height, width = pixels.crop or size
    if pixels.fit != "stretch" or pixels.size is None or height * pixels.size[1] == width * pixels.size[0]:
        return False
    say(
        f"pixels.fit is stretch: images of {height}x{width} pixels are distorted to {pixels.size[0]}x{pixels.size[1]}; "
        "pixels.fit=pad keeps their aspect ratio"
    )
    return True


def tell_enlarging(wanted: tuple[int, int] | None, packed: Sequence[int]) -> None:
    """Say so where images of a pack, (height, width) `packed`, are enlarged to twice their size or more: that adds
    pixels, and no detail.
    """
    if wanted is not None and any(side >= 2 * stored for side, stored in zip(wanted, packed, strict=True)):
        height, width = wanted
        asked = f"{height}" if height == width else f"[{height},{width}]"
        say(
            f"Warning: the pack has images of {packed[0]}x{packed[1]} pixels, which the recipe enlarges to "
            f"{height}x{width}; for more detail pack larger files: skyclass pack SOURCE PACK --pixels size={asked}"
        )


def _common_type(types: Sequence[str]) -> str:
    """The type that holds the images' values as they are.

    Floats among mostly integers have a scale of their own: an integer type refuses them one by one, with the reason.
    """
    kinds = set(types)
    whole = [kind for kind in types if kind != "float32"]
    if len(kinds) > 1 and ("float32" not in kinds or 2 * len(whole) < len(types)):
        return "float32"
    return "uint16" if "uint16" in kinds else "uint8" if whole else "float32"


def _readable(files: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[int, int], str]]:
    """Bands, (height, width) and type of the files that can be read."""
    for file in files:
        try:
            image = read_image(Path(file))
        except SkyclassError:
            continue
        _, height, width = image.pixels.shape
        yield image.bands, (height, width), str(image.pixels.dtype)


def _commonest(values: Sequence[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def prepare(pack: Pack, recipe: PixelRecipe) -> np.ndarray:
    """The pack's images (N, C, h, w) taken through a training's pixel recipe; the pack's own array where that changes
    nothing, else a memory-mapped file kept in the pack for the next training with the same pixels.
    """
    if _changes_nothing(pack, recipe):
        return pack.images
    # The normalisation comes later; the pack's hash, lest pixels of other images be taken for these.
    pixels = PixelRecipe.model_validate(recipe.model_dump(include=set(PixelRecipe.model_fields)))
    name = f"prepared/{pack.hash[:16]}-{recipe_hash(pixels)[:16]}.npy"
    file = pack.path / name
    if is_verified(pack.path, name):  # one that is not, or was changed, is made again
        return _mapped(file)
    first = apply_recipe(np.asarray(pack.images[0]), pack.bands, recipe)
    shape = (len(pack.images), *first.shape)
    if not os.access(pack.path, os.W_OK):
        result = np.empty(shape, first.dtype)
        _fill(result, pack, recipe)
        return result
    with written_whole(file) as part:
        _reserve(part, first.nbytes * len(pack.images))
        target = np.lib.format.open_memmap(part, mode="w+", dtype=first.dtype, shape=shape)
        _fill(target, pack, recipe)
        target.flush()
        del target  # Windows renames no file that is mapped
    remember(pack.path, {name: sha256_of(file)})
    return _mapped(file)


def _reserve(path: Path, n_bytes: int) -> None:
    """Take the room for a file that will be mapped into memory: a full disk would kill the process there."""
    if hasattr(os, "posix_fallocate"):  # elsewhere the system takes the room itself
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, n_bytes)


def _fill(target: np.ndarray, pack: Pack, recipe: PixelRecipe) -> None:
    """Write every image of the pack, through `recipe`, into `target` (N, C, h, w)."""

    def one(row: int) -> None:
        target[row] = apply_recipe(np.asarray(pack.images[row]), pack.bands, recipe)

    with progress("Preparing pixels", len(target)) as advance:
        for _ in in_order(one, range(len(target))):
            advance(1)


def _mapped(file: Path) -> np.ndarray:
    array: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    return array


def _changes_nothing(pack: Pack, recipe: PixelRecipe) -> bool:
    height, width = pack.images.shape[2:]
    same_bands = recipe.bands in (None, named_bands(pack.bands, recipe.file_bands))
    same_values = recipe.interval == "none" and recipe.stretch == "linear"
    same_size = recipe.crop in (None, (height, width)) and recipe.size in (None, (height, width))
    same_type = recipe.dtype in (None, str(pack.images.dtype))
    return same_bands and same_values and same_size and same_type
