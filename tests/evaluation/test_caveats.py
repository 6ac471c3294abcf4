"""What images can tell: permutation test against chance, notes on classes, and the words beside an ECE."""

from __future__ import annotations

import numpy as np
import pytest

from skyclass.core.sample_sizes import LEAST_GRADED, LEAST_IN_CLASS, class_notes
from skyclass.evaluation import metrics
from skyclass.evaluation.caveats import agreement_by_chance, caveat_of_maps, evaluation_notes, is_above_chance


def test_a_network_that_knows_nothing_is_not_above_chance() -> None:
    labels = np.arange(30) % 3
    assert agreement_by_chance(labels, np.zeros(30, int)) == 1.0  # constant
    assert not is_above_chance(labels, np.random.default_rng(0).integers(0, 3, 30))
    assert not is_above_chance(np.zeros(30, int), np.zeros(30, int))  # one class: all right, and nothing is known
    assert not is_above_chance(np.arange(3), np.arange(3))  # one image a class: one of six orders
    assert is_above_chance(labels, labels)
    assert is_above_chance(labels, np.where(np.arange(30) < 20, labels, 0))


def test_the_p_value_is_that_of_the_exact_permutation_test() -> None:
    """Two of two classes right, of four images: the labels have six orders, of which one is as good."""
    labels = np.array([0, 0, 1, 1])
    assert agreement_by_chance(labels, labels) == pytest.approx(1 / 6, abs=0.02)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"a": 50, "b": 60}, []),
        ({"a": 50, "b": 0, "c": 60}, ["No image is labelled b: averages are over the 2 classes"]),
        ({"a": 50, "b": 0}, ["Every image is labelled a"]),
        (
            {"a": 3, "b": LEAST_IN_CLASS},
            ["Too few to tell how well these classes are recognised, below 10 images: a (3)"],
        ),
    ],
)
def test_notes_on_classes(counts: dict[str, int], words: list[str]) -> None:
    notes = class_notes(counts)
    assert len(notes) == len(words)
    assert all(note.startswith(word) for note, word in zip(notes, words, strict=True))


def test_the_bias_of_an_ece_is_said_beside_it() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1.0, 1.0], 40)
    labels = np.where(rng.random(40) < p[:, 0], "a", "b")
    notes = evaluation_notes(metrics.compute_metrics(labels, p, ["a", "b"], resamples=100))
    assert "is no sign of miscalibration" in notes[-1]
    wrong = np.where(p[:, 0] > 0.5, "b", "a")
    result = metrics.compute_metrics(wrong, p, ["a", "b"], resamples=100)
    assert "is more than that" in evaluation_notes(result)[-1]
    assert f"about {result['ece_by_chance']:.3f}" in evaluation_notes(result)[-1]


def test_seven_images_all_right_have_scores_without_intervals() -> None:
    p = np.eye(3)[[0, 0, 1, 1, 1, 2, 2]] * 0.9 + 0.1 / 3
    result = metrics.compute_metrics(list("aabbbcc"), p, list("abc"), resamples=100)
    notes = evaluation_notes(result)
    assert any("the same in every resample of the images: balanced accuracy" in note for note in notes)
    assert any("a (2), b (3), c (2)" in note for note in notes)


def test_an_evaluation_of_an_older_skyclass_is_told_of_its_other_means() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    result = metrics.compute_metrics(["a", "a", "b", "b"], p, ["a", "b", "c"], resamples=50)
    assert not any("older Skyclass" in note for note in evaluation_notes(result))
    del result["averaged_over"]
    assert "older Skyclass" in evaluation_notes(result)[0]


def test_few_maps_are_not_graded_whatever_the_network() -> None:
    assert caveat_of_maps(3) == f"3 images, and it takes {LEAST_GRADED}"
    assert caveat_of_maps(LEAST_GRADED) == ""
    assert caveat_of_maps(LEAST_GRADED, "no better than chance") == "no better than chance"
