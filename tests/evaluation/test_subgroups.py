"""Accuracy in bins of a column."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from skyclass.evaluation.subgroups import CATEGORIES, accuracy_by


def test_numbers_are_cut_into_bins_of_equally_many() -> None:
    rng = np.random.default_rng(0)
    values, right = pd.Series(rng.normal(17.0, 1.0, 400)), rng.random(400) < 0.7
    found = accuracy_by(values, right)
    assert found.numeric
    assert found.n_missing == 0
    assert found.table["n"].tolist() == [40] * 10
    for number, rows in enumerate(np.array_split(np.argsort(values.to_numpy()), 10)):
        row = found.table.iloc[number]
        assert (row["low"], row["high"]) == (values[rows].min(), values[rows].max())
        assert row["middle"] == pytest.approx(values[rows].median())
        assert row["right"] == right[rows].sum()
        wilson = binomtest(int(row["right"]), 40).proportion_ci(method="wilson")
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((wilson.low, wilson.high))
    assert found.table["bin"].iloc[0] == f"{values.min():.5g} to {values.sort_values().iloc[39]:.5g}"


def test_values_that_are_missing_or_infinite_are_counted_apart() -> None:
    values = pd.Series([1.0, np.nan, 2.0, np.inf, -np.inf, 3.0])
    found = accuracy_by(values, np.array([True, True, False, True, True, True]))
    assert (found.n_missing, found.table["n"].tolist(), found.table["right"].tolist()) == (3, [3], [2])
    words = accuracy_by(pd.Series(["a", None, "", " ", "a"]), np.ones(5, bool))
    assert (words.n_missing, words.table["bin"].tolist(), words.table["n"].tolist()) == (3, ["a"], [2])
    assert accuracy_by(pd.Series([None, None]), np.ones(2, bool)).table.empty


@pytest.mark.parametrize("dtype", ["int64", "Int64", "float32", "object", "string", "category"])
def test_numbers_of_any_type_are_numbers(dtype: str) -> None:
    values = pd.Series([3, 1, 2] * 30).astype("string" if dtype == "category" else dtype).astype(dtype)
    found = accuracy_by(values, np.arange(90) % 3 == 0)
    assert found.numeric
    assert found.table["bin"].tolist() == ["1", "2", "3"]
    assert found.table["accuracy"].tolist() == [0.0, 0.0, 1.0]


def test_words_and_truth_values_are_categories_the_commonest_first() -> None:
    right = np.array([True, False, True, True])
    assert not accuracy_by(pd.Series([True, False, True, True]), right).numeric
    found = accuracy_by(pd.Series(["7", "HSC", "HSC", "SDSS"]), right)
    assert not found.numeric
    assert dict(zip(found.table["bin"], found.table["accuracy"], strict=True)) == {"HSC": 0.5, "7": 1.0, "SDSS": 1.0}
    assert found.table["bin"].iloc[0] == "HSC"
    assert found.table["low"].isna().all()


def test_rare_categories_are_counted_together() -> None:
    names = [f"field {k}" for k in range(20) for _ in range(20 - k)]
    found = accuracy_by(pd.Series(names), np.ones(len(names), bool))
    assert found.table["bin"].tolist() == [*(f"field {k}" for k in range(CATEGORIES)), "8 others"]
    assert found.table["n"].iloc[-1] == sum(range(1, 9))


@given(values=st.lists(st.one_of(st.none(), st.floats(), st.integers(-3, 3)), min_size=1, max_size=120))
@settings(max_examples=60, deadline=None)
def test_every_image_counts_once(values: list[float | None]) -> None:
    right = np.arange(len(values)) % 2 == 0
    found = accuracy_by(pd.Series(values, dtype="float64"), right)
    assert found.table["n"].sum() + found.n_missing == len(values)
    known = np.isfinite(pd.Series(values, dtype="float64"))
    assert found.table["right"].sum() == right[known].sum()
    assert (found.table["low"] <= found.table["high"]).all()
    assert (found.table["high"].iloc[:-1].to_numpy() < found.table["low"].iloc[1:].to_numpy()).all()
