"""Recognise the columns of a user's table: ids, files, labels, splits, groups and coordinates."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
from astropy.coordinates import Angle
from astropy.coordinates.angles.errors import IllegalSecondWarning

from ...core.errors import SkyclassError
from ..catalog import COORDINATES, FAULT, ODDITY, SPLITS, TEXT, as_text
from ..source_options import SourceOptions
from ..split_names import split_of

logger = logging.getLogger(__name__)

# What the columns of ids are called: of images, of objects in surveys and in Galaxy Zoo.
_OF_IMAGES = ("imageid", "id", "idstr")
_OF_OBJECTS = (
    *("objid", "dr7objid", "dr8objid", "galaxyid", "iauname", "objectid", "sourceid", "targetid", "designation"),
    *("coaddobjectid", "specobjid", "photoobjid", "lsid", "galid", "objname", "objectname", "sourcename", "mainid"),
    *("componentname", "2massid", "ticid", "kepid"),
)
_ALSO_AN_ID = re.compile(r".*(objid|objectid|sourceid|targetid|galaxyid)[0-9]?")  # gaia_source_id, dr17objid, ...
_SHARED = 0.1  # share of the rows beyond which an object has several images, and its id is none of theirs

# Column names by the part they play, the likeliest first, as `plain` writes them.
_GUESSES: dict[str, tuple[str, ...]] = {
    "image_id": (*_OF_IMAGES, *_OF_OBJECTS),
    "file": ("file", "filename", "path", "filepath", "image", "imagepath", "imagefile"),
    "label": ("label", "class", "target", "type", "classname"),
    "split": ("split", "set", "subset"),
    "group": ("group",),
}
# What the columns of a position on the sky may be called, in small letters, the likeliest first.
SKY = (
    *(("ra", "dec"), ("_raj2000", "_dej2000"), ("raj2000", "dej2000"), ("ra_deg", "dec_deg")),
    *(("alpha_j2000", "delta_j2000"), ("alphawin_j2000", "deltawin_j2000"), ("ra_icrs", "de_icrs")),
)
# All that sexagesimal text is made of; the parser takes its time over anything else.
_SEXAGESIMAL = re.compile(r"[-+\u2212]?\s*[0-9][0-9.\s:\u00b0'\"\u2032\u2033hdmsegarcinoutNSEW]*")
_READABLE = 0.1  # share of the values of a column of coordinates that have to be some
_HOURS = {"ra": "hourangle", "dec": "deg"}  # what sexagesimal text without letters counts


def plain(name: str) -> str:
    """A column's name in small letters and without separators: SOURCE_ID, Source Id and sourceId are sourceid."""
    return re.sub(r"[\s_.-]+", "", name.lower())


def given_columns(options: SourceOptions) -> dict[str, str | None]:
    """Part -> the column that the user named for it, or None."""
    return {
        "image_id": options.id_column,
        "file": options.file_column,
        "label": options.label_column,
        "split": options.split_column,
        "group": options.group_column,
    }


def text_columns(given: Mapping[str, str | None]) -> frozenset[str]:
    """Names, as `plain` writes them, of columns that are text whatever their values are."""
    return frozenset(
        {name for names in _GUESSES.values() for name in names} | {plain(name) for name in given.values() if name}
    )


