"""Coverage and sizes of prediction sets, and the range that luck leaves the coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from skyclass.evaluation.calibration.conformal import PredictionSets, conformal_quantile, expected_coverage, set_scores

CLASSES = ["bar", "blob", "ring"]


def test_scores_by_hand() -> None:
    members = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 1, 0]], dtype=bool)
    labels = np.array([0, 1, 0, 0, -1, -1])
    found = set_scores(members, labels, CLASSES)
    assert found["sizes"] == [1, 2, 2, 1]
    assert (found["mean_size"], found["ambiguous"]) == (pytest.approx(9 / 6), 4)
    coverage = found["coverage"]
    assert (coverage["n"], coverage["share"], coverage["expected"], coverage["within"]) == (4, 0.5, None, None)
    exact = binomtest(2, 4).proportion_ci(0.95, method="exact")
    assert coverage["interval"] == pytest.approx([exact.low, exact.high])
    assert [found["coverage_per_class"][name]["share"] for name in CLASSES] == [pytest.approx(1 / 3), 1.0, None]
    assert found["coverage_per_class"]["ring"] == dict.fromkeys(("share", "interval", "expected", "within")) | {"n": 0}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("n", [60, 501])
def test_the_coverage_lies_in_the_expected_range_in_95_percent_of_cases(conditional: bool, n: int) -> None:
    """Both ends: with half the width, far fewer cases would lie within. Any continuous scores serve."""
    random = np.random.default_rng(n)
    counts, groups = np.array([50, 70, 30]), 3 if conditional else 1
    sets = PredictionSets("lac", 0.8, (0.5,) * groups, (n // groups,) * groups)
    low, high = expected_coverage(sets, counts) or (0.0, 0.0)
    shares = []
    for _ in range(2_000):
        bounds = [conformal_quantile(random.random(n // groups), 0.8) for _ in range(groups)]
        new = [random.random(m) for m in (counts if conditional else [150])]
        shares.append(sum((some <= bound).sum() for some, bound in zip(new, bounds, strict=True)) / 150)
    share = np.array(shares)
    assert low < 0.8 < high
    assert 0.94 <= ((share >= low) & (share <= high)).mean() <= 0.97
    assert (np.abs(share - 0.5 * (low + high)) < 0.25 * (high - low)).mean() < 0.8


def test_a_coverage_is_held_against_its_range() -> None:
    sets = PredictionSets("lac", 0.9, (0.5,), (200,))
    for right, within in ((60, False), (90, True), (100, False)):
        members = np.zeros((100, 3), dtype=bool)
        members[:right, 0] = True
        found = set_scores(members, np.zeros(100, dtype=int), CLASSES, sets)["coverage"]
        assert found["within"] is within
        assert found["expected"] == list(expected_coverage(sets, np.array([100, 0, 0])) or ())


def test_the_range_is_that_of_the_beta_distribution_for_many_new_images() -> None:
    sets = PredictionSets("lac", 0.9, (0.5,), (99,))
    low, high = expected_coverage(sets, np.array([400_000, 100_000])) or (0.0, 0.0)
    np.testing.assert_allclose((low, high), beta(90, 10).ppf([0.025, 0.975]), atol=2e-3)
    few = expected_coverage(sets, np.array([5, 5])) or (0.0, 0.0)
    assert few[0] < low
    assert few[1] == 1.0
    assert expected_coverage(sets, np.array([0, 0])) is None


def test_class_conditional_ranges_add_up() -> None:
    """Against draws; the third class has too few calibration images, so that its coverage is one."""
    sets = PredictionSets("lac", 0.9, (0.5, 0.5, None), (30, 99, 4))
    counts = np.array([40, 60, 25])
    random = np.random.default_rng(0)
    hits = 25 + random.binomial(40, random.beta(28, 3, 20_000)) + random.binomial(60, random.beta(90, 10, 20_000))
    expected = np.quantile(hits / 125, [0.025, 0.975])
    np.testing.assert_allclose(expected_coverage(sets, counts), expected, atol=0.009)
    members = np.ones((125, 3), dtype=bool)
    found = set_scores(members, np.repeat([0, 1, 2], counts), CLASSES, sets)["coverage_per_class"]
    assert (found["ring"]["expected"], found["ring"]["within"]) == ([1.0, 1.0], True)
    assert found["blob"]["expected"][0] < 0.9 < found["blob"]["expected"][1]


def test_nothing_at_all() -> None:
    found = set_scores(np.zeros((0, 3), dtype=bool), np.zeros(0, dtype=int), CLASSES)
    assert (found["sizes"], found["mean_size"], found["ambiguous"]) == ([0, 0, 0, 0], None, 0)
    assert found["coverage"]["n"] == 0
