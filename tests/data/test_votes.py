"""Votes become labels: the largest fraction, thresholds, kept classes, expressions, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.logged import Logged
from helpers.make_data import vote_table
from skyclass.core.errors import SkyclassError
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.read import read_source
from skyclass.data.votes import label_by_votes, parse_votes
from skyclass.recipes.data_settings import VotesSettings

FRAME = pd.DataFrame(
    {
        "image_id": list("abcdef"),
        "Class1.1": [0.9, 0.3, 0.1, 0.4, np.nan, 0.0],
        "Class1.2": [0.1, 0.6, 0.2, 0.4, np.nan, 0.2],
        "Class6.2": [0.0, 0.1, 0.7, 0.2, np.nan, 1.0],
        "smooth-or-featured fraction": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
    }
)


def labels(*settings: str, frame: pd.DataFrame = FRAME) -> list[str | None]:
    """Labels by the largest fraction of all questions, unless the settings name one."""
    return label_by_votes(frame, parse_votes(("question=all", *settings)), "votes.csv")["label"].tolist()


def test_the_largest_fraction_and_the_first_of_equals() -> None:
    assert labels() == ["Class1.1", "Class1.2", "Class6.2", "Class1.1", None, "Class6.2"]


def test_columns_by_name_and_pattern() -> None:
    assert labels("columns=[Class1.*]") == ["Class1.1", "Class1.2", "Class1.2", "Class1.1", None, "Class1.2"]
    assert labels("columns=[Class6.2, Class1.2]")[:4] == ["Class1.2", "Class1.2", "Class6.2", "Class1.2"]


def test_threshold() -> None:
    assert labels("threshold=0.65") == ["Class1.1", None, "Class6.2", None, None, "Class6.2"]
    assert labels("threshold=0.6")[1] == "Class1.2"


def test_keep_the_most_frequent_or_the_named() -> None:
    assert labels("keep=1") == ["Class1.1", None, None, "Class1.1", None, None]  # as frequent as Class6.2: by name
    assert labels("keep=2") == ["Class1.1", None, "Class6.2", "Class1.1", None, "Class6.2"]
    assert labels("keep=[Class1.2]") == [None, "Class1.2", None, None, None, None]


def test_rename() -> None:
    settings = VotesSettings(question="all", rename={"Class1.1": "smooth", "Class1.2": "disk"}, keep=("smooth", "disk"))
    named = label_by_votes(FRAME, settings, "here")
    assert named["label"].tolist() == ["smooth", "disk", None, "smooth", None, None]


def test_two_columns_may_share_a_class() -> None:
    settings = VotesSettings(question="all", rename={"Class1.1": "galaxy", "Class1.2": "galaxy", "Class6.2": "odd"})
    assert label_by_votes(FRAME, settings, "here")["label"].tolist()[:3] == ["galaxy", "galaxy", "odd"]


def test_the_published_two_class_rule() -> None:
    """The fourth system keeps the two most frequent columns: Class6.2 and Class1.2."""
    assert set(labels("keep=[Class6.2, Class1.2]")) == {"Class6.2", "Class1.2", None}


def test_expressions_against_values_worked_out_by_hand(logged: Logged) -> None:
    settings = VotesSettings(
        classes={
            "smooth": "Class1.1 >= 0.4 and not Class6.2 > 0.1",
            "disk": "0.1 < Class1.2 <= 0.6 and (Class1.1 + Class1.2) / 2 > 0.2",
            "odd": "smooth-or-featured fraction == 1.0 or Class6.2 - 0.5 >= 1 * Class1.2 - 0.1",
        }
    )
    found = label_by_votes(FRAME, settings, "here")
    assert found["label"].tolist() == ["smooth", "disk", "odd", "disk", None, "odd"]
    pd.testing.assert_frame_equal(found.drop(columns="label"), FRAME)
    logged()
    both = VotesSettings(classes={"a": "Class1.1 > 0.2", "b": "Class1.2 > 0.3"})
    assert label_by_votes(FRAME, both, "here")["label"].tolist() == ["a", None, None, None, None, None]
    assert "2 of several classes" in logged()


def test_an_empty_vote_is_no_match_even_of_its_opposite() -> None:
    settings = VotesSettings(classes={"not_smooth": "not Class1.1 > 0.5"})
    assert label_by_votes(FRAME, settings, "here")["label"].tolist()[4] is None


def test_classes_reach_the_recipe_from_the_command_line() -> None:
    recipe = parse_votes(["classes={smooth: Class1.1 > 0.8, disk: Class1.2 > 0.5}", "threshold=0.1"])
    assert recipe.classes == {"smooth": "Class1.1 > 0.8", "disk": "Class1.2 > 0.5"}
    assert labels("classes.round=Class1.1 > 0.8")[:2] == ["round", None]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("columns=[Class9.*]",), "no column of votes 'Class9"),
        (("columns=[image_id]",), "'image_id' is not one of numbers"),
        (("keep=[Class1.3]",), "keep: no image is voted 'Class1.3'; did you mean"),
        (("rename={Class1.4: x}",), "rename: no column of votes 'Class1.4'"),
        (("threshold=2",), "threshold"),
        (("colums=[Class1.1]",), "did you mean 'columns'"),
        (("nonsense",), "KEY=VALUE"),
        (("classes.a=Class1.1 > 0.5", "rename={Class1.1: x}"), "rename is for labels by the largest fraction"),
        (("classes.a=Class1.9 > 0.5",), "class a: no column 'Class1.9'"),
        (("classes.a=Class1.1 + 0.5",), "compares nothing"),
        (("classes.a=1 > 0",), "compares nothing"),
        (("classes.a=image_id > 0",), "'image_id' is not one of numbers"),
        *(
            ((f"classes.a={text}",), "is not understood|no column")
            for text in (
                "__import__('os').system('true')",
                "Class1.1.__class__ > 0",
                "Class1.1 ** 9 ** 9 ** 9 > 0",
                "Class1.1 > 'a'",
                "[1 for _ in 1] > 0",
                "(Class1.1 if Class1.2 else Class6.2) > 0",
                "Class1.1 > 0.5 and Class1.2",
                "not Class1.1",
                "(Class1.1 > 0.1) + 1 > 0",
                "Class1.1 >",
                "Class1.1 in (1, 2)",
                "Class1.1[0] > 0",
                "column_0 > 0",
                "Class1.1 > 0.5; 1",
                "Class1.1 > True",
                "Class1.1 > 1j",
                "('a' * 9) > Class1.1",
                "(" * 400 + "Class1.1" + ")" * 400 + " > 0",
                "Class1.1 > 0 and " * 100 + "Class1.1 > 0",
                "Class1.1 > " + "9" * 500,
            )
        ),
    ],
)
def test_rules_that_are_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(SkyclassError, match=message) as refusal:
        labels(*settings)
    assert "\n" not in str(refusal.value)
    assert refusal.value.fix


words = st.sampled_from(
    ["Class1.1", "Class6.2", "0.5", "1", "(", ")", "and", "or", "not", "<", ">=", "+", "/", ".", "x"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(words, max_size=12).map(" ".join) | st.text(max_size=30))
@example("Class1.1 > 0.5")
@example("\x00")
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    recipe = VotesSettings(classes={"a": text})
    try:
        found = label_by_votes(FRAME, recipe, "here")["label"]
    except SkyclassError as refusal:
        found = None
        said = str(refusal)
    assert "\n" not in said if found is None else set(found) <= {"a", None}


def test_galaxy_zoo_works_by_itself(tmp_path: Path, logged: Logged) -> None:
    table = vote_table(tmp_path, {"Class1": ["Class1.1", "Class1.2"], "Class6": ["Class6.1", "Class6.2"]}, count=9)
    table = table.rename(tmp_path / "training_solutions_rev1.csv")
    (tmp_path / "images").rename(tmp_path / "images_training_rev1")
    votes = pd.read_csv(table)
    source = read_source(table, SourceOptions(votes=("question=all",)))
    columns = ["Class1.1", "Class1.2", "Class6.1", "Class6.2"]
    assert source.catalog["label"].tolist() == votes[columns].idxmax(axis=1).tolist()
    assert source.catalog["image_id"].tolist() == votes["GalaxyID"].astype(str).tolist()
    np.testing.assert_array_equal(source.catalog[columns], votes[columns])
    assert source.catalog["file"][0] == str(tmp_path / "images_training_rev1/100000.jpg")
    logged()
    assert read_source(table).catalog["label"].isna().all()
    said = logged()
    assert "no image gets a label: the columns of votes answer 2 questions of a decision tree" in said
    assert "question=1; they are 1, 6" in said
    assert "question=all" in said
    ruled = read_source(table, SourceOptions(votes=("classes.edge=Class1.2 > 0.5",))).catalog
    assert ruled["label"].notna().tolist() == (votes["Class1.2"] > 0.5).tolist()


DECALS = pd.DataFrame(
    {
        "smooth-or-featured_smooth_fraction": [0.8, 0.2, 0.1],
        "smooth-or-featured_featured-or-disk_fraction": [0.1, 0.7, 0.1],
        "smooth-or-featured_artifact_fraction": [0.1, 0.1, 0.8],
        "smooth-or-featured_smooth_debiased": [0.0, 1.0, 0.0],
        "disk-edge-on_yes_fraction": [0.0, 0.1, 0.0],
        "disk-edge-on_no_fraction": [1.0, 0.9, 1.0],
        "merging_none_fraction": [0.99, 0.99, 0.99],
        "merging_major-disturbance_fraction": [0.01, 0.01, 0.01],
    }
)
HART = pd.DataFrame(
    {
        "t01_smooth_or_features_a01_smooth_count": [30, 2],
        "t01_smooth_or_features_a01_smooth_fraction": [0.9, 0.1],
        "t01_smooth_or_features_a02_features_or_disk_fraction": [0.1, 0.9],
        "t01_smooth_or_features_a01_smooth_debiased": [0.0, 1.0],
        "t02_edgeon_a04_yes_fraction": [0.1, 0.0],
        "t02_edgeon_a05_no_fraction": [0.9, 1.0],
    }
)


@pytest.mark.parametrize(
    ("frame", "question", "expected"),
    [
        (FRAME, "1", ["Class1.1", "Class1.2", "Class1.2", "Class1.1", None, "Class1.2"]),
        (FRAME, "Class6", ["Class6.2"] * 4 + [None, "Class6.2"]),
        (DECALS, "smooth-or-featured", ["smooth", "featured-or-disk", "artifact"]),
        (DECALS, "merging", ["none"] * 3),
        (HART, "t01_smooth_or_features", ["smooth", "features_or_disk"]),
        (HART, "t02", ["no", "no"]),
        (HART, "1", ["smooth", "features_or_disk"]),
    ],
)
def test_the_answers_of_one_question(frame: pd.DataFrame, question: str, expected: list[str | None]) -> None:
    assert label_by_votes(frame, parse_votes([f"question={question}"]), "here")["label"].tolist() == expected


@pytest.mark.parametrize("frame", [FRAME, DECALS, HART])
@pytest.mark.parametrize("settings", [(), ("threshold=0.5",), ("keep=2",)])
def test_no_class_is_guessed_over_the_questions_of_a_tree(frame: pd.DataFrame, settings: tuple[str, ...]) -> None:
    with pytest.raises(SkyclassError, match="questions of a decision tree") as refusal:
        label_by_votes(frame, parse_votes(settings), "here")
    assert refusal.value.fix
    assert all(way in refusal.value.fix for way in ("question=", "classes.NAME=", "question=all"))


def test_the_classes_to_keep_name_their_question() -> None:
    asked = parse_votes(["keep=[Class1.1, Class1.2]"])
    expected = ["Class1.1", "Class1.2", "Class1.2", "Class1.1", None, "Class1.2"]
    assert label_by_votes(FRAME, asked, "here")["label"].tolist() == expected
    kept = label_by_votes(DECALS, parse_votes(["keep=[smooth, artifact]"]), "here")["label"]
    assert kept.tolist() == ["smooth", None, "artifact"]
    with pytest.raises(SkyclassError, match="decision tree"):
        label_by_votes(FRAME, parse_votes(["keep=[Class6.2, Class1.2]"]), "here")


def test_columns_of_one_question_are_no_tree() -> None:
    asked = parse_votes(["columns=[smooth-or-featured_*_fraction]"])
    assert label_by_votes(DECALS, asked, "here")["label"].tolist() == ["smooth", "featured-or-disk", "artifact"]


def test_a_question_that_is_not_asked_is_refused() -> None:
    with pytest.raises(SkyclassError, match=r"no one question of the votes is called '7'; the questions are 1, 6"):
        label_by_votes(FRAME, parse_votes(["question=7"]), "here")


def test_fractions_of_anything_else_are_no_votes(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    frame = pd.DataFrame({"id": [1], "gas_hot_fraction": [0.9], "gas_cold_fraction": [0.1]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert read_source(tmp_path / "t.csv").catalog["label"].tolist() == [None]


def test_votes_of_a_source_without_any_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    with pytest.raises(SkyclassError, match="no column of votes"):
        read_source(tmp_path, SourceOptions(votes=("keep=2",)))


def test_a_malformed_table_of_votes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    (tmp_path / "votes.csv").write_text("GalaxyID,Class1.1,Class1.2\n1,much,0.2\n")
    with pytest.raises(SkyclassError, match=r"votes\.csv: column 'Class1\.1' is not one of numbers"):
        read_source(tmp_path / "votes.csv")
