"""Folders above the images: which are splits, which are classes, what is said of it, and how to say otherwise."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from helpers.catalogs import rows, touch
from helpers.commands import done, refused
from helpers.logged import Logged
from helpers.make_data import class_folders, write_table
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.read import Source, read_source
from skyclass.data.split_names import split_of

SPELLINGS = {
    "train": "Train TRAIN training training_data train-data train_images train images training_set trainset "
    "TrainingSet train_split images_training_rev1 train_224x224 the.train.set train_v2",
    "val": "val valid Validation VALIDATION validation_data val_images dev dev-set validationset valset valid_imgs",
    "test": "test TEST testing Test_Data test_images testset test-set images_test_rev1 TestImages test_jpg",
}


def folders(root: Path, *names: str) -> Path:
    """Two empty files in each of the folders, which nothing here opens."""
    return touch(root, *(f"{name}/{number}.png" for name in names for number in (1, 2)))


def places(source: Source) -> set[tuple[object, ...]]:
    """(folder, label, split) of all images."""
    return {
        (Path(file).parent.relative_to(source.path).as_posix(), *rest)
        for file, *rest in rows(source, "file", "label", "split")
    }


@pytest.mark.parametrize("split", SPELLINGS)
def test_spellings_of_splits(split: str) -> None:
    for name in SPELLINGS[split].replace("train images", "train~images").split():
        assert split_of(name.replace("~", " ")) == split, name


@pytest.mark.parametrize("name", ["trained", "latest", "strain", "vale", "contest", "train_and_test", "ring", "", "1"])
def test_other_words_are_no_splits(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("training_data", "test_data", "test"),
        ("training", "validation", "val"),
        ("training", "testing", "test"),
        ("train_images", "val images", "val"),
        ("training_set", "test-set", "test"),
        ("Train", "TEST", "test"),
        ("train", "valid", "val"),
        ("train", "dev", "val"),
    ],
)
def test_split_folders_are_no_classes(tmp_path: Path, logged: Logged, train: str, other: str, split: str) -> None:
    folders(tmp_path, f"{train}/ring", f"{train}/blob", f"{other}/ring", f"{other}/blob")
    assert places(read_source(tmp_path)) == {
        (f"{folder}/{label}", label, of)
        for folder, of in ((train, "train"), (other, split))
        for label in ("ring", "blob")
    }
    plain = {train.lower(), other.lower()} <= {"train", "training", "validation", "testing", "test", "valid", "dev"}
    said = logged()
    assert (f"{train} (train)" in said) is not plain
    assert (f"{other} ({split})" in said) is not plain


def test_folders_can_be_taken_for_classes_all_the_same(tmp_path: Path) -> None:
    folders(tmp_path, "train/ring", "test/ring")
    source = read_source(tmp_path, SourceOptions(folders="{label}"))
    assert places(source) == {("train/ring", "train", None), ("test/ring", "test", None)}


def test_a_class_called_test_inside_a_split_is_a_class(tmp_path: Path) -> None:
    folders(tmp_path, "train/test", "train/ring", "val/test")
    assert places(read_source(tmp_path)) == {
        ("train/test", "test", "train"),
        ("train/ring", "ring", "train"),
        ("val/test", "test", "val"),
    }


def test_one_folder_called_after_a_split_among_classes_is_a_class_which_is_said(tmp_path: Path, logged: Logged) -> None:
    folders(tmp_path, "car", "plane", "train")
    assert places(read_source(tmp_path)) == {(name, name, None) for name in ("car", "plane", "train")}
    assert "the folder train is taken for a class" in logged()
    otherwise = read_source(tmp_path, SourceOptions(split_names={"train": "train"}))
    assert places(otherwise) == {(name, None, None) for name in ("car", "plane", "train")}


def test_a_folder_beside_the_splits_has_no_label_which_is_said(tmp_path: Path, logged: Logged) -> None:
    folders(tmp_path, "train/ring", "train/blob", "holdout/ring")
    assert ("holdout/ring", None, None) in places(read_source(tmp_path))
    assert "holdout beside the splits: called after no split" in logged()
    named = read_source(tmp_path, SourceOptions(split_names={"holdout": "test"}))
    assert ("holdout/ring", "ring", "test") in places(named)


def test_images_of_a_test_set_without_class_folders_have_no_label(tmp_path: Path) -> None:
    folders(tmp_path, "train/ring", "train/blob", "test")
    assert ("test", None, None) in places(read_source(tmp_path))


def test_splits_below_the_classes(tmp_path: Path, logged: Logged) -> None:
    folders(tmp_path, "ring/train", "ring/test", "blob/train", "blob/test")
    assert places(read_source(tmp_path)) == {
        (f"{label}/{split}", label, split) for label in ("ring", "blob") for split in ("train", "test")
    }
    assert "test (test), train (train) are taken for splits of the classes above them" in logged()


def test_a_source_given_one_folder_too_high(tmp_path: Path) -> None:
    folders(tmp_path, "set/train/ring", "set/train/blob", "set/test/ring")
    assert places(read_source(tmp_path)) == {
        ("set/train/ring", "ring", "train"),
        ("set/train/blob", "blob", "train"),
        ("set/test/ring", "ring", "test"),
    }


def test_the_same_folders_in_all_are_said_with_both_ways_out(tmp_path: Path, logged: Logged) -> None:
    folders(tmp_path, "night1/ring", "night1/blob", "night2/ring", "night2/blob")
    assert {label for _, label, _ in places(read_source(tmp_path))} == {"night1", "night2"}
    said = logged()
    assert "night1, night2 are taken for classes, though each holds the folders blob, ring" in said
    assert "--folders '*/{label}'" in said
    assert "--split-names night1=train,night2=test" in said
    labelled = read_source(tmp_path, SourceOptions(folders="*/{label}"))
    assert {(label, split) for _, label, split in places(labelled)} == {("ring", None), ("blob", None)}
    named = read_source(tmp_path, SourceOptions(split_names={"night1": "train", "night2": "test"}))
    assert ("night2/ring", "ring", "test") in places(named)


def test_folders_of_groups(tmp_path: Path) -> None:
    folders(tmp_path, "field1/ring", "field2/ring")
    catalog = read_source(tmp_path, SourceOptions(folders="{group}/{label}")).catalog
    assert set(zip(catalog["group"], catalog["label"], strict=True)) == {("field1", "ring"), ("field2", "ring")}


@pytest.mark.parametrize("layout", ["label", "{class}", "{label}/{label}", "*", "{split}{label}"])
def test_a_layout_that_is_not_understood(tmp_path: Path, layout: str) -> None:
    folders(tmp_path, "train/ring")
    with pytest.raises(SkyclassError, match=r"--folders: the layout .* is not understood"):
        read_source(tmp_path, SourceOptions(folders=layout))


def test_names_that_are_no_splits_or_no_folders(tmp_path: Path) -> None:
    folders(tmp_path, "train/ring", "night/ring")
    with pytest.raises(SkyclassError, match=r"'night' is called after no split.*--split-names night=test"):
        read_source(tmp_path, SourceOptions(folders="{split}/{label}"))
    with pytest.raises(SkyclassError, match=r"no folder is called 'nigth'.*night"):
        read_source(tmp_path, SourceOptions(split_names={"nigth": "test"}))


def test_the_options_are_refused_where_they_say_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    path = write_table(tmp_path / "t.csv", pd.DataFrame({"id": [1]}))
    with pytest.raises(SkyclassError, match="--folders is for folders of images, and this is a file"):
        read_source(path, SourceOptions(folders="{label}"))
    with pytest.raises(SkyclassError, match="--split-names is for"):
        read_source(tmp_path / "1.png", SourceOptions(split_names={"a": "test"}))


def test_values_of_a_split_column(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    frame = pd.DataFrame({"id": [1, 2, 3], "split": ["Training Set", "validation_data", "holdout"]})
    path = write_table(tmp_path / "t.csv", frame)
    assert rows(read_source(path), "split") == [("train",), ("val",), (None,)]
    named = read_source(path, SourceOptions(split_names={"holdout": "test"}))
    assert rows(named, "split") == [("train",), ("val",), ("test",)]


def test_the_command_takes_both_options(tmp_path: Path) -> None:
    for night in ("night1", "night2"):
        class_folders(tmp_path / "images" / night, ("blob", "ring"), per_class=4)
    words = ("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates")
    done(*words, "--split-names", "night1=train,night2=test")
    catalog = Pack.open(tmp_path / "pack").catalog
    assert set(catalog["label"]) == {"blob", "ring"}
    assert (catalog["split"] == "test").sum() == 8
    done(*words, "--overwrite", "--folders", "*/{label}")
    assert set(Pack.open(tmp_path / "pack").catalog["label"]) == {"blob", "ring"}
    assert "'night1=new' names no splits" in refused(*words, "--overwrite", "--split-names", "night1=new")
