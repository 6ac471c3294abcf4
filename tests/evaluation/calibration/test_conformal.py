"""Prediction sets: their coverage on exchangeable data is what was promised, whatever the classifier."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import kstest

from helpers.probabilities import labels_drawn_from
from skyclass.core.errors import SkyclassError
from skyclass.evaluation.calibration.conformal import (
    PredictionSets,
    conformal_quantile,
    fit_prediction_sets,
    join_names,
    random_shares,
    read_names,
    set_columns,
)

SCORES = ("lac", "aps")


def images(n: int, n_classes: int, seed: int, wrongness: float = 1.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Probabilities, labels and ids of exchangeable images; p is overconfident by the power `wrongness`."""
    p = softmax(np.random.default_rng([seed, 7]).normal(size=(n, n_classes)) * 1.5, axis=1)
    bad = p**wrongness
    return bad / bad.sum(axis=1, keepdims=True), labels_drawn_from(p, seed), [f"image {seed} {row}" for row in range(n)]


def covered(sets: PredictionSets, p: np.ndarray, labels: np.ndarray, ids: list[str]) -> np.ndarray:
    return sets.members(p, ids)[np.arange(len(labels)), labels]


# What is promised


@settings(max_examples=20, deadline=None)
@given(
    score=st.sampled_from(SCORES),
    coverage=st.floats(0.05, 0.97),
    n_classes=st.integers(2, 8),
    wrongness=st.floats(0.3, 5.0),
    seed=st.integers(0, 10_000),
)
def test_the_coverage_is_kept_by_any_classifier(
    score: str, coverage: float, n_classes: int, wrongness: float, seed: int
) -> None:
    """Coverage given one calibration set is Beta distributed (Angelopoulos & Bates 2021, section 3.2), here n = 400."""
    n = 400
    p, labels, ids = images(n + 2_000, n_classes, seed, wrongness)
    sets = fit_prediction_sets(p[:n], labels[:n], ids[:n], coverage=coverage, score=score, seed=seed)
    share = covered(sets, p[n:], labels[n:], ids[n:]).mean()
    deviation = math.sqrt(coverage * (1 - coverage) * (1 / n + 1 / 2_000))
    assert share == pytest.approx(coverage, abs=5 * deviation + 1 / n)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("n", [9, 20, 57])
def test_the_coverage_is_exact_on_average_for_any_number_of_images(score: str, n: int) -> None:
    """ceil((n + 1) 0.9) / (n + 1), over calibration sets; the plain quantile would fall short of it by up to 1/n."""
    p, labels, ids = images(20_000, 4, seed=n, wrongness=2.0)
    shares = []
    for start in range(0, 20_000 - n - 50, n + 50):
        some, other = slice(start, start + n), slice(start + n, start + n + 50)
        sets = fit_prediction_sets(p[some], labels[some], ids[some], score=score)
        shares.append(covered(sets, p[other], labels[other], ids[other]).mean())
    expected = math.ceil((n + 1) * 0.9 - 1e-9) / (n + 1)
    assert np.mean(shares) == pytest.approx(expected, abs=4 * np.std(shares) / math.sqrt(len(shares)))
    assert expected >= 0.9


@pytest.mark.parametrize("score", SCORES)
def test_each_class_is_covered_where_that_is_asked_for(score: str) -> None:
    """A class that the classifier hardly ever names is left out of the sets, unless its coverage is promised too."""
    p, labels, ids = images(20_000, 3, seed=3)
    p = p * [1.0, 1.0, 0.15]
    p /= p.sum(axis=1, keepdims=True)
    n = 5_000
    shares = {}
    for conditional in (False, True):
        sets = fit_prediction_sets(p[:n], labels[:n], ids[:n], score=score, class_conditional=conditional)
        assert sets.class_conditional is conditional
        hit = covered(sets, p[n:], labels[n:], ids[n:])
        shares[conditional] = [hit[labels[n:] == k].mean() for k in range(3)]
    assert min(shares[False]) < 0.8
    np.testing.assert_allclose(shares[True], 0.9, atol=0.03)


