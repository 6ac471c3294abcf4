"""What the columns of a user's table mean: which holds the ids, files, labels, splits, groups and coordinates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from astropy.coordinates import Angle
from astropy.coordinates.angles.errors import IllegalSecondWarning

from ..console import say
from ..errors import SkyclassError
from .catalog import COORDINATES, SPLIT_NAMES, TEXT, as_text
from .source_options import SourceOptions

# Column names by the part they play, the likeliest first, in small letters.
_GUESSES: dict[str, tuple[str, ...]] = {
    "image_id": ("image_id", "id", "id_str", "objid", "dr7objid", "dr8objid", "galaxyid", "iauname", "object_id"),
    "file": ("file", "filename", "file_name", "path", "filepath", "file_path", "image", "image_path", "image_file"),
    "label": ("label", "class", "target", "type", "class_name"),
    "split": ("split", "set", "subset"),
    "group": ("group",),
}
# What the columns of a position on the sky may be called, in small letters, the likeliest first.
SKY = (
    *(("ra", "dec"), ("_raj2000", "_dej2000"), ("raj2000", "dej2000"), ("ra_deg", "dec_deg")),
    *(("alpha_j2000", "delta_j2000"), ("alphawin_j2000", "deltawin_j2000"), ("ra_icrs", "de_icrs")),
)
_HOURS = {"ra": "hourangle", "dec": "deg"}  # what sexagesimal text without letters counts


def given_columns(options: SourceOptions) -> dict[str, str | None]:
    """Part -> the column that a person named for it, or None."""
    return {
        "image_id": options.id_column,
        "file": options.file_column,
        "label": options.label_column,
        "split": options.split_column,
        "group": options.group_column,
    }


def text_columns(given: Mapping[str, str | None]) -> frozenset[str]:
    """Names, in small letters, of columns that are text whatever they look like."""
    return frozenset(
        {name for names in _GUESSES.values() for name in names} | {name.lower() for name in given.values() if name}
    )


def name_columns(
    table: pd.DataFrame, given: Mapping[str, str | None], path: Path, *, places: bool = True
) -> pd.DataFrame:
    """A user's table with the catalog's column names, as far as it has such columns; the rest stays as it is.

    `given` says for each of image_id, file, label, split and group the column to take, or None to guess it. Those parts
    are text or None, splits are spelt train, val, test; sexagesimal `ra` (hours) and `dec` become degrees. A column of
    the user's that bears the name of a part that another column plays becomes `table_<name>`.
    places : whether the table has to say, by files or ids, where the images are

    Errors: SkyclassError for a column it lacks, neither files nor ids, an unknown split, a coordinate that is none.
    """
    parts = _parts(table, given, path, places)
    rest = table.drop(columns=list(set(parts.values())))
    rest = rest.rename(columns={name: _free_name(name, rest.columns) for name in rest.columns})
    for name in COORDINATES:
        if name in rest.columns:
            rest[name] = degrees(rest[name], name, path)
    frame = pd.DataFrame({part: as_text(table[name], path) for part, name in parts.items()}, index=table.index)
    frame = frame.join(rest)
    if "split" in frame.columns:
        spelt = frame["split"].map(lambda split: SPLIT_NAMES.get(split.lower(), split), na_action="ignore")
        frame["split"] = spelt.astype(object).mask(spelt.isna(), None)
    return frame


def _parts(table: pd.DataFrame, given: Mapping[str, str | None], path: Path, places: bool) -> dict[str, str]:
    """Part -> column of the table, as given or else as guessed; what was guessed is said."""
    have = ", ".join(table.columns)
    parts = {part: name for part, name in given.items() if name is not None}
    for name in parts.values():
        if name not in table.columns:
            raise SkyclassError(f"no column {name!r}", where=path, fix=f"its columns are {have}")
    spelling = {name.lower(): name for name in reversed(table.columns)}
    guessed = {}
    for part, names in _GUESSES.items():
        found = next((spelling[name] for name in names if name in spelling), None)
        if part in parts or found is None or found in parts.values():
            continue
        # A column called `set` may be about anything: it holds splits if some value is the name of one.
        if part == "split" and not table[found].astype(str).str.strip().str.lower().isin(list(SPLIT_NAMES)).any():
            say(f"{path.name}: no value of column {found!r} is train, val or test: it is not taken for the split")
            continue
        parts[part] = guessed[part] = found
    if places and "file" not in parts and "image_id" not in parts:
        what = "no column of files or ids was recognised"
        raise SkyclassError(what, where=path, fix=f"say which it is among {have} (--file-column, --id-column)")
    if guessed:
        say(f"{path.name}: guessed " + ", ".join(f"{part} from column {name!r}" for part, name in guessed.items()))
    return parts


def _free_name(name: str, taken: pd.Index) -> str:
    """The name of a user's column beside the catalog's own; RA and Dec are ra and dec."""
    if name.lower() in COORDINATES and name.lower() not in taken:
        return name.lower()
    return f"table_{name}" if name in TEXT else name


def degrees(column: pd.Series, name: str, path: Path) -> pd.Series:
    """A column of degrees, or of sexagesimal text, as float64 degrees; NaN where it is empty.

    Text such as 10:12:33.1, 10 12 33.1 or 10h12m33.1s counts hours in `ra` and degrees in `dec`.

    Errors: SkyclassError for text that is neither.
    """
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return numbers
    text = as_text(column, path)
    words = text[numbers.isna() & text.notna()].astype(str)
    words = words[words.str.lower() != "nan"]
    if words.empty:
        return numbers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IllegalSecondWarning)  # 60 seconds are a minute
            angles = Angle(words.tolist(), unit=_HOURS[name]).deg
    except Exception as error:  # the parser raises errors of its own for every kind of nonsense
        what = f"column {column.name!r} is not a number of degrees: {words.iloc[0]!r}"
        raise SkyclassError(what, where=path, fix="write degrees or hh:mm:ss, or rename the column") from error
    numbers.loc[words.index] = angles
    return numbers


def name_classes(labels: pd.Series, names: Sequence[str], where: str | Path) -> pd.Series:
    """Labels numbered from 0, as 1, 1.0 or True, as the names of their classes; None stays, and -1 becomes None.

    Errors: SkyclassError for a label that is no number, or has no name.
    """
    numbers = {text: name for number, name in enumerate(names) for text in (str(number), f"{number}.0")}
    numbers |= dict(zip(("False", "True"), names, strict=False))
    labels = labels.mask(labels.isin(["-1", "-1.0"]), None)  # what stands for "not labelled" where classes are numbers
    unknown = sorted(set(labels.dropna()) - set(numbers))
    if unknown:
        what = f"label {unknown[0]!r} is none of the numbers 0 to {len(names) - 1} of the {len(names)} class names"
        raise SkyclassError(what, where=where, fix="name every class, or leave the names out")
    return pd.Series([None if label is None else numbers[label] for label in labels], index=labels.index, dtype=object)
