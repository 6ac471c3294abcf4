"""CSV files that a spreadsheet opens without running what stands in them, and that read back as they were."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.commands import done
from helpers.make_data import class_folders
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.core.files.csv_files import guarded, read_csv, unguarded, write_csv
from skyclass.data.catalog import problems_frame, write_problems

RISKY = ["=1+1", "+cmd", "-2 and more", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1", "'=1", "''-x", "-", "="]
PLAIN = ["a", "", "'quoted'", "a=b", "-17", "+3.5", "-1e-5", ".5", "-.5", "10:23:01", "'"]


@pytest.mark.parametrize("value", [*RISKY, *PLAIN])
def test_a_cell_comes_back_as_it_was(value: str) -> None:
    written = guarded(value)
    assert (written != value) == (value in RISKY)
    assert written[:1] not in "=@\t\r\n" or not written
    assert unguarded(written) == value


def test_a_table_is_guarded_and_comes_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": RISKY, "=name": RISKY[::-1], "value": np.linspace(-1.0, 1.0, len(RISKY))})
    table["label"] = pd.Categorical(["-", *["a b"] * (len(RISKY) - 1)])
    write_csv(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "@", "\t", "\r") or cell == "-"]
    assert "-1.0" in cells  # a number stays one
    again = read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(again, table.astype({"label": object}), check_dtype=False)


def test_the_names_of_rows_are_guarded_too(tmp_path: Path) -> None:
    counts = pd.crosstab(pd.Series(["=a", "b"]), pd.Series(["train", "val"]))
    write_csv(counts, tmp_path / "classes.csv", index=True)
    assert "\n'=a,1,0" in (tmp_path / "classes.csv").read_text()


def test_nothing_is_guarded_in_a_table_of_numbers(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"x": [-1.5, np.nan], "n": [-1, 2]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "x,n\n-1.5,-1\n,2\n"


def test_problems_are_guarded(tmp_path: Path) -> None:
    row = {"image_id": "=HYPERLINK(1)", "file": "@x.png", "problem": "-", "severity": "error"}
    write_problems(problems_frame([row]), tmp_path / "problems.csv")
    assert (tmp_path / "problems.csv").read_text().splitlines()[1] == "'=HYPERLINK(1),'@x.png,'-,error,other"


def test_ids_of_our_own_tables_are_found_again(tmp_path: Path) -> None:
    """A class and files whose names begin as formulas do: guarded, and known again."""
    class_folders(tmp_path / "images", ("=a", "-b"), per_class=3)
    audit = tmp_path / "audit"
    done("inspect", tmp_path / "images", "--out", audit, "--no-duplicates")
    assert set((audit / "classes.csv").read_text().split()) >= {"'=a,3", "'-b,3"}
    table = pd.DataFrame({"image_id": ["=1", "-x"], "p_a": [0.2, 0.9], "p_b": [0.8, 0.1], "label": ["b", "a"]})
    write_csv(table, tmp_path / "p.csv")
    assert read_predictions(tmp_path / "p.csv")[0]["image_id"].tolist() == ["=1", "-x"]
    write_csv(pd.DataFrame({"image_id": ["=1", "-x"], "mag": [17.0, 18.0]}), tmp_path / "mag.csv")
    done("evaluate", tmp_path / "p.csv", "--catalog", tmp_path / "mag.csv", "--by", "mag", "--out", tmp_path / "e")
    assert "nan" not in (tmp_path / "e" / "by_mag.csv").read_text()