def test_lac_has_the_smaller_sets_and_aps_covers_easy_and_hard_images_alike() -> None:
    p, labels, ids = images(20_000, 6, seed=1)
    fifth = np.digitize(p.max(axis=1), np.quantile(p.max(axis=1), (0.2, 0.4, 0.6, 0.8)))
    size, spread = {}, {}
    for score in SCORES:
        sets = fit_prediction_sets(p[:5_000], labels[:5_000], ids[:5_000], score=score)
        size[score] = sets.members(p, ids).sum(axis=1).mean()
        hit = covered(sets, p, labels, ids)
        spread[score] = np.ptp([hit[fifth == row].mean() for row in range(5)])
    assert size["lac"] < size["aps"]
    assert spread["aps"] < 0.04 < spread["lac"]


def test_a_better_classifier_has_smaller_sets() -> None:
    p, labels, ids = images(4_000, 5, seed=2)
    blurred = 0.5 * p + 0.1
    for score in SCORES:
        sizes = [
            fit_prediction_sets(q[:2_000], labels[:2_000], ids[:2_000], score=score).members(q, ids).sum() / 4_000
            for q in (p, blurred)
        ]
        assert sizes[0] <= sizes[1]


# The scores, by hand


def test_lac_holds_the_classes_of_large_probability() -> None:
    sets = PredictionSets("lac", 0.9, (0.7,), (50,))
    p = np.array([[0.6, 0.31, 0.09], [0.34, 0.33, 0.33], [0.2, 0.29, 0.51]])
    assert sets.members(p, "abc").tolist() == [[True, True, False], [True, True, True], [False, False, True]]
    assert not PredictionSets("lac", 0.9, (0.3,), (50,)).members(p[:2], "ab").any()


def test_aps_adds_classes_until_the_threshold_and_part_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    p = np.array([[0.1, 0.6, 0.3]] * 3)
    shares = np.array([0.0, 0.5, 0.99])
    monkeypatch.setattr("skyclass.evaluation.calibration.conformal.random_shares", lambda ids, seed: shares)
    # Scores of the classes in order of probability: u 0.6, 0.6 + u 0.3, 0.9 + u 0.1.
    members = {bound: PredictionSets("aps", 0.9, (bound,), (50,)).members(p, "abc").tolist() for bound in (0.55, 0.75)}
    assert members[0.55] == [[False, True, False], [False, True, False], [False, False, False]]
    assert members[0.75] == [[False, True, True], [False, True, True], [False, True, False]]


def test_the_random_share_is_uniform_and_belongs_to_the_image() -> None:
    names = [f"J{row:06d}" for row in range(5_000)]
    shares = random_shares(names, 0)
    assert kstest(shares, "uniform").pvalue > 0.01
    assert kstest(random_shares(map(str, range(5_000)), 1), "uniform").pvalue > 0.01
    np.testing.assert_array_equal(random_shares(names[::-1], 0), shares[::-1])
    assert abs(np.corrcoef(shares, random_shares(names, 1))[0, 1]) < 0.05
    p, labels, ids = images(300, 4, seed=5)
    sets = fit_prediction_sets(p, labels, ids, score="aps")
    one_by_one = np.concatenate([sets.members(p[row : row + 1], ids[row : row + 1]) for row in range(300)])
    np.testing.assert_array_equal(one_by_one, sets.members(p, ids))
    other = fit_prediction_sets(p, labels, ids, score="aps", seed=1)
    assert (other.members(p, ids) != sets.members(p, ids)).any()


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0), max_size=60), st.floats(0.01, 0.99))
def test_the_quantile_is_the_one_of_the_definition(values: list[float], coverage: float) -> None:
    found = conformal_quantile(np.array(values), coverage)
    rank = math.ceil(round((len(values) + 1) * coverage, 9))
    assert found == (sorted(values)[rank - 1] if rank <= len(values) else None)


def test_nine_images_are_enough_for_nine_in_ten() -> None:
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0  # (9 + 1) * 0.9 is a float that may be more than 9
    assert conformal_quantile(np.arange(8.0), 0.9) is None
    assert conformal_quantile(np.arange(19.0), 0.95) == 18.0


