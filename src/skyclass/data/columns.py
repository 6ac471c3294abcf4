"""What the columns of a user's table mean: which holds the ids, files, labels, splits, groups and coordinates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
from astropy.coordinates import Angle
from astropy.coordinates.angles.errors import IllegalSecondWarning

from ..console import say
from ..errors import SkyclassError
from .catalog import COORDINATES, FAULT, ODDITY, SPLIT_NAMES, SPLITS, TEXT, as_text
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
# All that sexagesimal text is made of; the parser takes its time over anything else.
_SEXAGESIMAL = re.compile(r"[-+\u2212]?\s*[0-9][0-9.\s:\u00b0'\"\u2032\u2033hdmsegarcinoutNSEW]*")
_READABLE = 0.1  # share of the values of a column of coordinates that have to be some
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
    the user's that bears the name of a part that another column plays, or of coordinates and holds none, becomes
    `table_<name>`. Single values that are no split or no coordinate are left empty, and named in the column ODDITY.
    places : whether the table has to say, by files or ids, where the images are

    Errors: SkyclassError for a column it lacks, neither files nor ids, and a given column without any split.
    """
    faults = table.get(FAULT)
    table = table.drop(columns=FAULT, errors="ignore")
    parts = _parts(table, given, path, places)
    rest = table.drop(columns=list(set(parts.values())))
    rest = rest.rename(columns={name: _free_name(name, rest.columns) for name in rest.columns})
    odd: dict[Hashable, list[str]] = {}
    for name in COORDINATES:
        if name in rest.columns:
            rest = _with_degrees(rest, name, path, odd)
    frame = pd.DataFrame({part: as_text(table[name], path) for part, name in parts.items()}, index=table.index)
    frame = frame.join(rest)
    if "split" in frame.columns:
        frame["split"] = _splits(frame["split"], parts["split"], path, odd)
    if odd:
        texts = {row: f"row {row}: {', '.join(said)}" for row, said in odd.items()}
        frame[ODDITY] = pd.Series(texts, dtype=object).reindex(frame.index)
    return frame if faults is None else frame.assign(**{FAULT: faults})


def _splits(column: pd.Series, called: str, path: Path, odd: dict[Hashable, list[str]]) -> pd.Series:
    """The splits as this house calls them, None for what is none, which goes to `odd`.

    Errors: SkyclassError where no value is a split.
    """
    spelt = column.map(lambda split: SPLIT_NAMES.get(split.lower()), na_action="ignore").astype(object)
    spelt = spelt.mask(spelt.isna(), None)
    unknown = column[spelt.isna() & column.notna()]
    if len(unknown) and spelt.isna().all():
        fix = f"the splits are {', '.join(SPLITS)}, and no value of column {called!r} is one"
        raise SkyclassError(f"unknown split {unknown.iloc[0]!r}", where=path, fix=fix)
    for row, value in unknown.items():
        odd.setdefault(row, []).append(f"{value!r} in column {called!r} is no split, and the row has none")
    return spelt


def _with_degrees(table: pd.DataFrame, name: str, path: Path, odd: dict[Hashable, list[str]]) -> pd.DataFrame:
    """The table with `name` in degrees, or called `table_<name>` where it holds something else, which is said."""
    values, bad = degrees(table[name], name)
    if not is_read(values, bad):
        other = f"table_{name}"
        while other in table.columns:
            other = f"table_{other}"
        say(f"{path.name}: column {name!r} holds no coordinates, such as {bad.iloc[0]!r}: it is kept as {other!r}")
        return table.rename(columns={name: other})
    for row, value in bad.items():
        odd.setdefault(row, []).append(f"{value!r} in column {name!r} is no number of degrees")
    return table.assign(**{name: values})


def is_read(values: pd.Series, bad: pd.Series) -> bool:
    """Whether enough of a column could be read as numbers for it to be one of positions."""
    count = int(values.notna().sum())
    return bad.empty or (count > 0 and count >= _READABLE * (count + len(bad)))


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
            # The parser raises errors of its own for every kind of nonsense.
            with suppress(Exception):
                angles[place] = float(Angle(words[place], unit=unit).deg)
    return angles


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
