"""Confident learning: against cleanlab and a loop written from the paper; which predictions count as held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyclass.errors import SkyclassError
from skyclass.evaluation.label_errors import HeldOut, confident_classes, held_out, rank_label_errors
from skyclass.prediction_formats import read_predictions
from skyclass.predictions import predictions_writer
from skyclass.run import predictions_of

CLASSES = ("spiral", "smooth", "star")


def noisy(
    seed: int, n: int = 300, k: int = 4, sure: float = 2.0, balance: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,), a tenth of them wrong, and probabilities (n, k) that favour the true class."""
    rng = np.random.default_rng(seed)
    share = balance ** np.arange(k)
    truth = rng.choice(k, n, p=share / share.sum())
    logits = rng.normal(size=(n, k)) + sure * np.eye(k)[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.where(rng.random(n) < 0.1, (truth + rng.integers(1, k, n)) % k, truth), p


def named(labels: np.ndarray, k: int) -> tuple[list[str], list[str]]:
    """Labels and classes by name; the names are not in alphabetical order."""
    classes = [f"class {(7 * i) % 10}" for i in range(k)]
    return [classes[i] for i in labels], classes


def by_hand(labels: np.ndarray, p: np.ndarray) -> list[int]:
    """Equations 1 and 2 of the paper, row by row."""
    result = []
    for row in p:
        best = -1
        for j in range(p.shape[1]):
            own = p[labels == j, j]
            reached = len(own) > 0 and row[j] >= own.mean() - 1e-6
            if reached and (best < 0 or row[j] > row[best]):
                best = j
        result.append(best)
    return result


# The oracles


@pytest.mark.parametrize("balance", [1.0, 0.4])
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_likely_rows_are_those_off_the_diagonal_of_cleanlab(seed: int, k: int, balance: float) -> None:
    count = pytest.importorskip("cleanlab.count")
    labels, p = noisy(seed, k=k, balance=balance)
    _, off_diagonal = count.compute_confident_joint(labels, p, return_indices_of_off_diagonals=True)
    thresholds = count.get_confident_thresholds(labels, p)
    reached = p >= thresholds - 1e-6
    # Where several classes reach their thresholds, cleanlab takes the most probable of all classes, which may not be
    # one of these; equation 1 takes the most probable of these. The rows on which the two agree:
    same = (reached.sum(axis=1) < 2) | reached[np.arange(len(p)), p.argmax(axis=1)]
    assert same.mean() > 0.9
    names, classes = named(labels, k)
    table = rank_label_errors(names, p, classes)
    likely = set(table.loc[table["likely"], "row"])
    assert likely & set(np.flatnonzero(same)) == set(off_diagonal) & set(np.flatnonzero(same))
    assert len(likely) > 5


@pytest.mark.parametrize("seed", range(5))
def test_the_ranking_is_that_of_cleanlab(seed: int) -> None:
    rank = pytest.importorskip("cleanlab.rank")
    labels, p = noisy(seed, balance=0.5)
    names, classes = named(labels, p.shape[1])
    table = rank_label_errors(names, p, classes)
    own = rank.get_label_quality_scores(labels, p, method="self_confidence")
    np.testing.assert_array_equal(table["row"], np.argsort(own, kind="stable"))
    np.testing.assert_array_equal(table["p_label"], own[table["row"]])


@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), k=st.integers(2, 5), sure=st.floats(0, 6))
@settings(max_examples=60, deadline=None)
def test_every_row_is_counted_as_the_equations_say(seed: int, n: int, k: int, sure: float) -> None:
    labels, p = noisy(seed, n, k, sure)
    expected = by_hand(labels, p)
    assert confident_classes(labels, p).tolist() == expected
    names, classes = named(labels, k)
    table = rank_label_errors(names, p, classes)
    assert sorted(table["row"]) == list(range(n))
    assert table["p_label"].is_monotonic_increasing
    for row in table.itertuples():
        assert row.label == names[row.row] != row.suggested
        assert row.p_label == p[row.row, classes.index(row.label)]
        assert row.p_suggested == p[row.row, classes.index(row.suggested)]
        counted = expected[row.row]
        assert row.likely == (counted >= 0 and classes[counted] != row.label)
        assert not row.likely or row.suggested == classes[counted]
        best = max(p[row.row, i] for i in range(k) if classes[i] != row.label)
        assert row.likely or row.p_suggested == best


