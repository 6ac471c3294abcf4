"""The catalog's columns, types and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.logged import Logged
from skyclass.core.errors import SkyclassError
from skyclass.data.catalog import Problem, as_text, check_catalog, problems_frame, say_problems, write_problems


def catalog(**changes: Any) -> pd.DataFrame:
    columns = {"image_id": ["a", "b"], "file": ["a.png", "b.png"], "label": ["x", None], "split": ["train", None]}
    return pd.DataFrame({**columns, **changes})


def test_columns_get_their_types_and_user_columns_stay() -> None:
    frame = catalog(
        image_id=[587725469055320114, 2],
        group=[1.0, np.nan],
        ra=["10.5", "11"],
        magnitude=np.array([1.5, 2.5], dtype=np.float32),
    )
    checked = check_catalog(frame.set_index(pd.Index([7, 3])), "here")
    assert checked["image_id"].tolist() == ["587725469055320114", "2"]
    assert checked["group"].tolist() == ["1", None]
    assert checked["label"].tolist() == ["x", None]
    assert checked["split"].tolist() == ["train", None]
    assert checked["ra"].dtype == np.float64
    assert checked["magnitude"].dtype == np.float32
    assert checked.index.tolist() == [0, 1]


def test_a_catalog_comes_back_from_parquet_as_it_was(tmp_path: Path) -> None:
    checked = check_catalog(catalog(dec=[1, 2]), "here")
    checked.to_parquet(tmp_path / "catalog.parquet")
    pd.testing.assert_frame_equal(check_catalog(pd.read_parquet(tmp_path / "catalog.parquet"), "there"), checked)


def test_the_frame_given_is_not_changed() -> None:
    frame = catalog(image_id=[1, 2])
    before = frame.copy(deep=True)
    check_catalog(frame, "here")
    pd.testing.assert_frame_equal(frame, before)


def test_an_empty_catalog_is_a_catalog() -> None:
    assert check_catalog(catalog().iloc[:0], "here").empty


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (catalog().drop(columns=["file", "label"]), "here: no column file, label; its columns are image_id, split"),
        (catalog(image_id=["a", "a"]), "1 repeated image_id, the first of them 'a'"),
        (catalog(image_id=["a", " "]), "row 1 has no image_id"),
        (catalog(file=[None, "b"]), "row 0 has no file"),
        (catalog(split=["train", "training"]), "unknown split 'training'; the splits are train, val, test"),
        (catalog(ra=["10:20:30", "1"]), "column 'ra' is not a number of degrees"),
        (catalog(image_id=[587725469055320114.0, 1.0]), "too large to keep every digit"),
    ],
)
def test_faults_are_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(SkyclassError, match=message):
        check_catalog(frame, "here")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], ["1", "2"]),
        ([1.0, None], ["1", None]),
        ([1.5, 2.0], ["1.5", "2.0"]),
        ([" a ", ""], ["a", None]),
        ([True, False], ["True", "False"]),
        (pd.Categorical(["u", None]), ["u", None]),
        (pd.array([2**62 + 1, None], dtype="Int64"), [str(2**62 + 1), None]),
        ([None, None], [None, None]),
    ],
)
def test_as_text(values: Any, expected: list[str | None]) -> None:
    assert as_text(pd.Series(values, name="c"), "here").tolist() == expected


def test_problems_keep_their_columns(tmp_path: Path) -> None:
    row = Problem(image_id="a", file="a.png", problem="no such file", severity="error", kind="row")
    none, one = problems_frame([]), problems_frame([row])
    assert list(none.columns) == list(one.columns) == ["image_id", "file", "problem", "severity", "kind"]
    both = pd.concat([none, one], ignore_index=True)
    write_problems(both, tmp_path / "problems.csv")
    assert pd.read_csv(tmp_path / "problems.csv").to_dict("records") == [row]


def test_problems_are_told_by_kind_with_the_errors_first(tmp_path: Path, logged: Logged) -> None:
    found = [
        Problem(image_id=str(i), file=f"/sky/a/{i}.png", problem="no label", severity="warning", kind="row")
        for i in range(5)
    ]
    found += [
        Problem(image_id="x", file="/sky/b/x.png", problem="the file ends early", severity="error", kind="unreadable")
    ]
    found += [Problem(image_id="", file="/sky/b/n.txt", problem="no image", severity="warning", kind="other")]
    say_problems(problems_frame(found), tmp_path / "problems.csv", most=2)
    assert logged().splitlines() == [
        "1 left out, 6 warnings, of /sky:",
        "  files that cannot be read: b/x.png: the file ends early",
        "  rows and files that cannot be used as they are: 5, the first a/0.png: no label",
        "  and 1 more of 1 kind",
        f"Problems: {tmp_path / 'problems.csv'}",
    ]


def test_without_problems_nothing_is_told(tmp_path: Path, logged: Logged) -> None:
    say_problems(problems_frame([]), tmp_path / "problems.csv")
    assert logged() == ""