# Extremes; warnings are errors


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("conditional", [False, True])
def test_too_few_images_give_sets_of_all_classes_and_a_sentence(score: str, conditional: bool) -> None:
    p, _, ids = images(30, 3, seed=1)
    labels = np.array([0] * 25 + [1] * 5)
    for n in (0, 5, 30):
        sets = fit_prediction_sets(p[:n], labels[:n], ids[:n], score=score, class_conditional=conditional)
        said = sets.warnings(["bar", "blob", "ring"])
        if n < 30:
            assert sets.members(p, ids).all()
            assert len(said) == (3 if conditional else 1)
        elif conditional:
            assert sets.members(p, ids)[:, 1:].all()
            assert not sets.members(p, ids)[:, 0].all()
            assert [text.split(" are too few")[0] for text in said] == [
                "Warning: 5 images of class 'blob'",
                "Warning: 0 images of class 'ring'",
            ]
        else:
            assert not sets.members(p, ids).all()
            assert said == []


@pytest.mark.parametrize("score", SCORES)
def test_certain_and_single_classes(score: str) -> None:
    labels = np.arange(60) % 3
    ids = [str(row) for row in range(60)]
    certain = np.eye(3)[labels]
    sets = fit_prediction_sets(certain, labels, ids, score=score)
    assert covered(sets, certain, labels, ids).mean() >= 0.9
    assert (sets.members(certain, ids).sum(axis=1) <= 1).all()
    for conditional in (False, True):
        one = fit_prediction_sets(
            np.ones((60, 1)), np.zeros(60, dtype=int), ids, score=score, class_conditional=conditional
        )
        assert one.members(np.ones((60, 1)), ids).mean() >= 0.9
        assert one.thresholds[0] is not None


def test_equal_probabilities_are_covered_as_others_are() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 4_000)
    p, ids = np.full((4_000, 4), 0.25), [str(row) for row in range(4_000)]
    sets = fit_prediction_sets(p[:2_000], labels[:2_000], ids[:2_000], score="aps")
    assert covered(sets, p[2_000:], labels[2_000:], ids[2_000:]).mean() == pytest.approx(0.9, abs=0.04)
    lac = fit_prediction_sets(p[:2_000], labels[:2_000], ids[:2_000], score="lac")
    assert lac.members(p, ids).all()


# Columns and files


def test_columns_of_a_table() -> None:
    sets = PredictionSets("lac", 0.9, (0.7,), (50,))
    p = np.array([[0.6, 0.31, 0.09], [np.nan] * 3, [0.2, 0.29, 0.51], [0.1, 0.25, 0.25]])
    names, ambiguous = set_columns(sets, p, "abcd", ["a", "b", "c"])
    assert names == ["a|b", None, "c", ""]
    assert pd.Series(ambiguous).tolist() == [True, pd.NA, False, True]
    names, ambiguous = set_columns(None, p, "abcd", ["a", "b", "c"])
    assert names == [None] * 4
    assert pd.Series(ambiguous).isna().all()


NAMES = st.lists(st.text(st.sampled_from("ab|\\ "), min_size=1, max_size=5), min_size=1, max_size=5, unique=True)


@settings(deadline=None)
@given(NAMES, st.integers(0, 2**32))
def test_any_names_are_written_and_read(classes: list[str], seed: int) -> None:
    members = np.random.default_rng(seed).random((6, len(classes))) < 0.5
    np.testing.assert_array_equal(read_names(join_names(members, classes), classes), members)


def test_strange_names_are_refused() -> None:
    with pytest.raises(SkyclassError, match="names 'moon', which is no class; the classes are star, galaxy"):
        read_names(["star", "star|moon"], ["star", "galaxy"])
    assert read_names([], ["star"]).shape == (0, 1)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("conditional", [False, True])
def test_json_and_back(score: str, conditional: bool) -> None:
    p, _, ids = images(30, 3, seed=1)
    labels = np.array([0] * 25 + [1] * 5)
    sets = fit_prediction_sets(p, labels, ids, score=score, class_conditional=conditional, seed=3)
    again = PredictionSets.from_json(json.loads(json.dumps(sets.to_json(), allow_nan=False)))
    assert again == sets
    assert PredictionSets.from_json(None) is None
    with pytest.raises(SkyclassError, match="damaged prediction sets"):
        PredictionSets.from_json({"score": "lac"})