def test_flipped_labels_of_a_good_classifier_come_first() -> None:
    rng = np.random.default_rng(3)
    truth = rng.choice(3, 400, p=[0.9, 0.08, 0.02])  # heavy imbalance
    p = rng.dirichlet(np.ones(3), 400) * 0.2 + 0.8 * np.eye(3)[truth]
    labels, flips = truth.copy(), rng.permutation(400)[:20]
    labels[flips] = (truth[flips] + rng.integers(1, 3, 20)) % 3
    table = rank_label_errors([CLASSES[i] for i in labels], p, CLASSES)
    assert set(table["row"].head(20)) == set(flips)
    likely = set(table.loc[table["likely"], "row"])
    assert likely <= set(flips)
    assert len(likely) >= 8  # the others do not reach the threshold, the mean of their class
    assert [CLASSES.index(name) for name in table["suggested"].head(20)] == truth[table["row"].head(20)].tolist()


# Odd tables


def test_rows_without_label_or_prediction_are_left_out_and_change_nothing() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [np.nan, np.nan], [0.5, 0.5], [0.1, 0.9], [0.6, 0.4]])
    labels = ["a", "b", "b", "a", None, "b", np.nan]
    table = rank_label_errors(labels, p, ["a", "b"])
    assert table["row"].tolist() == [2, 1, 0, 5]
    assert table["label"].tolist() == ["b", "b", "a", "b"]
    alone = rank_label_errors([labels[i] for i in (0, 1, 2, 5)], p[[0, 1, 2, 5]], ["a", "b"])
    pd.testing.assert_frame_equal(table.drop(columns="row"), alone.drop(columns="row"))


def test_a_class_without_labels_is_never_confident() -> None:
    p = np.array([[0.0, 0.1, 0.9], [0.0, 0.9, 0.1], [0.9, 0.1, 0.0]])
    table = rank_label_errors(["smooth", "smooth", "spiral"], p, CLASSES)
    assert not table["likely"].any()  # nothing is labelled as a star, so nobody knows how sure of stars is sure
    assert (table["row"][0], table["suggested"][0]) == (0, "star")  # yet it leads the list


def test_one_class_among_the_labels_gives_a_ranking_without_likely_rows() -> None:
    table = rank_label_errors(["a", "a", "a"], np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]), ["a", "b"])
    assert table["row"].tolist() == [1, 2, 0]
    assert not table["likely"].any()


def test_equal_probabilities_reach_their_own_mean() -> None:
    p = np.tile([0.1, 0.9], (3, 1))  # the mean of three times 0.1 is above 0.1
    assert p[:, 0].mean() > 0.1
    assert confident_classes(np.zeros(3, dtype=int), p).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("labels", "p", "classes", "words"),
    [
        (["a"], [[1.0]], ["a"], "only among two classes or more can a label be wrong"),
        ([None], [[0.5, 0.5]], ["a", "b"], "no row has a label"),
        (["a"], [[np.nan, np.nan]], ["a", "b"], "no row has a label"),
        (["c"], [[0.5, 0.5]], ["a", "b"], "labels that the classifier does not know: 'c'"),
        (["a"], [[5.0, -3.0]], ["a", "b"], "not probabilities that sum to one"),
        (["a", "b"], [[0.5, 0.5]], ["a", "b"], "do not fit probabilities of shape"),
        (["a"], [0.5, 0.5], ["a", "b"], "do not fit probabilities of shape"),
    ],
)
def test_what_cannot_be_ranked(labels: list[object], p: list[object], classes: list[str], words: str) -> None:
    with pytest.raises(SkyclassError, match=words):
        rank_label_errors(labels, np.array(p), classes)


# Which predictions are held out


