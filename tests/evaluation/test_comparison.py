"""Classifiers side by side: which images they share, how they differ, and how that is told."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from helpers.figures import fits, legend_of
from skyclass.evaluation.comparison import (
    Candidate,
    Difference,
    comparison_markdown,
    difference,
    difference_columns,
    scores_with_intervals,
)
from skyclass.evaluation.figures.scores import comparison_figure

CLASSES = ["a", "b", "c"]


def method(name: str, gain: float, *, n: int = 300, seed: int = 0, pack: str = "one", file: str = "/data") -> Candidate:
    """Predictions of the same images whatever the seed, the better the larger the gain."""
    labels = np.arange(n) % 3
    scores = np.random.default_rng(seed).normal(size=(n, 3))
    scores[np.arange(n), labels] += gain
    p = np.exp(scores)
    images = pd.DataFrame({"image_id": [f"g{k}" for k in range(n)], "file": [f"{file}/g{k}.png" for k in range(n)]})
    return Candidate(name, pack, images, labels, p / p.sum(axis=1, keepdims=True), CLASSES)


def row(one: Candidate, found: Difference | str | None = None, **cost: object) -> dict[str, object]:
    costs = dict.fromkeys(("trained_parameters", "total_parameters", "time", "memory", "device")) | cost
    return {"method": one.name, **costs, **scores_with_intervals(one, 50), **difference_columns(found)}


def test_a_difference_is_tested_on_the_same_images() -> None:
    first, other = method("first", 2.5), method("other", 1.5, seed=1)
    found = difference(first, other, 400)
    assert isinstance(found, Difference)
    assert found.n == 300
    right = [one.p.argmax(axis=1) == one.labels for one in (first, other)]
    value, low, high = found.scores["accuracy"]
    assert value == pytest.approx(right[1].mean() - right[0].mean())
    assert low < value < high < 0.0
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert (found.test.only_first, found.test.only_second) == only
    assert found.test.p_value == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    nothing = difference(first, first._replace(name="same"), 50)
    assert isinstance(nothing, Difference)
    assert nothing.scores["accuracy"][0] == 0.0
    assert np.isnan(nothing.scores["accuracy"][1:]).all()
    assert nothing.test.p_value == 1.0


@pytest.mark.slow
def test_a_difference_is_right_as_often_as_it_says() -> None:
    """Two classifiers that are equally good: the interval holds 0, and McNemar's p is rarely small."""
    held = 0
    for seed in range(40):
        found = difference(method("x", 1.5, n=150, seed=2 * seed), method("y", 1.5, n=150, seed=2 * seed + 1), 150)
        assert isinstance(found, Difference)
        held += found.scores["auroc_macro"][1] <= 0.0 <= found.scores["auroc_macro"][2]
    assert held >= 34


def test_the_order_of_images_and_classes_plays_no_part() -> None:
    first, other = method("first", 2.0), method("other", 1.0, seed=1)
    found = difference(first, other, 100)
    order = np.random.default_rng(0).permutation(300)
    turned = other._replace(
        images=other.images.iloc[order].reset_index(drop=True),
        labels=(2 - other.labels)[order],
        p=other.p[order][:, ::-1],
        classes=CLASSES[::-1],
    )
    assert difference(first, turned, 100) == found


def test_only_common_images_are_compared() -> None:
    first, other = method("first", 2.0), method("other", 2.0, seed=1)
    part = other._replace(images=other.images.iloc[:90], labels=other.labels[:90], p=other.p[:90])
    found = difference(first, part, 50)
    assert isinstance(found, Difference)
    assert found.n == 90
    assert found.scores["accuracy"][0] == pytest.approx(
        (part.p.argmax(axis=1) == part.labels).mean() - (first.p[:90].argmax(axis=1) == first.labels[:90]).mean()
    )
    relabelled = difference(first, other._replace(labels=(other.labels + (np.arange(300) < 30)) % 3), 50)
    assert isinstance(relabelled, Difference)
    assert relabelled.n == 270


