"""The audit: duplicates across splits and labels, odd images, thin classes, and names that a mirror exchanges."""

from __future__ import annotations

import pandas as pd
import pytest

from skyclass.data.audit.checks import (
    FEW,
    balance_problems,
    chiral_classes,
    chirality_problems,
    cluster_problems,
    duplicate_clusters,
    duplicate_problems,
    duplicate_table,
    duplicates_found,
    mixed_bands,
    odd_ones,
)


def catalog(labels: list[str | None], splits: list[str | None]) -> pd.DataFrame:
    ids = [f"image-{number}" for number in range(len(labels))]
    columns = {"image_id": ids, "file": [f"/data/{name}.png" for name in ids], "label": labels, "split": splits}
    return pd.DataFrame(columns, dtype=object)


def pairs(*rows: tuple[int, int, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["first", "second", "kind", "similarity"])
    return frame.assign(rotation=0.0, mirrored=False)


FRAME = catalog(["a", "a", "a", "b", None, "b", "a"], ["train", "test", "train", "train", None, "val", "train"])
PAIRS = pairs(
    (0, 2, "sure", 0.99), (0, 1, "sure", 0.96), (1, 2, "sure", 0.97), (3, 6, "exact", 1.0), (4, 5, "sure", 0.9)
)


def test_clusters_are_called_by_their_first_image() -> None:
    names = duplicate_clusters(FRAME, PAIRS)
    assert names.tolist() == ["image-0", "image-0", "image-0", "image-3", "image-4", "image-4", "image-3"]
    assert duplicate_clusters(FRAME, PAIRS.iloc[:0]).tolist() == [None] * 7


def test_leaks_come_first_then_conflicting_labels_and_absent_ones_conflict_with_nothing() -> None:
    table = duplicate_table(FRAME, PAIRS)
    assert table["across"].tolist() == ["splits", "splits", "labels", "", ""]
    assert table["similarity"].tolist() == [0.97, 0.96, 1.0, 0.99, 0.9]
    assert table.loc[2, ["image_id", "label", "other_id", "other_label"]].tolist() == ["image-3", "b", "image-6", "a"]
    assert table["cluster"].tolist() == ["image-0", "image-0", "image-3", "image-0", "image-4"]
    both = duplicate_table(catalog(["a", "b"], ["train", "test"]), pairs((0, 1, "sure", 0.95)))
    assert both["across"].tolist() == ["splits and labels"]
    assert duplicate_table(FRAME, PAIRS.iloc[:0]).empty


def test_rows_of_a_catalog_whose_index_does_not_begin_at_zero() -> None:
    later = FRAME.set_axis(range(10, 17))
    pd.testing.assert_frame_equal(duplicate_table(later, PAIRS), duplicate_table(FRAME, PAIRS))


def test_only_harmful_pairs_are_problems() -> None:
    problems = duplicate_problems(duplicate_table(FRAME, PAIRS))
    assert [row["image_id"] for row in problems] == ["image-1", "image-0", "image-3"]
    assert problems[0]["problem"] == "shows the same picture as image-2, which is in train: a leak"
    assert problems[2]["problem"] == "has the same pixels as image-6, which is labelled a: conflicting labels"
    assert {row["severity"] for row in problems} == {"warning"}
    assert [row["kind"] for row in problems] == ["leak", "leak", "conflict"]


def test_what_may_be_a_copy_is_listed_last_joins_nothing_and_is_no_problem() -> None:
    found = pairs((0, 1, "maybe", 0.99), (3, 6, "sure", 0.95))
    table = duplicate_table(FRAME, found)
    assert table["kind"].tolist() == ["sure", "maybe"]
    assert table["across"].tolist() == ["labels", "splits"]
    assert table["cluster"].tolist() == ["image-3", None]
    assert duplicate_clusters(FRAME, found).dropna().tolist() == ["image-3", "image-3"]
    (problem,) = duplicate_problems(table)
    assert problem["problem"] == "shows the same picture as image-6, which is labelled a: labels to compare"


def test_pairs_of_the_first_version_are_copies() -> None:
    old = pairs((0, 1, "near", 0.96))
    assert duplicate_clusters(FRAME, old).dropna().tolist() == ["image-0", "image-0"]
    (problem,) = duplicate_problems(duplicate_table(FRAME, old))
    assert problem["problem"] == "shows the same picture as image-1, which is in test: a leak"


def test_a_cluster_of_several_classes_or_of_much_of_the_images_gets_a_sentence() -> None:
    table = duplicate_table(FRAME, PAIRS)
    said = [problem["problem"] for problem in cluster_problems(table, 7, "folder")]
    assert said == [
        "the cluster of duplicates of image-0 (3 images) holds 42.9% of all images: please compare them by eye",
        "the cluster of duplicates of image-3 (2 images) holds images of 2 classes (a, b): please compare them by eye",
    ]
    assert [problem["problem"] for problem in cluster_problems(table, 1000, "folder")] == said[1:]
    both = duplicate_table(catalog(["a", "b", "a"], [None] * 3), pairs((0, 1, "sure", 0.99), (0, 2, "sure", 0.99)))
    (problem,) = cluster_problems(both, 3, "folder")
    assert "holds images of 2 classes (a, b) and 100.0% of all images" in problem["problem"]
    assert cluster_problems(duplicate_table(FRAME, pairs((0, 3, "maybe", 0.99))), 7, "folder") == []


@pytest.mark.parametrize(
    ("images", "clusters", "maybe", "said"),
    [
        (0, 0, 0, "duplicates: no copies"),
        (2, 1, 0, "duplicates: 2 images in 1 cluster of copies"),
        (0, 0, 1, "duplicates: no copies; 1 pair may show the same and is for you to compare"),
        (
            1200,
            500,
            3,
            "duplicates: 1,200 images in 500 clusters of copies; 3 pairs may show the same and are for you to compare",
        ),
    ],
)
def test_what_is_said_of_duplicates(images: int, clusters: int, maybe: int, said: str) -> None:
    assert duplicates_found(images, clusters, maybe) == said


def test_odd_ones_are_told_where_nearly_all_agree_and_only_there() -> None:
    frame = catalog(["a"] * 10, [None] * 10)
    sizes = ["24x32"] * 8 + ["30x30", None]
    (problem,) = odd_ones(frame, sizes, "size", "size")
    assert problem["image_id"] == "image-8"
    assert problem["problem"] == "odd size: 30x30, where 88.9% of the images have 24x32"
    assert odd_ones(frame, ["24x32"] * 5 + ["30x30"] * 5, "size", "size") == []
    assert odd_ones(frame, [1] * 10, "number of bands", "bands") == []
    assert odd_ones(frame, [None] * 10, "size", "size") == []


def test_thin_classes_and_empty_splits() -> None:
    frame = catalog(["many"] * 200 + ["few"] * 9, ["train"] * 208 + ["test"])
    told = [row["problem"] for row in balance_problems(frame, "/data")]
    assert told == [
        "fewer than 10 images of few (9)",
        "class 'many' has 22 times the images of 'few'; training.class_weights: balanced gives them the same weight",
        "no labelled image is in the split 'val'",
        "no image of many in test",
    ]
    assert FEW == 10
    enough = catalog(["a"] * 10 + ["b"] * 10, [None] * 20)
    assert balance_problems(enough, "/data") == []
    assert balance_problems(catalog([None, None], [None, None]), "/data") == []
    assert "only one class" in balance_problems(catalog(["a"] * 10, [None] * 10), "/data")[0]["problem"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("spiral_clockwise", "spiral_anticlockwise"),
        ("Spiral Clockwise", "Spiral Counter-Clockwise"),
        ("clockwise", "counterclockwise"),
        ("spiralCW", "spiralACW"),
        ("left-handed arm", "right-handed arm"),
        ("S", "Z"),
    ],
)
def test_names_that_a_mirror_exchanges(one: str, other: str) -> None:
    assert chiral_classes([other, "elliptical", one]) == [tuple(sorted((one, other)))]
    (problem,) = chirality_problems([one, other], "/data")
    assert f"augment.mirror_swaps: [[{', '.join(sorted((one, other)))}]]" in problem["problem"]


@pytest.mark.parametrize("names", [["bright", "light"], ["star", "galaxy"], ["left", "leftover"], ["cwa", "acwa"], []])
def test_names_that_a_mirror_leaves_alone(names: list[str]) -> None:
    assert chiral_classes(names) == []


def test_many_thin_classes_share_a_line() -> None:
    labels: list[str | None] = [f"class-{number:02d}" for number in range(12)]
    (problem,) = balance_problems(catalog(labels, [None] * 12), "/data")
    assert problem["problem"].startswith("fewer than 10 images of class-00 (1), class-01 (1), ")
    assert problem["problem"].endswith("class-07 (1) and 4 more")


def test_sets_of_bands_of_which_none_is_usual() -> None:
    (problem,) = mixed_bands(["g r i"] * 5 + ["g r"] * 4 + [None], "/data")
    assert problem["problem"].startswith("2 sets of bands: g r i (5), g r (4); a pack has one")
    assert mixed_bands(["g r i"] * 9 + ["g r"], "/data") == []
    assert mixed_bands(["grey", "red green blue"], "/data") == []  # these stand for each other
    assert mixed_bands([None], "/data") == []