def name_columns(
    table: pd.DataFrame,
    given: Mapping[str, str | None],
    path: Path,
    *,
    places: bool = True,
    split_names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """A user's table with the catalog's column names, as far as it has such columns; the rest stays as it is.

    `given` has for each of image_id, file, label, split and group the column to take, or None to guess it. Those parts
    are text or None, splits are spelt train, val, test; the column of ids stays under its own name too, integers as
    integers; sexagesimal `ra` (hours) and `dec` become degrees. A column of
    the user's that bears the name of a part that another column plays, or of coordinates and holds none, becomes
    `table_<name>`. Single values that are no split or no coordinate are left empty, and named in the column ODDITY.
    places : whether the table must have files or ids of the images
    split_names : value of the column of splits -> split

    Errors: SkyclassError for a column it lacks, neither files nor ids, and a given column without any split.
    """
    faults = table.get(FAULT)
    table = table.drop(columns=FAULT, errors="ignore")
    parts = _parts(table, given, path, places, split_names or {})
    rest = table.drop(columns=list(set(parts.values())))
    if parts.get("image_id", "image_id") not in TEXT:
        rest[parts["image_id"]] = table[parts["image_id"]]
    ids = [name for name in rest.columns if name == parts.get("image_id") or plain(name) in _GUESSES["image_id"]]
    rest = rest.assign(**{name: _whole_numbers(rest[name]) for name in ids})
    rest = rest.rename(columns={name: _free_name(name, rest.columns) for name in rest.columns})
    odd: dict[Hashable, list[str]] = {}
    for name in COORDINATES:
        if name in rest.columns:
            rest = _with_degrees(rest, name, path, odd)
    frame = pd.DataFrame({part: as_text(table[name], path) for part, name in parts.items()}, index=table.index)
    frame = frame.join(rest)
    if "split" in frame.columns:
        frame["split"] = _splits(frame["split"], parts["split"], split_names or {}, path, odd)
    if odd:
        texts = {row: f"row {row}: {', '.join(guesses)}" for row, guesses in odd.items()}
        frame[ODDITY] = pd.Series(texts, dtype=object).reindex(frame.index)
    return frame if faults is None else frame.assign(**{FAULT: faults})


def _whole_numbers(column: pd.Series) -> pd.Series:
    """Text of 64-bit integers as such, which other catalogs hold; every other column as it is."""
    if pd.api.types.is_string_dtype(column.dtype) and column.str.fullmatch("0|-?[1-9][0-9]{0,18}").all():
        with suppress(OverflowError, ValueError):  # beyond 64 bits
            return column.astype("int64")
    return column


def _splits(
    column: pd.Series, called: str, names: Mapping[str, str], path: Path, odd: dict[Hashable, list[str]]
) -> pd.Series:
    """The splits as this house calls them, None for what is none, which goes to `odd`.

    Errors: SkyclassError where no value is a split.
    """
    spelt = column.map(lambda split: split_of(split, names), na_action="ignore").astype(object)
    spelt = spelt.mask(spelt.isna(), None)
    unknown = column[spelt.isna() & column.notna()]
    if len(unknown) and spelt.isna().all():
        fix = f"the splits are {', '.join(SPLITS)}, and no value of column {called!r} is one"
        fix += f"; say what they stand for, as in --split-names {column.dropna().iloc[0]}=train"
        raise SkyclassError(f"unknown split {unknown.iloc[0]!r}", where=path, fix=fix)
    for row, value in unknown.items():
        odd.setdefault(row, []).append(f"{value!r} in column {called!r} is no split, and the row has none")
    return spelt


def _with_degrees(table: pd.DataFrame, name: str, path: Path, odd: dict[Hashable, list[str]]) -> pd.DataFrame:
    """The table with `name` in degrees, or renamed `table_<name>`, with a message, if it holds something else."""
    values, bad = degrees(table[name], name)
    if not is_read(values, bad):
        other = f"table_{name}"
        while other in table.columns:
            other = f"table_{other}"
        logger.warning(
            f"{path.name}: column {name!r} holds no coordinates, such as {bad.iloc[0]!r}: it is kept as {other!r}"
        )
        return table.rename(columns={name: other})
    for row, value in bad.items():
        odd.setdefault(row, []).append(f"{value!r} in column {name!r} is no number of degrees")
    return table.assign(**{name: values})


def is_read(values: pd.Series, bad: pd.Series) -> bool:
    """Whether enough of a column could be read as numbers for it to be one of positions."""
    count = int(values.notna().sum())
    return bad.empty or (count > 0 and count >= _READABLE * (count + len(bad)))


def _parts(
    table: pd.DataFrame, given: Mapping[str, str | None], path: Path, places: bool, split_names: Mapping[str, str]
) -> dict[str, str]:
    """Part -> column of the table, as given or else as guessed; guesses are logged."""
    have = ", ".join(table.columns)
    parts = {part: name for part, name in given.items() if name is not None}
    for name in parts.values():
        if name not in table.columns:
            raise SkyclassError(f"no column {name!r}", where=path, fix=f"its columns are {have}")
    spelling = {plain(name): name for name in reversed(table.columns)}
    guessed = {}
    for part in sorted(_GUESSES, key=lambda part: part == "image_id"):  # last, when the column of files is known
        found = _guess(part, spelling, table, parts, path, split_names) if part not in parts else None
        if found is not None and found not in parts.values():
            parts[part] = guessed[part] = found
    if places and "file" not in parts and "image_id" not in parts:
        what = "no column of files or ids was recognised"
        raise SkyclassError(what, where=path, fix=f"say which it is among {have} (--file-column, --id-column)")
    guesses = [f"{part} from column {guessed[part]!r}" for part in _GUESSES if part in guessed]
    if "image_id" not in parts and "file" in parts:
        guesses.append("image_id from the names of the files")
    if guesses:
        logger.info(f"{path.name}: guessed {', '.join(guesses)}")
    return parts


def _guess(
    part: str,
    spelling: Mapping[str, str],
    table: pd.DataFrame,
    parts: Mapping[str, str],
    path: Path,
    split_names: Mapping[str, str],
) -> str | None:
    """The column that seems to play a part, or None."""
    found = next((spelling[name] for name in _GUESSES[part] if name in spelling), None)
    if part == "image_id" and found is None:
        found = next((name for name in table.columns if _ALSO_AN_ID.fullmatch(plain(name))), None)
    if found is None:
        return None
    # A column called `set` may be about anything: it holds splits if some value is the name of one.
    if part == "split" and not any(split_of(str(value), split_names) for value in table[found].unique()):
        logger.warning(
            f"{path.name}: no value of column {found!r} is train, val or test: it is not taken for the split"
        )
        return None
    if part == "image_id" and "file" in parts and plain(found) not in _OF_IMAGES:
        files = table[parts["file"]].groupby(table[found]).transform("nunique")
        if (files > 1).sum() > _SHARED * len(table):
            logger.warning(
                f"{path.name}: {(files > 1).sum():,} of {len(table):,} rows share {found!r} with another file, so "
                f"it is no id of images; --group-column {found} keeps the images of one object in one split"
            )
            return None
    return found


def _free_name(name: str, taken: pd.Index) -> str:
    """The name of a user's column beside the catalog's own; RA and Dec are ra and dec."""
    if name.lower() in COORDINATES and name.lower() not in taken:
        return name.lower()
    return f"table_{name}" if name in TEXT else name


def degrees(column: pd.Series, name: str) -> tuple[pd.Series, pd.Series]:
    """A column of degrees, or of sexagesimal text, as float64 degrees, NaN where it is empty; and what is neither.

    Text such as 10:12:33.1, 10 12 33.1 or 10h12m33.1s counts hours in `ra` and degrees in `dec`.
    """
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return numbers, pd.Series(dtype=object)
    text = column.map(str, na_action="ignore").astype(object).str.strip()
    words = text[numbers.isna() & text.notna()].astype(str)
    words = words[(words != "") & (words.str.lower() != "nan")]
    angles = pd.Series(_angles(words.tolist(), _HOURS[name]), index=words.index, dtype="float64")
    numbers.loc[words.index] = angles
    return numbers, words[angles.isna()]


def _angles(words: Sequence[str], unit: str) -> list[float]:
    """Degrees of sexagesimal text; NaN where it is none."""
    plausible = [place for place, word in enumerate(words) if _SEXAGESIMAL.fullmatch(word)]
    angles = [float("nan")] * len(words)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllegalSecondWarning)  # 60 seconds are a minute
        for place in plausible:
            # The parser's own errors, such as IllegalMinuteError, are of the first kind; the other is of 400 digits.
            with suppress(ValueError, OverflowError):
                angles[place] = float(Angle(words[place], unit=unit).deg)
    return angles


def name_classes(labels: pd.Series, names: Sequence[str], where: str | Path) -> pd.Series:
    """Labels numbered from 0, as 1, 1.0 or True, as the names of their classes; None stays, and -1 becomes None.

    Errors: SkyclassError for a label that is no number, or has no name.
    """
    numbers = {text: name for number, name in enumerate(names) for text in (str(number), f"{number}.0")}
    numbers |= dict(zip(("False", "True"), names, strict=False))
    labels = labels.mask(labels.isin(["-1", "-1.0"]), None)  # "not labelled" where classes are numbers
    unknown = sorted(set(labels.dropna()) - set(numbers))
    if unknown:
        what = f"label {unknown[0]!r} is none of the numbers 0 to {len(names) - 1} of the {len(names)} class names"
        raise SkyclassError(what, where=where, fix="name every class, or leave the names out")
    return pd.Series([None if label is None else numbers[label] for label in labels], index=labels.index, dtype=object)