def test_images_of_two_packs_are_the_same_where_their_files_are() -> None:
    first = method("first", 2.0)
    found = difference(first, method("other", 2.0, seed=1, pack="two"), 50)
    assert isinstance(found, Difference)
    assert found.n == 300
    assert difference(first, method("other", 2.0, pack="two", file="/elsewhere"), 50) == "no test image is the same"
    simulated = {"file": "simulated:"}
    one, two = method("x", 2.0, **simulated), method("y", 2.0, seed=1, pack="two", **simulated)
    assert difference(one, two, 50) == "no test image is the same"
    assert isinstance(difference(one, two._replace(pack="one"), 50), Difference)


def test_other_classes_are_not_compared() -> None:
    first = method("first", 2.0)
    assert difference(first, first._replace(classes=["a", "b", "d"]), 50) == "its classes are others"


def test_the_table_in_words() -> None:
    first, other, third = method("first", 2.5), method("other|x", 1.0, seed=1), method("third", 1.0, seed=2)
    found = difference(first, other, 100)
    rows = [
        row(first, trained_parameters=1234, total_parameters=11_000_000, time="3 min 2 s", memory="1.2 GB", device="X"),
        row(other, found),
        row(third, "its classes are others"),
        {"method": "first, as reported", "reported_by": "reported by S, on T: accuracy 0.9", "accuracy": 0.9},
    ]
    text = comparison_markdown(rows, "test")
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    shown = [cell.strip() for cell in text.splitlines()[6].split("|")[1:-1]]
    assert shown[:5] == ["first", "1,234 of 11,000,000", "3 min 2 s", "1.2 GB", "300"]
    assert shown[5] == f"{rows[0]['accuracy']:.3f} ({rows[0]['accuracy_low']:.3f} to {rows[0]['accuracy_high']:.3f})"
    assert text.count("not measured") == 6
    assert "0.9 (theirs)" in lines["first, as reported"]
    assert "< 0.0001" in text
    assert "other\\|x" in text
    assert "none: its classes are others" in text
    assert "Trained on X." in text
    assert "p-values" not in text  # one test alone
    assert "- first, as reported: reported by S, on T: accuracy 0.9" in text
    widths = {len(line) for line in text.splitlines()[4:10]}
    assert len(widths) == 1
    more = comparison_markdown([*rows[:2], row(third, difference(first, third, 50), device="Y")], "all")
    assert more.startswith("# Comparison\n")
    assert "single tests: 2 were made" in more
    assert "Times and memory are of other machines: X: first; Y: third" in more
    assert "Against" not in comparison_markdown(rows[:1], "test")


def test_the_figure_shows_the_scores_and_their_intervals() -> None:
    first, other = method("first", 2.5), method("other", 1.0, seed=1)
    cost = {"trained_parameters": 11_178_051, "time": "3 min 2 s", "memory": "1.2 GB"}
    reported = {"method": "first, as reported", "reported_by": "S", "accuracy": 0.5}
    rows = [row(first, **cost), row(other), reported]
    figure = comparison_figure(rows)
    accuracy = figure.axes[0]
    assert [label.get_text() for label in accuracy.get_yticklabels()] == [
        "first\n11.2 M parameters trained, 3 min 2 s, 1.2 GB",
        "other",
        "first, as reported",
    ]
    intervals = [line.get_xdata() for line in accuracy.lines if len(line.get_xdata()) == 2]
    expected = [[one["accuracy_low"], one["accuracy_high"]] for one in rows[:2]]
    np.testing.assert_allclose(intervals, expected)
    assert [text.get_text() for text in accuracy.texts] == [f"{one['accuracy']:.3f}" for one in rows]
    assert len(figure.axes[1].texts) == 2  # nobody reports a balanced accuracy
    ece = figure.axes[3]
    marks = [line for line in ece.lines if line.get_label() == "ECE by chance alone"]
    np.testing.assert_allclose([line.get_xdata()[0] for line in marks], [one["ece_by_chance"] for one in rows[:2]])
    assert [line.get_ydata()[0] for line in marks] == [0, 1]
    assert not any(line.get_label() == "ECE by chance alone" for axes in figure.axes[:3] for line in axes.lines)
    ours, chance = "here, 95 % interval", "ECE by chance alone"
    assert legend_of(figure) == [ours, chance, "reported by others, on their data"]
    assert fits(figure)
    assert legend_of(comparison_figure(rows[:1])) == [ours, chance]
