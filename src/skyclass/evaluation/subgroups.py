"""Accuracy against a property of the images: magnitude, size, redshift, or any column of a catalog."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from .calibration.error import equal_mass_bins
from .intervals import wilson_interval

BINS = 10
IN_BIN = 25  # images; with fewer, an accuracy is known to no better than about 0.2
CATEGORIES = 12  # the rest are counted together


class AccuracyBy(NamedTuple):
    """Accuracy in bins of a column.

    table : one row a bin that holds images: `bin` (in words), `low`, `middle` and `high` (least, median and largest
        value; NaN for categories), `n`, `right`, `accuracy`, and the 95 % Wilson interval `accuracy_low`,
        `accuracy_high`
    n_missing : images without a value, which count in no bin
    numeric : whether the bins are ranges of numbers, rising, or categories, the commonest first
    """

    table: pd.DataFrame
    n_missing: int
    numeric: bool


def accuracy_by(values: pd.Series, right: np.ndarray) -> AccuracyBy:
    """Accuracy in bins of equally many images, or of each category where the values are words or true and false.

    values : (N,) of any type; text counts as numbers where all of it reads as such. Missing, empty and infinite values
        are left out and counted. Equal numbers share a bin.
    right : (N,) bool, whether the prediction is right
    """
    numbers = _numbers(values)
    numeric = numbers is not None
    column = (_words(values) if numbers is None else numbers).reset_index(drop=True)
    known = column.notna().to_numpy()
    column, right = column[known], np.asarray(right)[known]
    if numeric:
        bin_of = equal_mass_bins(column.to_numpy(np.float64), int(np.clip(len(column) // IN_BIN, 1, BINS)))
    else:
        bin_of = _categories(column)
    rows = [_row(column[bin_of == b], right[bin_of == b], numeric) for b in np.unique(bin_of)]
    names = ["bin", "low", "middle", "high", "n", "right"]
    table = pd.DataFrame(rows, columns=names).astype({"n": "int64", "right": "int64"})
    table["accuracy"] = table["right"] / table["n"]
    table["accuracy_low"], table["accuracy_high"] = wilson_interval(table["right"].to_numpy(), table["n"].to_numpy())
    return AccuracyBy(table, int((~known).sum()), numeric)


def _numbers(values: pd.Series) -> pd.Series | None:
    """The values as float64, NaN where missing or infinite; None where they are no numbers."""
    if pd.api.types.is_bool_dtype(values.dtype):
        return None
    if not pd.api.types.is_numeric_dtype(values.dtype):
        words = _words(values)
        values = pd.to_numeric(words, errors="coerce")
        if words.isna().all() or values.isna().sum() > words.isna().sum():
            return None
    numbers = values.astype("float64")
    return numbers.mask(~np.isfinite(numbers))


def _words(values: pd.Series) -> pd.Series:
    """The values as text, None where missing or empty."""
    words = values.astype(object).map(str, na_action="ignore").astype(object)
    return words.mask(words.isna() | (words.astype(str).str.strip() == ""), None)


def _categories(words: pd.Series) -> np.ndarray:
    """(N,) the place of each word by how common it is; those beyond `CATEGORIES` share the last place."""
    ranking = words.value_counts()
    place = {name: min(k, CATEGORIES) for k, name in enumerate(ranking.index)}
    return words.map(place).to_numpy(np.int64)


def _row(values: pd.Series, right: np.ndarray, numeric: bool) -> tuple[str, float, float, float, int, int]:
    count = (len(values), int(right.sum()))
    if not numeric:
        names = values.unique()
        return (names[0] if len(names) == 1 else f"{len(names)} others", np.nan, np.nan, np.nan, *count)
    low, middle, high = (float(end) for end in np.quantile(values, (0.0, 0.5, 1.0)))
    return (f"{low:.5g}" if low == high else f"{low:.5g} to {high:.5g}", low, middle, high, *count)