def write(
    path: Path, rows: list[tuple[str, str | None, str | None, float]], classes: tuple[str, str] = ("a", "b")
) -> Path:
    """A predictions file of (image_id, label, split, p_a)."""
    frame = pd.DataFrame(rows, columns=["image_id", "label", "split", "p_a"])
    frame["p_b"] = 1 - frame["p_a"]
    with predictions_writer(path, list(classes), {}) as append:
        append(frame)
    return path


def held_out_of(paths: list[Path]) -> HeldOut:
    return held_out({str(path): read_predictions(predictions_of(path)) for path in paths})


def test_training_images_are_left_out_and_the_others_averaged(tmp_path: Path) -> None:
    first = write(tmp_path / "1.parquet", [("x", "a", "test", 0.2), ("y", "b", "val", 0.5), ("z", None, "train", 0.9)])
    second = write(tmp_path / "2.parquet", [("x", "a", "val", 0.4), ("y", "b", "train", 0.9), ("w", None, None, 0.75)])
    frame, classes, n_in_training = held_out_of([first, second])
    assert (classes, n_in_training) == (["a", "b"], 2)
    assert frame.columns.tolist() == ["image_id", "label", "p_a", "p_b"]
    assert frame["image_id"].tolist() == ["x", "y", "w"]
    assert frame["label"].tolist() == ["a", "b", None]
    np.testing.assert_allclose(frame[["p_a", "p_b"]], [[0.3, 0.7], [0.5, 0.5], [0.75, 0.25]], atol=1e-6)


def test_the_order_of_the_classes_may_differ_between_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / "1.parquet", [("x", "a", "test", 0.25)])]
    paths.append(write(tmp_path / "2.parquet", [("x", "a", "test", 0.75)], classes=("b", "a")))
    frame, classes, _ = held_out_of(paths)
    assert classes == ["a", "b"]
    assert frame["p_a"].tolist() == [0.5]


def test_a_foreign_table_without_splits_is_held_out_altogether(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("image_id,label,p_a,p_b\n7,a,0.5,0.5\n8,,0.25,0.75\n")
    frame, _, n_in_training = held_out_of([tmp_path / "p.csv"])
    assert frame["image_id"].tolist() == ["7", "8"]
    assert frame["label"].tolist() == ["a", None]
    assert n_in_training == 0


def test_an_image_that_one_run_could_not_read_keeps_the_prediction_of_the_other(tmp_path: Path) -> None:
    first = write(tmp_path / "1.parquet", [("x", "a", "test", np.nan), ("y", "a", "test", np.nan)])
    second = write(tmp_path / "2.parquet", [("x", "a", "test", 0.5)])
    frame = held_out_of([first, second]).frame
    assert frame["p_a"].tolist()[0] == 0.5
    assert np.isnan(frame["p_a"][1])


def test_predictions_that_cannot_be_put_together(tmp_path: Path) -> None:
    first = write(tmp_path / "1.parquet", [("x", "a", "test", 0.5), ("y", "a", "train", 0.5)])
    relabelled = write(tmp_path / "2.parquet", [("x", "b", "test", 0.5)])
    with pytest.raises(SkyclassError, match=r"2.parquet: 1 images have another label .* 'x', here 'b'"):
        held_out_of([first, relabelled])
    (tmp_path / "3.csv").write_text("image_id,p_a,p_c\nx,0.5,0.5\n")
    with pytest.raises(SkyclassError, match=r"3.csv: its classes are a, c, and those of .* are a, b"):
        held_out_of([first, tmp_path / "3.csv"])
    only_train = write(tmp_path / "4.parquet", [("x", "a", "train", 0.5)])
    with pytest.raises(SkyclassError, match=r"no prediction is of an image held out .* data.folds"):
        held_out_of([only_train])
    (tmp_path / "5.csv").write_text("p_a,p_b\n0.5,0.5\n")
    with pytest.raises(SkyclassError, match=r"5.csv: no column image_id"):
        held_out_of([tmp_path / "5.csv"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"pack": "p", "pack_hash": "h", "classes": []}')
    with pytest.raises(SkyclassError, match="the run has not ended"):
        held_out_of([tmp_path / "run"])
