"""One file a band: names such as `{id}_{band}.fits` become objects with their bands in order of wavelength."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ...core.errors import SkyclassError
from ...images.formats.locations import BandFiles, stem_of
from ..catalog import Found, Problem, warning
from ..source_options import SourceOptions
from .folder_layout import find_layout
from .folders import files_below
from .rows import checked_rows
from .tables import read_named

logger = logging.getLogger(__name__)

# Bands and roughly their central wavelengths in nanometres.
_NAMES = ("FUV", "NUV", "u", "U", "B", "g", "V", "r", "R", "i", "I", "z", "y", "Y", "J", "H", "Ks", "K", "W1", "W2")
_CENTRES = (153, 231, 355, 365, 445, 480, 551, 620, 650, 760, 800, 890, 990, 1020, 1250, 1650, 2150, 2200, 3400, 4600)
_WAVELENGTHS = dict(zip(_NAMES, _CENTRES, strict=True))
# Filters of Hubble are numbered in nanometres from F200 on and in tens of them below; those of Webb, in tens. F410M,
# which both have, is taken for Webb's.
_FILTER = re.compile(r"F([0-9]{3,4})(?:W2?|M|N|X|LP)")
_ONE_BAND = re.compile(rf"(?P<id>.+)(?P<mark>[_.-])(?:[ugrizy]|{_FILTER.pattern})", re.DOTALL)
_WEBB = (
    *("F200W", "F210M", "F212N", "F250M", "F277W", "F300M", "F322W2", "F323N", "F335M", "F356W", "F360M", "F380M"),
    *("F405N", "F410M", "F430M", "F444W", "F460M", "F466N", "F470N", "F480M", "F560W", "F770W"),
)


class _Object(NamedTuple):
    folder: Path  # relative to the root: where the pattern begins
    id: str


def read_band_files(root: Path, options: SourceOptions) -> Found:
    """A folder whose files hold one band each; class folders and splits above them count as for whole images.

    Errors: SkyclassError for a pattern without {id} and {band}, and where no file fits it.
    """
    pattern = options.band_files or ""
    files, objects = _objects(root, pattern)
    bands = _common_bands(objects, root)
    layout = find_layout(root, [(one.folder / one.id).as_posix() for one in objects], options)
    rows, faults = [], {}
    for row, (one, found) in enumerate(objects.items()):
        image_id = (one.folder / one.id).as_posix()
        place = layout.place(image_id)
        file = str(_address(root / one.folder, pattern, one.id, bands))
        rows.append({"image_id": image_id, "file": file, **place._asdict()})
        lacking = [band for band in bands if band not in found]
        if lacking:
            faults[row] = _lacks(pattern, one.id, lacking)
    frame = pd.DataFrame(rows)
    frame = frame.drop(columns=[name for name in ("label", "group") if frame[name].isna().all()])
    found_rows = checked_rows(frame, root, sought=frame["file"].tolist(), faults=faults, fix=_FIX)
    return found_rows._replace(problems=[*found_rows.problems, *_passed_over(root, files, objects, bands, pattern)])


_FIX = "complete the bands of at least one object"


def read_band_table(path: Path, options: SourceOptions) -> Found:
    """A table whose ids are those of files with one band each, in the image root or the table's folder.

    Errors: SkyclassError as of `read_band_files`, and where no id is found.
    """
    pattern = options.band_files or ""
    frame = read_named(path, options, places=False)
    if "image_id" not in frame.columns:
        raise SkyclassError("no column of ids was recognised", where=path, fix="say which it is (--id-column)")
    root = (options.image_root or path.parent).absolute()
    if not root.is_dir():
        raise SkyclassError("the image root is no folder", where=root, fix="give the folder of the band files")
    _, objects = _objects(root, pattern)
    bands = _common_bands(objects, root)
    places: dict[str, list[_Object]] = {}
    for one in objects:
        places.setdefault(one.id, []).append(one)
    files: list[str | None] = []
    faults = {}
    for row, name in enumerate(frame["image_id"]):
        found = places.get(name, [])
        files.append(str(_address(root / found[0].folder, pattern, name, bands)) if found else None)
        lacking = [band for band in bands if found and band not in objects[found[0]]]
        if len(found) > 1:
            faults[row] = f"files of this id in several folders: {found[0].folder} and {found[1].folder}"
        elif lacking:
            faults[row] = _lacks(pattern, name, lacking)
    if "file" in frame.columns:
        frame = frame.rename(columns={"file": "table_file"})
    frame["file"] = pd.Series(files, dtype=object)
    sought = [str(root / _name(pattern, name, bands[0])) if name else None for name in frame["image_id"]]
    return checked_rows(frame, path, sought=sought, faults=faults)


def band_pattern(files: Iterable[str]) -> str | None:
    """The pattern of names that differ in a band alone (u, g, r, i, z, y or F606W and the like), or None.

    At least 3 objects have to have 2 bands or more.
    """
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for file in files:
        stem = stem_of(file)
        if named := _ONE_BAND.fullmatch(stem):
            kinds.setdefault((named["mark"], file[len(stem) :]), Counter())[named["id"]] += 1
    for (mark, suffix), times in kinds.items():
        if sum(count > 1 for count in times.values()) >= 3:
            return f"{{id}}{mark}{{band}}{suffix}"
    return None


def by_wavelength(bands: Iterable[str]) -> tuple[str, ...]:
    """Bands from blue to red where their wavelengths are known, then the others by name."""
    known = {band: wavelength for band in bands if (wavelength := _wavelength(band)) is not None}
    return tuple(sorted(bands, key=lambda band: (known.get(band, float("inf")), band)))


def _wavelength(band: str) -> float | None:
    """Nanometres, or None."""
    if named := _FILTER.fullmatch(band.upper()):
        number = int(named[1])
        return number * 10.0 if number < 200 or number >= 1000 or band.upper() in _WEBB else float(number)
    return _WAVELENGTHS.get(band)


def _objects(root: Path, pattern: str) -> tuple[list[Path], dict[_Object, set[str]]]:
    """All files below the root, and the objects among them with their bands.

    Errors: SkyclassError for a pattern without {id} and {band}, and where no file fits it.
    """
    fits_pattern = _expression(pattern)
    files = [Path(file) for file in files_below(root)]
    depth = len(Path(pattern).parts)
    objects: dict[_Object, set[str]] = {}
    for file in files:
        match = fits_pattern.fullmatch("/".join(file.parts[-depth:]))
        if match:
            objects.setdefault(_Object(Path(*file.parts[:-depth]), match["id"]), set()).add(match["band"])
    if not objects:
        what = f"none of its {len(files):,} files is called {pattern}"
        raise SkyclassError(what, where=root, fix="give the pattern of their names, as in {id}_{band}.fits")
    if any(mark in str(root / one.folder) for one in objects for mark in "{}"):
        raise SkyclassError("braces in the names of folders", where=root, fix="rename the folders")
    return files, objects


def _expression(pattern: str) -> re.Pattern[str]:
    """The names that a pattern describes. Of several ways to divide a name, the id takes the most.

    Errors: SkyclassError where it lacks {id} or {band}, has one twice, or has other braces.
    """
    pieces = re.split(r"(\{id\}|\{band\})", pattern)
    marks = sorted(piece for piece in pieces if piece in ("{id}", "{band}"))
    if marks != ["{band}", "{id}"] or any(mark in "".join(pieces[::2]) for mark in "{}"):
        what = f"the pattern {pattern!r} does not hold {{id}} and {{band}}, each once"
        raise SkyclassError(what, fix="write it as in {id}_{band}.fits")
    named = {"{id}": r"(?P<id>[^/{}]+)", "{band}": r"(?P<band>[^/{},]+?)"}
    return re.compile("".join(named.get(piece) or re.escape(piece) for piece in pieces))


def _common_bands(objects: Mapping[_Object, set[str]], root: Path) -> tuple[str, ...]:
    """The bands of most objects, in order, which is logged."""
    counts = Counter(frozenset(bands) for bands in objects.values())
    most = max(counts, key=lambda bands: (counts[bands], len(bands), sorted(bands)))
    bands = by_wavelength(most)
    logger.info(f"{root.name}: bands {', '.join(bands)}, those of {counts[most]:,} of {len(objects):,} objects")
    return bands


def _name(pattern: str, name: str, band: str) -> str:
    return pattern.replace("{id}", name).replace("{band}", band)


def _address(folder: Path, pattern: str, name: str, bands: tuple[str, ...]) -> BandFiles:
    before, after = pattern.replace("{id}", name).split("{band}")
    return BandFiles(f"{folder}/{before}", bands, after)


def _lacks(pattern: str, name: str, bands: Sequence[str]) -> str:
    return "no such file: " + ", ".join(_name(pattern, name, band) for band in bands)


def _passed_over(
    root: Path, files: Sequence[Path], objects: Mapping[_Object, set[str]], bands: Sequence[str], pattern: str
) -> list[Problem]:
    """Warnings of files that are no band of an object, or of bands that most objects lack."""
    read = {one.folder / _name(pattern, one.id, band) for one, found in objects.items() for band in found}
    problems = [warning(root / file, f"not called {pattern}") for file in files if file not in read]
    for one, found in objects.items():
        extra = by_wavelength(found - set(bands))
        if extra:
            place = root / one.folder / _name(pattern, one.id, extra[0])
            problems.append(warning(place, f"a band that most objects lack: {', '.join(extra)}", one.id))
    return problems
