"""Write a pack from a catalog of files, and resize a pack's images for a training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...core.console import progress
from ...core.errors import SkyclassError
from ...core.files.csv_files import write_csv
from ...core.parallel import in_order
from ...images.decode import read_and_decode
from ...images.formats.arrays import Image
from ...images.formats.read import read_image
from ...images.preprocess import stored_bands
from ...recipes.data_settings import PixelSettings
from ...recipes.recipe import parse_pixels
from ..audit.checks import cluster_problems, duplicate_clusters, duplicate_problems, duplicate_table
from ..audit.duplicates import find_duplicates
from ..audit.file_kinds import NOTHING, PixelFormat, file_problems, mixture_problems, pixel_format
from ..audit.fingerprints import Fingerprint, fingerprint
from ..catalog import Problem, pixel_problems, problems_frame, write_problems
from .npy_stream import PackChunk
from .pack import PROBLEMS, Pack, write_pack
from .split import assign_splits

logger = logging.getLogger(__name__)

SAMPLED = 100  # images that are read to find the usual bands, size and type
CHUNK = 256


class Packed(NamedTuple):
    """A pack, all problems that were found, and the `checks.duplicate_table` of its images (None: not computed)."""

    pack: Pack
    problems: pd.DataFrame
    duplicates: pd.DataFrame | None


class _Read(NamedTuple):
    decoded: Image
    fingerprint: Fingerprint | None
    oddities: list[Problem]
    pixel_format: PixelFormat


def pack_catalog(
    catalog: pd.DataFrame,
    problems: pd.DataFrame,
    folder: Path,
    pixels: PixelSettings,
    source: dict[str, Any],
    *,
    splits: tuple[float, float, float],
    seed: int,
    duplicates: bool,
) -> Packed:
    """Decode the images of `catalog` (column `file`, paths or addresses) into a pack, and split them.

    Files that cannot be used are left out; `problems.csv` in the folder lists them after those in `problems`.
    What `pixels` leaves open is settled first (`settle`), so that the pack's settings are complete. The pack's catalog
    gains `bad_pixels`, the share of NaN and infinite pixels that were filled, and with `duplicates` a column of that
    name: the clusters of copies of one picture, which `assign_splits` keeps together; `duplicates.csv` lists all pairs.
    Errors: SkyclassError where no image can be read, and as of `assign_splits`.
    """
    found: list[dict[str, Any]] = []
    prints: list[Fingerprint] = []
    pixel_formats: list[PixelFormat] = []
    table: list[pd.DataFrame] = []

    def finish(packed: pd.DataFrame) -> pd.DataFrame:
        found.extend(dict(row) for row in mixture_problems(pixel_formats, str(source.get("source", "")), pixels))
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
        chunks = _chunks(catalog, pixels, found, prints if duplicates else None, pixel_formats)
        pack = write_pack(
            _at_least_one(chunks, found, folder), folder, pixels, classes=None, source=source, finish=finish
        )
    finally:
        problems = pd.concat([problems, problems_frame(found)], ignore_index=True)
        write_problems(problems, folder / PROBLEMS)
    return Packed(pack, problems, table[0] if table else None)


def _at_least_one(chunks: Iterator[PackChunk], found: list[dict[str, Any]], folder: Path) -> Iterator[PackChunk]:
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
    pixels: PixelSettings,
    found: list[Any],
    prints: list[Fingerprint] | None,
    pixel_formats: list[PixelFormat],
) -> Iterator[PackChunk]:
    """Decoded chunks of the readable rows; what is wrong with the others goes to `found`, the formats of all to
    `pixel_formats`, and if wanted fingerprints to `prints`.
    """

    def read(file: str) -> _Read:
        image, decoded = read_and_decode(file, [pixels])
        if image is None:
            return _Read(decoded, None, [], NOTHING)
        found_format = pixel_format(image)
        if prints is None or decoded.error is not None:
            return _Read(decoded, None, file_problems("", file, image), found_format)
        # The fingerprint is of the image as it was read: margins and other sizes would mislead.
        return _Read(decoded, fingerprint(image.pixels), file_problems("", file, image), found_format)

    ids, files = catalog["image_id"].tolist(), catalog["file"].tolist()
    images: list[np.ndarray] = []
    rows: list[int] = []
    bad: list[float] = []
    with progress("Packing", len(catalog)) as advance:
        for row, (decoded, print_, oddities, found_format) in enumerate(in_order(read, files)):
            image_id, file = ids[row], files[row]
            found += pixel_problems(image_id, file, decoded.error, decoded.warning)
            found += [{**problem, "image_id": image_id} for problem in oddities]
            pixel_formats.append(found_format)
            if decoded.error is None:
                images.append(decoded.pixels)
                rows.append(row)
                bad.append(decoded.bad)
            if prints is not None and print_ is not None:
                prints.append(print_)
            advance(1)
            if len(images) == CHUNK:
                yield PackChunk(np.stack(images), catalog.iloc[rows].assign(bad_pixels=bad))
                images, rows, bad = [], [], []
        if images:
            yield PackChunk(np.stack(images), catalog.iloc[rows].assign(bad_pixels=bad))


def settle(pixels: PixelSettings, files: Sequence[str]) -> PixelSettings:
    """Fill in the bands, size and type that the recipe leaves open: the commonest among a sample of the files.

    Where none can be read the recipe stays as it is. Errors: SkyclassError where there is no file at all.
    """
    if not files:
        raise SkyclassError("no image to pack", where="source", fix="check the path and the column names")
    step = max(1, len(files) // SAMPLED)
    sample = list(_readable(files[::step][:SAMPLED])) or list(_readable(files))
    if not sample:
        return pixels  # packing will name the reason of each
    bands, sizes, types = zip(*sample, strict=True)
    warn_of_padding(pixels.crop, _commonest(sizes))
    changes: dict[str, Any] = {}
    if pixels.bands is None:
        changes["bands"] = stored_bands(_commonest(bands), pixels)
    if pixels.size is None:
        changes["size"] = pixels.crop or _commonest(sizes)
    for size in dict.fromkeys(sizes):
        if warn_of_distortion(pixels.model_copy(update=changes), size):
            break
    if pixels.dtype is None:
        as_they_are = pixels.interval == "none" and pixels.stretch == "linear"
        picture = "uint8" if pixels.stretch == "lupton" else "float32"
        changes["dtype"] = _common_type(types) if as_they_are else picture
    return parse_pixels(pixels.model_copy(update=changes), ())  # checked: lupton wants three bands, say


def warn_of_padding(crop: tuple[int, int] | None, size: Sequence[int]) -> None:
    """Warn if `crop` is larger than images of `size`, both (height, width): it adds zeros instead of cutting."""
    if crop is not None and any(wanted > side for wanted, side in zip(crop, size, strict=True)):
        logger.warning(
            f"pixels.crop is {crop[0]}x{crop[1]} and the images are {size[0]}x{size[1]}: zeros fill the margin; "
            "pixels.crop=null keeps the images whole"
        )


def warn_of_distortion(pixels: PixelSettings, size: Sequence[int]) -> bool:
    """Warn, and return True, if `pixels` distorts images of (height, width) `size` to another aspect ratio."""
    height, width = pixels.crop or size
    if pixels.fit != "distort" or pixels.size is None or height * pixels.size[1] == width * pixels.size[0]:
        return False
    logger.warning(
        f"pixels.fit is distort: images of {height}x{width} pixels are distorted to {pixels.size[0]}x{pixels.size[1]}; "
        "pixels.fit=pad keeps their aspect ratio"
    )
    return True


def warn_of_enlarging(wanted: tuple[int, int] | None, packed: Sequence[int]) -> None:
    """Warn if images of a pack, (height, width) `packed`, are enlarged to twice their size or more: that adds
    pixels, and no detail.
    """
    if wanted is not None and any(side >= 2 * stored for side, stored in zip(wanted, packed, strict=True)):
        height, width = wanted
        option = f"{height}" if height == width else f"[{height},{width}]"
        logger.warning(
            f"Warning: the pack has images of {packed[0]}x{packed[1]} pixels, which the recipe enlarges to "
            f"{height}x{width}; for more detail pack larger files: skyclass pack SOURCE PACK --pixels size={option}"
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
