"""Cross-validation: parts that keep groups and duplicates whole, that stay, and that a training goes by."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.logged import Logged
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.run import Run, predictions_of
from skyclass.commands.evaluate import evaluate
from skyclass.commands.explain import explain
from skyclass.commands.report import report
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack, PackChunk, write_pack
from skyclass.data.packs.split import assign_splits
from skyclass.data.packs.training_rows import fold_splits, training_rows
from skyclass.evaluation.label_errors import held_out
from skyclass.recipes.data_settings import DataSettings, VotesSettings
from skyclass.recipes.recipe import parse_recipe

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

VOTED = ("bar", "blob", "ring")
RENAMED = {"Class1.0": "long", "Class1.1": "a blob", "Class1.2": "round"}


def catalog(n: int, **columns: object) -> pd.DataFrame:
    """n images of two classes, without any split."""
    ids = [f"image-{i}" for i in range(n)]
    return pd.DataFrame({"image_id": ids, "label": [("a", "b")[i % 2] for i in range(n)], **columns})


def with_columns(pack: Pack, folder: Path, columns: dict[str, object], **source: object) -> Pack:
    """The pack with other columns, and with what `source` says of its splits."""
    chunks = [PackChunk(np.asarray(pack.images), pack.catalog.assign(**columns))]
    return write_pack(chunks, folder, pack.pixels, classes=None, source={"kind": "toys", **source})


def voted(pack: Pack, folder: Path, columns: dict[str, object], **source: object) -> Pack:
    """The pack with votes for a bar, a blob or a ring that agree with its labels, and with other columns."""
    votes = {f"Class1.{i}": 0.2 + 0.6 * (pack.catalog["label"] == name) for i, name in enumerate(VOTED)}
    return with_columns(pack, folder, {**votes, **columns}, **source)


# Parts


@pytest.mark.parametrize("folds", [3, 5, 7])
def test_every_image_is_tested_once_and_validated_once(folds: int) -> None:
    frame = catalog(2000)
    every = np.array([fold_splits(frame, folds, fold, 0) for fold in range(folds)])  # (K, N)
    assert (np.sum(every == "test", axis=0) == 1).all()
    assert (np.sum(every == "val", axis=0) == 1).all()
    assert (np.sum(every == "train", axis=0) == folds - 2).all()
    for fold in range(folds):  # the validation images of a fold are the test images of the next
        np.testing.assert_array_equal(every[fold] == "val", every[(fold + 1) % folds] == "test")


def test_parts_hold_each_class_in_the_same_proportion() -> None:
    frame = catalog(4000, group=None)
    frame["duplicates"] = [str(i // 4) if i % 2 else None for i in range(4000)]  # of class b: pairs
    for fold in range(5):
        tested = frame["label"][fold_splits(frame, 5, fold, 0) == "test"].value_counts()
        assert abs(tested["a"] - 400) < 4 * np.sqrt(2000 * 0.2 * 0.8)
        assert abs(tested["b"] - 400) < 4 * 2 * np.sqrt(1000 * 0.2 * 0.8)


def test_another_seed_gives_other_parts() -> None:
    frame = catalog(100)
    first, second = (fold_splits(frame, 5, 0, seed) for seed in (0, 1))
    assert (first != second).any()
    np.testing.assert_array_equal(first, fold_splits(frame, 5, 0, 0))


def test_unlabelled_images_are_in_no_split() -> None:
    frame = catalog(20)
    frame.loc[[3, 4], "label"] = None
    splits = fold_splits(frame, 3, 0, 0)
    assert splits[[3, 4]].tolist() == [None, None]
    assert pd.notna(np.delete(splits, [3, 4])).all()


@given(
    links=st.lists(st.tuples(st.sampled_from([None, *"ABCD"]), st.sampled_from([None, 0, 1, 2, 3])), min_size=1),
    folds=st.integers(3, 6),
    seed=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_images_that_share_a_group_or_a_cluster_are_never_parted(
    links: list[tuple[str | None, int | None]], folds: int, seed: int
) -> None:
    groups, clusters = zip(*links, strict=True)
    frame = catalog(len(links), group=pd.Series(groups, dtype=object), duplicates=pd.Series(clusters, dtype=object))
    for fold in range(folds):
        splits = fold_splits(frame, folds, fold, seed)
        for column in ("group", "duplicates"):
            for value in frame[column].dropna().unique():
                assert len(set(splits[(frame[column] == value).to_numpy()])) == 1


def test_a_chain_of_groups_and_clusters_stays_whole() -> None:
    groups = [None, "A", "A", "B", "B", None]
    clusters = [1.0, 1.0, np.nan, np.nan, 2.0, 2.0]
    parts = set()
    for seed in range(30):
        splits = fold_splits(catalog(6, group=groups, duplicates=clusters), 3, 0, seed)
        assert len(set(splits[:3])) == len(set(splits[3:])) == 1
        parts.add((splits[0], splits[5]))
    assert len(parts) == 9  # and the two chains are independent


def test_adding_images_moves_no_others() -> None:
    rng = np.random.default_rng(0)
    frame = catalog(500, group=[f"g{i // 3}" if i % 5 else None for i in range(500)])
    for fold in range(4):
        before = dict(zip(frame["image_id"][:300], fold_splits(frame[:300], 4, fold, 7), strict=True))
        shuffled = frame.iloc[rng.permutation(500)].reset_index(drop=True)
        after = dict(zip(shuffled["image_id"], fold_splits(shuffled, 4, fold, 7), strict=True))
        assert all(after[name] == split for name, split in before.items())


def test_numbers_of_clusters_play_no_part() -> None:
    """Clusters are numbered anew whenever a source is packed."""
    clusters = pd.Series([0, 0, None, 1, 1, None, 2, 2], dtype=object)
    renumbered = clusters.map({0: 5, 1: 0, 2: 9})
    for fold in range(3):
        first = fold_splits(catalog(8, duplicates=clusters), 3, fold, 0)
        np.testing.assert_array_equal(first, fold_splits(catalog(8, duplicates=renumbered), 3, fold, 0))


# In a training


def test_folds_take_the_place_of_the_packs_splits(tmp_path: Path, logged: Logged) -> None:
    pack = toy_pack(tmp_path / "pack", splits={"train": 12})  # no validation split: without folds no training
    tested = []
    for fold in range(3):
        rows = training_rows(pack, DataSettings(folds=3, fold=fold, exclude=("ring",)))
        assert f"fold {fold} of 3" in logged()
        assert rows.classes == ["bar", "blob"]
        used = np.concatenate([rows.train, rows.val, rows.test])
        assert sorted(used) == np.flatnonzero(pack.catalog["label"] != "ring").tolist()
        for name in ("train", "val", "test"):
            assert set(rows.catalog["split"].iloc[getattr(rows, name)]) == {name}
        tested += rows.test.tolist()
    assert sorted(tested) == np.flatnonzero(pack.catalog["label"] != "ring").tolist()


def test_the_seed_of_the_pack_draws_the_parts(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack")
    settings = DataSettings(folds=3)
    seeded = Pack(pack.path, {**pack.meta, "source": {"seed": 4}})
    expected = np.flatnonzero(fold_splits(pack.catalog, 3, 0, 4) == "test")
    np.testing.assert_array_equal(training_rows(seeded, settings).test, expected)
    assert training_rows(pack, settings).test.tolist() != expected.tolist()


def test_two_folds_would_leave_nothing_to_train_on() -> None:
    with pytest.raises(SkyclassError, match=r"data\.folds"):
        parse_recipe({"data": {"folds": 2}})


def test_a_class_of_one_group_cannot_be_cross_validated(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", splits={"train": 8})
    group = pack.catalog["label"].where(pack.catalog["label"] == "ring", None)
    grouped = with_columns(pack, tmp_path / "grouped", {"group": group})
    fold = next(k for k in range(3) if "train" not in fold_splits(grouped.catalog, 3, k, 0)[group.notna()])
    recipe = write_recipe(tmp_path, toy_recipe(data={"folds": 3, "fold": fold}))
    with pytest.raises(SkyclassError, match=r"class 'ring' has no training image"):
        train(recipe, grouped.path, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_runs_of_all_folds_predict_every_image_held_out(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", size=(8, 10))
    recipe = write_recipe(tmp_path, toy_recipe(data={"folds": 3}, training={"epochs": 1}))
    runs = [tmp_path / f"fold-{fold}" for fold in range(3)]
    for fold, run in enumerate(runs):
        train(recipe, pack.path, out=run, overrides=[f"data.fold={fold}"], device="cpu")
    frame, classes, n_in_training = held_out({str(run): read_predictions(predictions_of(run)) for run in runs})
    assert (classes, n_in_training) == (["bar", "blob", "ring"], 0)
    frame = frame.set_index("image_id").loc[pack.catalog["image_id"]]
    assert frame["label"].tolist() == pack.catalog["label"].tolist()
    assert len(frame) == len(pack.catalog)


def test_a_resumed_run_goes_on_with_its_fold(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", size=(8, 10))
    recipe = write_recipe(tmp_path, toy_recipe(data={"folds": 3, "fold": 1}, training={"epochs": 1}))
    run = Run(train(recipe, pack.path, out=tmp_path / "run", device="cpu"))
    before = pd.read_parquet(run.predictions_file)
    rows = training_rows(pack, DataSettings(folds=3, fold=1))
    assert before["image_id"].tolist() == pack.catalog["image_id"].iloc[np.concatenate([rows.val, rows.test])].tolist()
    assert before["split"].tolist() == ["val"] * len(rows.val) + ["test"] * len(rows.test)
    run.predictions_file.unlink()  # as if stopped before the end
    train(resume=run.path, device="cpu")
    pd.testing.assert_frame_equal(pd.read_parquet(run.predictions_file), before)


# Labels by votes


def test_votes_label_a_pack_that_has_no_labels(tmp_path: Path) -> None:
    plain = toy_pack(tmp_path / "plain", splits={"train": 30})
    columns = {"label": None, "split": None}
    pack = voted(plain, tmp_path / "pack", columns, splits=[0.5, 0.25, 0.25], seed=3)
    with pytest.raises(SkyclassError, match="0 classes"):
        training_rows(pack, DataSettings())
    rows = training_rows(pack, DataSettings(votes=VotesSettings(rename=RENAMED)))
    assert rows.classes == ["a blob", "long", "round"]
    names = plain.catalog["label"].map(dict(zip(VOTED, RENAMED.values(), strict=True)))
    assert [rows.classes[index] for index in rows.labels] == rows.catalog["label"].tolist() == names.tolist()
    expected = assign_splits(plain.catalog.assign(split=None), (0.5, 0.25, 0.25), 3)["split"]
    assert rows.catalog["split"].tolist() == expected.tolist()
    for name in ("train", "val", "test"):
        assert getattr(rows, name).tolist() == expected.index[expected == name].tolist()


def test_images_that_have_a_split_keep_it_when_votes_label_others(tmp_path: Path) -> None:
    plain = toy_pack(tmp_path / "plain")
    known = plain.catalog["label"] != "ring"
    columns = {"label": plain.catalog["label"].where(known, None), "split": plain.catalog["split"].where(known, None)}
    pack = voted(plain, tmp_path / "pack", columns)
    rows = training_rows(pack, DataSettings(votes=VotesSettings()))
    assert rows.classes == ["Class1.0", "Class1.1", "Class1.2"]
    assert rows.catalog["split"][known].tolist() == plain.catalog["split"][known].tolist()
    assert set(rows.catalog["split"][~known]) == {"train", "val", "test"}
    kept = training_rows(pack, DataSettings(votes=VotesSettings(keep=("Class1.0", "Class1.1"))))
    assert (kept.labels[~known] == -1).all()
    assert kept.catalog["split"][~known].isna().all()


def test_folds_and_exclusions_go_by_the_labels_of_the_votes(tmp_path: Path) -> None:
    pack = voted(toy_pack(tmp_path / "plain"), tmp_path / "pack", {"label": None, "split": None}, seed=5)
    data = DataSettings(votes=VotesSettings(rename=RENAMED), folds=3, fold=2, exclude=("round",))
    rows = training_rows(pack, data)
    assert rows.classes == ["a blob", "long"]
    expected = fold_splits(rows.catalog, 3, 2, 5)
    assert rows.test.tolist() == np.flatnonzero((expected == "test") & (rows.labels >= 0)).tolist()


def test_votes_that_give_no_second_class_are_refused(tmp_path: Path) -> None:
    pack = voted(toy_pack(tmp_path / "plain"), tmp_path / "pack", {})
    with pytest.raises(SkyclassError, match=r"1 class; a classifier needs two at least; change data.votes"):
        training_rows(pack, DataSettings(votes=VotesSettings(keep=1)))


def test_predictions_explanations_and_report_show_the_labels_and_splits_of_the_training(tmp_path: Path) -> None:
    pack = voted(toy_pack(tmp_path / "plain"), tmp_path / "pack", {})
    data = {"votes": {"rename": RENAMED}, "folds": 3, "fold": 1}
    recipe = write_recipe(tmp_path, toy_recipe(data=data, training={"epochs": 1}))
    run = Run(train(recipe, pack.path, out=tmp_path / "run", device="cpu"))
    catalog = training_rows(pack, run.recipe().data).catalog.set_index("image_id")
    shown = pd.read_parquet(run.predictions_file).set_index("image_id")
    assert set(shown["split"]) == {"val", "test"}
    for name in ("label", "split"):
        assert shown[name].tolist() == catalog.loc[shown.index, name].tolist()
    explain(run.path, per_class=1, device="cpu")
    explained = pd.read_csv(run.explanations / "explanations.csv")
    assert sorted(explained["label"]) == ["a blob", "long", "round"]
    assert set(catalog.loc[explained["image_id"], "split"]) == {"test"}
    evaluate(run.path)
    page = report(run.path).read_text(encoding="utf-8")
    for name in RENAMED.values():
        counts = [(catalog["split"][catalog["label"] == name] == split).sum() for split in ("train", "val", "test")]
        cells = r"\s*".join(f"<td[^>]*>{count}</td>" for count in counts)
        assert re.search(rf"{name}</td>\s*{cells}", page), f"no row of counts for {name}"
