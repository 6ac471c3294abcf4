"""Scores of uncertainty against independent implementations, and which of them is to be trusted."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from skyclass.evaluation.uncertainty import (
    IN_WORDS,
    advise,
    auroc_of_errors,
    best_risk_coverage,
    compare_scores,
    risk_coverage,
    scores_of_probabilities,
    scores_of_samples,
)


def drawn(n: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Errors that come with a chance, and scores that know it more or less well, with ties."""
    random = np.random.default_rng(seed)
    chance = random.beta(1, 4, n)
    wrong = random.random(n) < chance
    blurred = np.clip(chance + random.normal(0, 0.5, n), 0, 1)
    return wrong, {"max_probability": blurred.round(1), "entropy": chance, "uncertainty_head": random.random(n)}


# What the scores are


def test_what_the_probabilities_say() -> None:
    p = np.random.default_rng(0).dirichlet([0.3, 1.0, 2.0], 50)
    found = scores_of_probabilities(p)
    np.testing.assert_allclose(found["max_probability"], 1 - p.max(axis=1))
    np.testing.assert_allclose(found["entropy"], entropy(p, axis=1) / np.log(3), atol=1e-12)


def test_images_whose_largest_probability_is_one_are_still_ranked() -> None:
    """As float32 has it: 1 - 1e-9 is 1 there, and the other probability 1e-9."""
    p = np.array([[1 - 1e-9, 1e-9], [1 - 1e-12, 1e-12], [1 - 1e-10, 1e-10]], np.float32).astype(np.float64)
    assert np.argsort(scores_of_probabilities(p)["max_probability"]).tolist() == [1, 2, 0]


def test_disagreement_is_the_mutual_information_of_class_and_answer() -> None:
    p = np.random.default_rng(0).dirichlet([0.3, 1.0, 2.0], (4, 50))  # (S, N, K)
    found = scores_of_samples(p, "ensemble")
    joint = p / 4  # answers are equally likely
    apart = p.mean(axis=0) / 4
    expected = (joint * np.log(joint / apart)).sum(axis=(0, 2)) / np.log(3)
    np.testing.assert_allclose(found["ensemble_disagreement"], expected, atol=1e-12)
    np.testing.assert_allclose(found["ensemble_entropy"], entropy(p.mean(axis=0), axis=1) / np.log(3), atol=1e-12)
    same = scores_of_samples(np.repeat(p[:1], 3, axis=0), "ensemble")
    np.testing.assert_allclose(same["ensemble_disagreement"], 0.0, atol=1e-12)
    assert set(found) == {"ensemble_entropy", "ensemble_disagreement"}


def test_answers_that_are_certain_and_differ_disagree_most() -> None:
    p = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert scores_of_samples(p, "ensemble")["ensemble_disagreement"] == pytest.approx(1.0)


# Risk and coverage


def mean_risks(wrong: list[bool], score: list[int]) -> list[Fraction]:
    """The risk at each coverage, averaged over every order of the images that sorts the score."""
    n = len(wrong)
    orders = [order for order in permutations(range(n)) if [score[i] for i in order] == sorted(score)]
    risks = [[Fraction(sum(wrong[i] for i in order[: k + 1]), k + 1) for k in range(n)] for order in orders]
    return [sum(column, Fraction(0)) / len(orders) for column in zip(*risks, strict=True)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=6))
def test_ties_count_as_the_mean_of_all_their_orders(images: list[tuple[bool, int]]) -> None:
    wrong, score = [one for one, _ in images], [value for _, value in images]
    found = risk_coverage(np.array(wrong), np.array(score, float))
    expected = [float(risk) for risk in mean_risks(wrong, score)]
    np.testing.assert_allclose(found.risk, expected, atol=1e-12)
    np.testing.assert_allclose(found.coverage, np.arange(1, len(wrong) + 1) / len(wrong))
    assert found.area == pytest.approx(np.mean(expected))


def test_no_score_has_a_smaller_area_than_the_best_one() -> None:
    wrong, scores = drawn(200, 1)
    best = best_risk_coverage(wrong)
    assert all(risk_coverage(wrong, score).area > best.area for score in scores.values())
    n, errors = len(wrong), wrong.sum()
    expected = np.maximum(np.arange(1, n + 1) - (n - errors), 0) / np.arange(1, n + 1)
    np.testing.assert_allclose(best.risk, expected)
    assert risk_coverage(wrong, np.zeros(n)).area == pytest.approx(wrong.mean())


# AUROC of errors


def test_the_auroc_of_errors_is_scikit_learns_under_every_weighting() -> None:
    wrong, scores = drawn(150, 2)
    weights = np.random.default_rng(0).integers(0, 3, (150, 5)).astype(float)
    for score in scores.values():
        expected = [roc_auc_score(wrong, score, sample_weight=column) for column in weights.T]
        np.testing.assert_allclose(auroc_of_errors(wrong, score, weights), expected, atol=1e-12)


