"""What `evaluate` says of calibration and prediction sets: scores, figures, the list of ambiguous objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from helpers.commands import done, drawn, refused
from helpers.probabilities import calibrated_answers
from skyclass.core.errors import SkyclassError
from skyclass.evaluation.calibration.conformal import fit_prediction_sets, set_columns, set_scores
from skyclass.evaluation.calibration.error import expected_calibration_error, reliability_bins
from skyclass.evaluation.calibration.scaling import fit_calibration
from skyclass.evaluation.calibration_report import calibration_report, calibration_scores
from skyclass.evaluation.figures.calibration import calibration_figures, prediction_sets_figure, reliability_figure
from skyclass.evaluation.metrics import log_loss
from skyclass.evaluation.predictions import UNCALIBRATED, predictions_writer

CLASSES = ["bar", "blob", "ring"]
N_VAL, N_TEST = 300, 400


def judged_file(path: Path, seed: int = 0) -> tuple[pd.DataFrame, dict[str, object]]:
    """Predictions of an overconfident classifier as a run leaves them: calibrated on val, with sets; 20 unlabelled."""
    log_p, labels = calibrated_answers(N_VAL + N_TEST, 3, seed)
    log_p = log_softmax(3.0 * log_p, axis=1)
    ids = [f"J{row}" for row in range(len(labels))]
    calibration = fit_calibration(log_p[:N_VAL], labels[:N_VAL]).calibration
    p = calibration.apply(log_p)
    sets = fit_prediction_sets(p[:N_VAL], labels[:N_VAL], ids[:N_VAL])
    frame = pd.DataFrame({"image_id": ids, "predicted": [CLASSES[k] for k in p.argmax(axis=1)]})
    frame["confidence"] = p.max(axis=1)
    frame["prediction_set"], frame["ambiguous"] = set_columns(sets, p, ids, CLASSES)
    frame["label"] = [CLASSES[k] for k in labels]
    frame.loc[frame.index[-20:], "label"] = None
    frame["split"] = ["val"] * N_VAL + ["test"] * N_TEST
    for k, name in enumerate(CLASSES):
        frame[f"p_{name}"], frame[f"{UNCALIBRATED}{name}"] = p[:, k], np.exp(log_p[:, k])
    provenance: dict[str, object] = {"calibration": calibration.to_json(), "prediction_sets": sets.to_json()}
    with predictions_writer(path, CLASSES, provenance, uncalibrated=True) as append:
        append(frame)
    return frame, provenance


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    judged_file(folder / "p.parquet")
    return folder


@pytest.mark.slow
def test_evaluate_shows_before_and_after(place: Path) -> None:
    said = done("evaluate", place / "p.parquet").err
    folder = place / "p-evaluation"
    found = json.loads((folder / "metrics.json").read_text())
    calibration, sets = found["calibration"], found["prediction_sets"]
    assert calibration["method"] == "temperature"
    assert 1.0 / calibration["scale"][0] == pytest.approx(3.0, rel=0.25)
    frame, _ = judged_file(place / "again.parquet")
    rows = frame[(frame["split"] == "test") & frame["label"].notna()]
    labels = rows["label"].map(CLASSES.index).to_numpy()
    for stage, prefix in (("before", UNCALIBRATED), ("after", "p_")):
        p = rows[[f"{prefix}{name}" for name in CLASSES]].to_numpy(np.float64)
        for name, score in (("ece", expected_calibration_error), ("log_loss", log_loss)):
            one = calibration[stage][name]
            assert one["value"] == pytest.approx(score(labels, p), abs=1e-6)
            assert one["interval"][0] <= one["value"] <= one["interval"][1]
        assert 0.0 < calibration[stage]["ece"]["by_chance"] < 0.1
        assert calibration[stage]["log_loss"]["by_chance"] is None
    assert calibration["after"]["ece"]["value"] < 0.1 < calibration["before"]["ece"]["value"]
    for name in ("ece", "log_loss"):
        change = calibration["change"][name]
        difference = calibration["after"][name]["value"] - calibration["before"][name]["value"]
        assert change["value"] == pytest.approx(difference)
        assert change["interval"][1] < 0.0  # surely better
    assert calibration["change"]["accuracy"] == {"value": 0.0, "interval": None}
    assert "Calibration (temperature): ECE 0." in said
    assert (sets["score"], sets["target"], sets["n"]) == ("lac", 0.9, [N_VAL])
    assert (sets["coverage"]["n"], sum(sets["sizes"])) == (N_TEST - 20, N_TEST)
    assert sets["coverage"]["within"]
    assert "as expected for a target of 90%" in said
    assert drawn(folder / "reliability.png")
    assert drawn(folder / "prediction_sets.png")


@pytest.mark.slow
def test_ambiguous_objects_are_listed(place: Path) -> None:
    done("evaluate", place / "p.parquet")
    table = pd.read_csv(place / "p-evaluation" / "ambiguous.csv", keep_default_na=False)
    frame = pd.read_parquet(place / "p.parquet").query("split == 'test'").set_index("image_id")
    assert sorted(table["image_id"]) == sorted(frame.index[frame["ambiguous"]])
    size = [0 if not text else text.count("|") + 1 for text in table["prediction_set"]]
    assert table["classes_in_set"].tolist() == size == sorted(size)
    assert set(size) == {2, 3}
    assert table["prediction_set"].tolist() == frame.loc[table["image_id"], "prediction_set"].tolist()


@pytest.mark.slow
def test_nothing_is_promised_for_the_images_of_the_calibration(place: Path, tmp_path: Path) -> None:
    for split in ("val", "all"):
        done("evaluate", place / "p.parquet", "--split", split, "--out", tmp_path)
        found = json.loads((tmp_path / "metrics.json").read_text())["prediction_sets"]
        assert found["coverage"]["share"] == pytest.approx(0.9, abs=0.06)
        assert (found["coverage"]["expected"], found["coverage"]["within"]) == (None, None)


def test_nothing_is_promised_for_the_mean_over_orientations(place: Path) -> None:
    frame, provenance = judged_file(place / "again.parquet")
    rows = frame[frame["split"] == "test"]
    for more, promised in (({}, True), ({"orientations": False}, True), ({"orientations": True}, False)):
        scores = calibration_report(rows, CLASSES, {**provenance, **more}, resamples=50).scores["prediction_sets"]
        assert (scores["coverage"]["expected"] is not None) is promised


def test_a_table_without_sets_has_a_reliability_diagram_alone(place: Path, tmp_path: Path) -> None:
    columns = ["image_id", "label", "split", *(f"p_{name}" for name in CLASSES)]
    pd.read_parquet(place / "p.parquet")[columns].to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "p-evaluation").mkdir()
    (tmp_path / "p-evaluation" / "ambiguous.csv").write_text("of an earlier evaluation")
    done("evaluate", tmp_path / "p.csv")
    found = json.loads((tmp_path / "p-evaluation" / "metrics.json").read_text())
    assert found["calibration"].keys() == {"before", "after", "change", "method"}
    assert (found["calibration"]["before"], found["calibration"]["change"], found["prediction_sets"]) == (None,) * 3
    files = {path.name for path in (tmp_path / "p-evaluation").iterdir()}
    assert "reliability.png" in files
    assert not {"prediction_sets.png", "ambiguous.csv"} & files


@pytest.mark.slow
def test_a_csv_file_with_sets_is_read(place: Path, tmp_path: Path) -> None:
    """Empty sets and missing ones look alike there; whose class is not known is refused."""
    frame = pd.read_parquet(place / "p.parquet")
    frame.loc[frame.index[-3:], "prediction_set"] = ""
    frame.drop(columns="confidence").to_csv(tmp_path / "p.csv", index=False)
    done("evaluate", tmp_path / "p.csv")
    found = json.loads((tmp_path / "p-evaluation" / "metrics.json").read_text())["prediction_sets"]
    assert found["sizes"][0] == 3
    assert (found["target"], found["coverage"]["expected"]) == (None, None)
    frame["prediction_set"] = "moon"
    frame.to_csv(tmp_path / "p.csv", index=False)
    assert "a prediction set names 'moon'" in refused("evaluate", tmp_path / "p.csv")


def test_few_and_equal_images() -> None:
    """Warnings are errors: one image, one class, certain probabilities."""
    for labels, p in (
        (np.zeros(1, dtype=int), np.array([[0.2, 0.8]])),
        (np.zeros(40, dtype=int), np.tile([1.0, 0.0], (40, 1))),
        (np.arange(4) % 2, np.eye(2)[[0, 1, 0, 1]]),
    ):
        found = calibration_scores(labels, p, p, resamples=50)
        assert found["change"]["log_loss"] == {"value": 0.0, "interval": None}
        json.dumps(found, allow_nan=False)
        reliability_figure(labels, p, p)


# Figures


def test_the_reliability_diagram_shows_the_bins_and_both_curves(place: Path) -> None:
    rows = pd.read_parquet(place / "p.parquet").query("split == 'test'").dropna(subset="label")
    labels = rows["label"].map(CLASSES.index).to_numpy()
    after, before = (rows[[f"{prefix}{name}" for name in CLASSES]].to_numpy() for prefix in ("p_", UNCALIBRATED))
    figure = reliability_figure(labels, after, before)
    axes, counts = figure.axes
    drawn_points = {tuple(np.round(line.get_ydata(), 6)) for line in axes.get_lines() if len(line.get_ydata()) > 2}
    for p in (after, before):
        bins = reliability_bins(labels, p)
        assert tuple(np.round(bins.accuracy, 6)) in drawn_points
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(text == f"after calibration: ECE {expected_calibration_error(labels, after):.3f}" for text in texts)
    assert any(text.startswith("before calibration: ECE") for text in texts)
    assert axes.get_ylabel()
    assert counts.get_xlabel()
    alone = reliability_figure(labels, after)
    assert not any("before" in text.get_text() for text in alone.legends[0].get_texts())
    with pytest.raises(SkyclassError, match="no labelled image"):
        reliability_figure(labels[:0], after[:0])


def test_the_figure_of_the_sets_counts_them_by_size(place: Path) -> None:
    rows = pd.read_parquet(place / "p.parquet").query("split == 'test'")
    provenance = judged_file(place / "again.parquet")[1]
    judged = calibration_report(rows, CLASSES, provenance, resamples=50)
    figures = calibration_figures(judged)
    assert set(figures) == {"reliability.png", "prediction_sets.png"}
    sizes, coverage = figures["prediction_sets.png"].axes
    heights = sum(np.array([bar.get_height() for bar in group]) for group in sizes.containers)
    assert heights.tolist() == judged.scores["prediction_sets"]["sizes"]
    names = [text.get_text() for text in sizes.get_legend().get_texts()]
    assert names == ["true class is in the set", "it is not", "no label"]
    ticks = [text.get_text() for text in coverage.get_yticklabels()]
    assert ticks[-1] == f"all classes ({N_TEST - 20})"
    members, unknown = np.ones((4, 3), dtype=bool), np.full(4, -1)
    assert len(prediction_sets_figure(members, unknown, set_scores(members, unknown, CLASSES), None).axes) == 1
