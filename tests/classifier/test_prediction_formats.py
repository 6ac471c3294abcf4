"""Predictions as CSV, FITS, VOTable and ECSV: what goes in comes back, and other programs can read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.io import fits, votable
from astropy.table import Table

from helpers.commands import copy_toy_run, done, refused
from helpers.make_data import image_table
from skyclass.classifier.prediction_formats import FORMATS, predictions_file, read_predictions
from skyclass.core.errors import SkyclassError
from skyclass.evaluation.predictions import carried_schema

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

LONG = 6917528997577384321  # of Gaia's length: the nearest float64 is another number
CLASSES = ["FR I", "p_FR-I", "spirale barrée", "none"]
ORIGIN = {"source": "x" * 300, "calibration": {"method": "none"}}


def made() -> pd.DataFrame:
    """Three rows: a prediction, an empty set, and an image that could not be read."""
    p = dict(zip(CLASSES, (0.7, 0.1, 0.1, 0.1), strict=True))
    return pd.DataFrame(
        {
            "image_id": [str(LONG), "=b", "ç"],
            **{f"p_{name}": np.array([p[name], 0.25, np.nan], "f4") for name in CLASSES},
            "predicted": ["FR I", "none", None],
            "confidence": np.array([0.7, 0.25, np.nan], "f4"),
            "uncertainty": np.array([0.1, 0.9, np.nan], "f4"),
            "prediction_set": ["FR I|none", "", None],
            "ambiguous": pd.array([True, True, None], "boolean"),
            "novelty": np.array([0.5, np.nan, np.nan], "f4"),
            "unlike": pd.array([False, None, None], "boolean"),
            "label": ["FR I", None, "none"],
            "file": ["a.fits", "b.fits", "c.fits"],
            "error": [None, None, "cannot be read: \x00\x1b <b> & more"],
            "ra": [10.5, np.nan, 359.999999999],
            "SOURCE_ID": pd.array([LONG, 7, None], "Int64"),
            "Source_ID": [1, 2, 3],
            "flag": [True, False, True],
            "note": ["-1 of 2", None, "ü"],
            "table_p_none": [1.5, 2.5, np.nan],
        }
    )  # fmt: skip


def given(column: pd.Series) -> list[object]:
    """Text, or None where it is absent; of a column of another kind of source too."""
    return [None if pd.isna(one) or (one == "" and column.name == "note") else one for one in column]


def written(path: Path, frame: pd.DataFrame) -> Path:
    names = ["ra", "SOURCE_ID", "Source_ID", "flag", "note"]
    carried = carried_schema(frame, names).append(pa.field("p_none", pa.float64()))
    with predictions_file(path, CLASSES, ORIGIN, carried) as append:
        append(frame.iloc[:2])
        append(frame.iloc[2:])
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    frame = made()
    path = written(tmp_path / f"p{suffix}", frame)
    read, classes, provenance = read_predictions(path)
    assert classes == CLASSES
    assert suffix == ".csv" or provenance == ORIGIN  # CSV has no place for it
    np.testing.assert_array_equal(
        read[[f"p_{name}" for name in CLASSES]].astype("f4"), frame[[f"p_{c}" for c in CLASSES]]
    )
    assert read["image_id"].tolist() == frame["image_id"].tolist()
    for name in ("predicted", "label"):
        assert given(read[name]) == given(frame[name])
    assert read["file"].tolist() == frame["file"].tolist()
    assert read["error"].notna().tolist() == [False, False, True]
    if suffix == ".csv":  # whose columns say no type
        assert f",{LONG},1," in path.read_text()
    else:
        assert [str(one) for one in read["SOURCE_ID"].tolist()[:2]] == [str(LONG), "7"]
    assert read["Source_ID"].tolist() == [1, 2, 3]
    assert pd.isna(read["SOURCE_ID"].tolist()[2])
    np.testing.assert_array_equal(read["ra"].astype("f8"), frame["ra"])
    assert [bool(one) for one in read["flag"]] == [True, False, True]
    assert given(read["note"]) == ["-1 of 2", None, "ü"]
    assert read["table_p_none"].tolist()[:2] == [1.5, 2.5]
    assert given(read["prediction_set"]) == ["FR I|none", "", None]
    order = [name for name in read.columns if name in frame.columns]
    assert order == [*frame.columns]


@pytest.mark.parametrize("name", ["nan", "NA", "None", "null", "N/A"])
def test_a_class_may_be_called_as_others_call_what_is_absent(tmp_path: Path, name: str) -> None:
    rows = pd.DataFrame({"image_id": ["a", "b"], "p_x": [0.2, 0.6], f"p_{name}": [0.8, 0.4], "label": [name, None]})
    rows["predicted"] = [name, "x"]
    rows.to_csv(tmp_path / "p.csv", index=False)
    frame, classes, _ = read_predictions(tmp_path / "p.csv")
    assert classes == ["x", name]
    assert given(frame["label"]) == [name, None]
    assert frame["predicted"].tolist() == [name, "x"]


def test_a_table_cut_in_a_row_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "p.csv", made())
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])  # other programs leave out the last line's end
    assert len(read_predictions(file)[0]) == 3
    file.write_bytes(whole[: whole.rindex(b"4,") if b"4," in whole else -30])
    with pytest.raises(SkyclassError, match="ends in the middle of a row"):
        read_predictions(file)


def test_a_fits_table_is_as_the_standard_has_it(tmp_path: Path) -> None:
    path = written(tmp_path / "p.fits", made())
    with fits.open(path) as hdus:
        hdus.verify("exception")
        hdu = hdus[1]
        names = hdu.columns.names
        assert all(name.replace("_", "").isalnum() and name.isascii() for name in names)
        assert len({name.lower() for name in names}) == len(names)
        assert {"p_FR_I", "p_p_FR_I", "p_spirale_barr_e", "SOURCE_ID", "Source_ID_2"} <= set(names)
        assert hdu.data["SOURCE_ID"].dtype.kind == "i"
        assert hdu.data["SOURCE_ID"][0] == LONG
        assert hdu.columns["SOURCE_ID"].null == np.iinfo(np.int64).min
        assert json.loads(hdu.header["SKYCLASS"])["classes"] == CLASSES
        raw = hdu.data.view(np.ndarray)
        assert raw["ambiguous"].tolist() == [ord("T"), ord("T"), 0]
        assert raw["unlike"].tolist() == [ord("F"), 0, 0]
        assert hdu.data["p_FR_I"][0] == np.float32(0.7)


def test_a_votable_is_one(tmp_path: Path) -> None:
    path = written(tmp_path / "p.vot", made())
    assert votable.validate(str(path), output=None, xmllint=False)
    table = votable.parse_single_table(path).to_table()
    assert table["SOURCE_ID"][0] == LONG
    assert table["SOURCE_ID"].mask.tolist() == [False, False, True]
    assert table["ambiguous"].mask.tolist() == [False, False, True]


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_rows_and_other_integers(tmp_path: Path, suffix: str) -> None:
    frame = made().iloc[:1].assign(small=np.int8(-3), byte=np.uint8(200), huge=np.uint64(2**63 + 5), short=np.int16(9))
    carried = carried_schema(frame, ["small", "byte", "huge", "short"])
    path = tmp_path / f"p{suffix}"
    with predictions_file(path, CLASSES, ORIGIN, carried) as append:
        append(frame)
    read = read_predictions(path)[0]
    assert [str(read[name][0]) for name in ("small", "byte", "huge", "short")] == ["-3", "200", str(2**63 + 5), "9"]
    with predictions_file(path, CLASSES, ORIGIN, carried):
        pass  # a source without an image
    assert path.is_file()


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".vot", ".ecsv"])
def test_nothing_appears_where_the_predicting_fails(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(KeyError), predictions_file(tmp_path / f"p{suffix}", CLASSES, {}, pa.schema([])):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trained(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_toy_run(toy_run, tmp_path_factory.mktemp("trained"))
    table = image_table(folder / "sky", ("bar", "blob", "ring"), per_class=4)
    frame = pd.read_csv(table).rename(columns={"image_id": "SOURCE_ID"})
    frame["SOURCE_ID"] = np.arange(LONG, LONG + len(frame))
    frame["redshift"] = np.linspace(0, 1, len(frame))
    frame["confidence"] = 5  # a column of the user's own that predictions have too
    frame.loc[len(frame)] = {**frame.loc[0], "SOURCE_ID": LONG + 99, "file": "images/gone.png"}
    frame.to_csv(table, index=False)
    return folder


@pytest.fixture(scope="module")
def plain_accuracy(trained: Path) -> float:
    """Of the predictions of the same table without further columns, in Parquet."""
    plain = trained / "plain.parquet"
    done("predict", trained / "run", trained / "sky/labels.csv", "--out", plain)
    done("evaluate", plain, "--out", trained / "plain")
    accuracy: float = json.loads((trained / "plain/metrics.json").read_text())["accuracy"]
    return accuracy


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_predict_writes_every_format_and_evaluate_reads_it(
    trained: Path, plain_accuracy: float, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"p{suffix}"
    words = ("predict", trained / "run", trained / "sky/labels.csv", "--out", out)
    done(*words, "--columns", "SOURCE_ID,redshift", "--columns", "confidence")
    frame = read_predictions(out)[0]
    assert len(frame) == 13
    assert frame["image_id"].tolist()[:2] == [str(LONG), str(LONG + 1)]
    if suffix == ".csv":  # whose columns say no type
        frame["SOURCE_ID"] = pd.read_csv(out, dtype={"SOURCE_ID": "Int64"})["SOURCE_ID"]
    # The last one's file is not there, and its row says of it all that the table does.
    assert [int(one) for one in frame["SOURCE_ID"]] == [*range(LONG, LONG + 12), LONG + 99]
    np.testing.assert_allclose(frame["redshift"].astype(float), [*np.linspace(0, 1, 12), 0.0])
    table = pd.read_csv(trained / "sky/labels.csv")
    np.testing.assert_allclose(frame[["ra", "dec"]].astype(float), table[["ra", "dec"]])
    assert frame["label"].tolist() == table["label"].tolist()
    assert frame["error"].notna().tolist() == [False] * 12 + [True]
    assert [int(one) for one in frame["table_confidence"]] == [5] * 13
    done("evaluate", out, "--out", tmp_path / "evaluation", "--by", "redshift")
    scores = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert scores["n"] == 12
    assert scores["accuracy"] == plain_accuracy


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_inspect_doubts_labels_by_predictions_of_every_format(trained: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"p{suffix}"
    done("predict", trained / "run", trained / "sky/labels.csv", "--out", out)
    words = ("inspect", trained / "sky/labels.csv", "--no-duplicates", "--run", out, "--out", tmp_path / "audit")
    assert "12 labelled images with predictions by a network that was not trained on them" in done(*words).err
    ranked = pd.read_csv(tmp_path / "audit/label_errors.csv", dtype={"image_id": str})
    p = read_predictions(out)[0].set_index("image_id").loc[ranked["image_id"]]
    expected = [row[f"p_{row['label']}"] for row in p.to_dict("records")]
    np.testing.assert_allclose(ranked["p_label"], np.asarray(expected, float), atol=1e-6)


def test_tables_that_other_programs_saved_again(tmp_path: Path) -> None:
    table = "image_id\tp_a\tp_b\tprediction_set\tambiguous\tlabel\n007\t0.75\t0.25\t\ttrue\ta\n"
    (tmp_path / "p.tsv").write_text(table)
    frame, classes, origin = read_predictions(tmp_path / "p.tsv")
    assert (classes, origin) == (["a", "b"], {})
    assert frame[["image_id", "label", "prediction_set"]].to_numpy().tolist() == [["007", "a", ""]]
    (tmp_path / "odd.tsv").write_text(table.replace("true", "perhaps"))
    with pytest.raises(SkyclassError, match=r"odd\.tsv: the column `ambiguous` holds something else"):
        read_predictions(tmp_path / "odd.tsv")
    Table({"image_id": ["x"], "p_a": [0.25], "p_b": [0.75]}).write(tmp_path / "p.xml", format="votable")
    assert read_predictions(tmp_path / "p.xml")[0]["p_b"].tolist() == [0.75]


@pytest.mark.slow
def test_what_predict_and_evaluate_refuse(trained: Path, tmp_path: Path) -> None:
    words = ("predict", trained / "run", trained / "sky/labels.csv", "--out")
    assert ".parquet, .csv, .fits, .vot, .ecsv" in refused(*words, tmp_path / "p.xlsx")
    assert "did you mean 'redshift'" in refused(*words, tmp_path / "p.fits", "--columns", "redshif")
    Table({"a": [1]}).write(tmp_path / "other.fits")
    assert "no column p_<class>" in refused("evaluate", tmp_path / "other.fits")
    (tmp_path / "bad.vot").write_text("nothing")
    assert "bad.vot: unreadable table" in refused("evaluate", tmp_path / "bad.vot")


@pytest.mark.slow
def test_the_predictions_of_a_run_carry_positions(trained: Path) -> None:
    done("pack", trained / "sky/labels.csv", trained / "skypack", "--no-duplicates")
    train = ("train", trained / "toy.yaml", trained / "skypack", "--out", trained / "skyrun")
    done(*train, "--set", "training.epochs=0")
    frame = read_predictions(trained / "skyrun/predictions.parquet")[0]
    assert frame["ra"].notna().all()
    columns = frame.columns.tolist()
    assert columns.index("error") < columns.index("ra") < columns.index("dec") < columns.index("uncalibrated_bar")