def test_a_score_that_knows_more_is_the_one_to_trust() -> None:
    wrong, scores = drawn(2000, 3)
    found = compare_scores(wrong, scores)
    assert found["trust"] == "entropy"
    row = found["scores"]["entropy"]
    assert row["auroc"] == pytest.approx(roc_auc_score(wrong, scores["entropy"]))
    assert row["auroc_interval"][0] < row["auroc"] < row["auroc_interval"][1]
    assert 0 < row["gain_interval"][0] < row["gain"] < row["gain_interval"][1]
    assert row["excess_aurc"] == pytest.approx(row["aurc"] - found["best_aurc"])
    assert found["advice"].startswith('Trust the score "entropy of the probabilities": its AUROC of errors is')
    assert "gain" not in found["scores"]["max_probability"]
    json.dumps(found, allow_nan=False)


def test_without_proof_of_the_contrary_the_largest_probability_is_trusted() -> None:
    wrong, scores = drawn(800, 4)
    near = scores["max_probability"] + np.random.default_rng(0).normal(0, 0.02, 800)
    found = compare_scores(wrong, {"max_probability": scores["max_probability"], "entropy": near})
    assert found["trust"] == "max_probability"
    assert found["advice"].startswith("Trust the largest probability")
    worse = compare_scores(wrong, {"max_probability": wrong + 0.0, "entropy": near})
    assert "no score ranks the errors better (AUROC 1.000)" in worse["advice"]


def test_a_score_that_may_be_chance_is_not_to_be_trusted() -> None:
    wrong, rng = np.arange(200) % 2 == 0, np.random.default_rng(0)
    found = compare_scores(wrong, {"max_probability": rng.random(200), "entropy": rng.random(200)})
    assert found["trust"] is None
    assert found["advice"].startswith("Trust no score")


def test_the_seed_changes_the_intervals_alone() -> None:
    wrong, scores = drawn(100, 5)
    one, other, same = (compare_scores(wrong, scores, seed) for seed in (0, 1, 0))
    assert one == same
    assert one["scores"]["entropy"]["auroc_interval"] != other["scores"]["entropy"]["auroc_interval"]
    assert one["scores"]["entropy"]["auroc"] == other["scores"]["entropy"]["auroc"]


def test_seven_images_do_not_say_which_score_to_trust() -> None:
    """One wrong prediction, surer than all right ones: an AUROC of errors of 0.000, without an interval."""
    wrong = np.array([True] + [False] * 6)
    scores = {"max_probability": np.linspace(0.1, 0.4, 7), "entropy": np.linspace(0.2, 0.5, 7)}
    found = compare_scores(wrong, scores)
    assert found["scores"]["max_probability"]["auroc"] == 0.0
    assert found["trust"] is None
    assert found["advice"].startswith("Too few to tell which score of uncertainty to trust: 1 wrong and 6 right")
    assert "Trust" not in found["advice"]


@pytest.mark.parametrize(("n_errors", "is_told"), [(9, False), (10, True)])
def test_ten_errors_and_ten_right_ones_are_needed(n_errors: int, is_told: bool) -> None:
    for wrong in (np.arange(60) < n_errors, np.arange(60) >= n_errors):
        found = compare_scores(wrong, {"max_probability": wrong + 0.0, "entropy": wrong + 0.0})
        assert (
            found["trust"] == "max_probability"
        ) is is_told  # every resample has an AUROC of 1: there is no interval
        assert ("Too few to tell" in found["advice"]) is not is_told


def test_constant_probabilities_rank_nothing() -> None:
    found = compare_scores(np.arange(60) < 20, {"max_probability": np.full(60, 0.5), "entropy": np.full(60, 1.0)})
    assert found["trust"] is None
    assert found["advice"].startswith("Trust no score")


def test_a_baseline_that_may_be_chance_is_not_trusted_for_want_of_a_better_one() -> None:
    rows = {
        "max_probability": {"auroc": 0.55, "auroc_interval": [0.48, 0.62]},
        "entropy": {"auroc": 0.6, "auroc_interval": [0.53, 0.67], "gain": 0.05, "gain_interval": [-0.01, 0.1]},
    }
    found = advise({"n": 200, "n_errors": 50, "scores": rows})
    assert found["trust"] is None
    assert "may be chance" in found["advice"]
    rows["entropy"]["gain_interval"] = [0.01, 0.1]
    assert advise({"n": 200, "n_errors": 50, "scores": rows})["trust"] == "entropy"


@pytest.mark.parametrize(("wrong", "word"), [([False] * 3, "right"), ([True] * 3, "wrong"), ([True], "wrong")])
def test_where_all_is_right_or_wrong_no_score_is_judged(wrong: list[bool], word: str) -> None:
    found = compare_scores(np.array(wrong), {"max_probability": np.linspace(0, 1, len(wrong))})
    assert found["trust"] is None
    assert f"are {word}: no score can be compared" in found["advice"]
    assert found["scores"]["max_probability"]["auroc"] is None
    json.dumps(found, allow_nan=False)


def test_every_score_has_a_name_in_words() -> None:
    assert len(set(IN_WORDS.values())) == len(IN_WORDS) == 8
