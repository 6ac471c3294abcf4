"""Addresses: the `file` of a catalog for an image that is part of a file, or several files.

    galaxies.h5::images[17]             row 17 of an array: HDF5, NPZ, NPY (`stack.npy::[17]`) or a Parquet column
    frame.fits::sky(150.1,2.2)[64x64]   64x64 pixels about RA and Dec in degrees, through the WCS of the file
    frame.fits::pixel(812,40.5)[64x64]  64x64 pixels about x and y, counted from 0 at the centre of the first pixel
    m51_{g,r,i}.fits                    one file a band: m51_g.fits, m51_r.fits, m51_i.fits

An address stands wherever a file's name does: in tables of a user's own, in predictions, in a notebook. Parsing refuses
nothing, so that one bad row of a table costs no other; reading does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.limits import MAX_ADDRESS
from .registry import IMAGE_SUFFIXES

_LONGEST_FIRST = sorted(IMAGE_SUFFIXES, key=len, reverse=True)

# No pattern may go back over what it has read: a text of a table can be as long as it likes.
_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?|nan|[-+]?inf"
_ROW = re.compile(r"\[(?P<row>-?[0-9]{1,18})\]")
_CUTOUT = re.compile(
    rf"(?P<system>sky|pixel)\( *(?P<x>{_NUMBER}) *, *(?P<y>{_NUMBER}) *\)\[(?P<h>[0-9]{{1,9}})x(?P<w>[0-9]{{1,9}})\]",
    re.IGNORECASE,
)
_BANDS = re.compile(r"(?P<before>[^{}]*)\{(?P<bands>[^{},]+(?:,[^{},]+)*)\}(?P<after>[^{}]*)")


@dataclass(frozen=True)
class ContainerRow:
    """Row `row`, from 0, of the array or column `key` in a file. A key with `::` in it cannot be written down."""

    path: Path
    key: str
    row: int

    def __str__(self) -> str:
        return f"{self.path}::{self.key}[{self.row}]"


@dataclass(frozen=True)
class Cutout:
    """`size` (height, width) pixels of a FITS mosaic about (x, y): RA and Dec in degrees if `on_sky`, else pixels."""

    path: Path
    x: float
    y: float
    size: tuple[int, int]
    on_sky: bool

    def __str__(self) -> str:
        system = "sky" if self.on_sky else "pixel"
        return f"{self.path}::{system}({float(self.x)!r},{float(self.y)!r})[{self.size[0]}x{self.size[1]}]"


@dataclass(frozen=True)
class BandFiles:
    """One file a band: `before` + band + `after`, for each of `bands` in order."""

    before: str
    bands: tuple[str, ...]
    after: str

    @property
    def files(self) -> dict[str, Path]:
        """Band -> its file."""
        return {band: Path(f"{self.before}{band}{self.after}") for band in self.bands}

    def __str__(self) -> str:
        return f"{self.before}{{{','.join(self.bands)}}}{self.after}"


Address = Path | ContainerRow | Cutout | BandFiles


def parse_address(text: str | Path) -> Address:
    """What a catalog's `file` names. A text that is no address, or that a file is called, is the path of a file."""
    text = str(text)
    if ("::" not in text and "{" not in text) or len(text) > MAX_ADDRESS:
        return Path(text)
    address = _parsed(text)
    return Path(text) if not isinstance(address, Path) and _is_file(text) else address


def _parsed(text: str) -> Address:
    path, _, piece = text.rpartition("::")  # a path may hold `::`, an array's name may not
    if path and (cutout := _CUTOUT.fullmatch(piece)):
        size, on_sky = (int(cutout["h"]), int(cutout["w"])), cutout["system"].lower() == "sky"
        return Cutout(Path(path), float(cutout["x"]), float(cutout["y"]), size, on_sky)
    key, bracket, number = piece.rpartition("[")
    if path and (row := _ROW.fullmatch(bracket + number)):
        return ContainerRow(Path(path), key, int(row["row"]))
    if bands := _BANDS.fullmatch(text):
        return BandFiles(bands["before"], tuple(bands["bands"].split(",")), bands["after"])
    return Path(text)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # too long a name
        return False


def files_of(address: Address) -> list[Path]:
    """The files that an address reads."""
    if isinstance(address, BandFiles):
        return list(address.files.values())
    return [address if isinstance(address, Path) else address.path]


def image_id_of(address: Address) -> str:
    """The id of an image that has been given none.

    A file: its name without the suffix of an image. A row: its number. A cutout: `x_y`. Band files: what their names
    have in common (`m51_{g,r}.fits`: m51), or the folder's name where that is nothing (`m51/{g,r}.fits`: m51).
    """
    if isinstance(address, ContainerRow):
        return str(address.row)
    if isinstance(address, Cutout):
        return f"{address.x:.10g}_{address.y:.10g}"  # 1e-10 of 360 degrees is 0.1 milliarcseconds
    if isinstance(address, BandFiles):
        common = address.before + address.after
        return stem_of(common.rpartition("/")[2]).strip("_-.") or Path(common).parent.name
    return stem_of(address.name)


def image_ids_of(names: Sequence[str]) -> list[str]:
    """Ids, all different, of images that have been given none: `image_id_of` where it is that of one image alone.

    Where several share it, the names are ids as far as they differ: without the folders that all have in common and
    without the suffix of an image, or with it. A repeated name is numbered: `a`, `a#2`.
    """
    ids = [image_id_of(parse_address(name)) for name in names]
    times = Counter(ids)
    if len(times) == len(ids):
        return ids
    parts = [name.replace("\\", "/").split("/") for name in dict.fromkeys(names)]
    depth = 0
    while all(len(part) > depth + 1 and part[depth] == parts[0][depth] for part in parts):
        depth += 1
    paths = ["/".join(name.replace("\\", "/").split("/")[depth:]) for name in names]
    stems = [stem_of(path) for path in paths]
    alike = Counter(dict(zip(names, stems, strict=True)).values())  # files that differ in the suffix alone
    wanted = [
        one if times[one] == 1 else stem if alike[stem] == 1 else path
        for one, stem, path in zip(ids, stems, paths, strict=True)
    ]
    seen: Counter[str] = Counter()
    for row, name in enumerate(wanted):
        while seen[wanted[row]]:
            wanted[row] = f"{name}#{seen[name] + 1}"
            seen[name] += 1
        seen[wanted[row]] += 1
    return wanted


def stem_of(name: str) -> str:
    """A file's name without the suffix of an image, if it has one; other dots (as in coordinates) stay."""
    lower = name.lower()
    if not lower.endswith(IMAGE_SUFFIXES):
        return name
    return name[: -len(next(suffix for suffix in _LONGEST_FIRST if lower.endswith(suffix)))]
