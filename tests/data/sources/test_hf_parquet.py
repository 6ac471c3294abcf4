"""Parquet files that hold images: one, or the shards of a data set; the image column itself is never read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from helpers.logged import Logged
from helpers.make_data import parquet_images, random_pixels, write_table
from skyclass.core.errors import SkyclassError
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.array_stacks import split_named
from skyclass.data.sources.read import Source, read_source
from skyclass.images.formats.read import read_image

SIZE = (6, 8)


def columns(source: Source, *names: str) -> list[tuple[Any, ...]]:
    return list(source.catalog[list(names)].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("name", "split"),
    [("train-00000-of-00002", "train"), ("my_valid", "val"), ("0001", None), ("train_test", None), ("trainee", None)],
)
def test_splits_named_in_words(name: str, split: str | None) -> None:
    assert split_named(Path(f"{name}.parquet")) == split


@pytest.mark.parametrize("struct", [True, False])
def test_images_in_a_parquet_file(tmp_path: Path, struct: bool) -> None:
    path = parquet_images(tmp_path / "t.parquet", [1, 0, -1], ["elliptical", "spiral"], SIZE, struct)
    source = read_source(path)
    assert source.kind == "parquet images"
    assert columns(source, "image_id", "file", "label") == [
        ("0", f"{path}::image[0]", "spiral"),
        ("1", f"{path}::image[1]", "elliptical"),
        ("2", f"{path}::image[2]", None),
    ]
    np.testing.assert_array_equal(read_image(source.catalog["file"][2]).pixels, random_pixels(2, SIZE))


def test_shards_of_a_data_set(tmp_path: Path) -> None:
    data = tmp_path / "set" / "data"
    parquet_images(data / "train-00000-of-00002.parquet", [1, 0], ["a", "b"])
    parquet_images(data / "train-00001-of-00002.parquet", [1], ["a", "b"])
    parquet_images(data / "validation-00000-of-00001.parquet", [0], ["a", "b"])
    (tmp_path / "set" / "README.md").write_text("a data set")
    source = read_source(tmp_path / "set")
    assert columns(source, "image_id", "label", "split") == [
        ("train-00000-of-00002/0", "b", "train"),
        ("train-00000-of-00002/1", "a", "train"),
        ("train-00001-of-00002/0", "b", "train"),
        ("validation-00000-of-00001/0", "a", "val"),
    ]
    (data / "test-00000-of-00001.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(SkyclassError, match=r"test-00000-of-00001\.parquet: unreadable"):
        read_source(tmp_path / "set")
    pd.DataFrame({"label": [1]}).to_parquet(data / "test-00000-of-00001.parquet")
    with pytest.raises(SkyclassError, match=r"test-00000-of-00001\.parquet: no column of images"):
        read_source(tmp_path / "set")


def test_labels_without_a_name_in_parquet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SkyclassError, match="label '2' is none of the numbers 0 to 1"):
        read_source(parquet_images(tmp_path / "t.parquet", [1, 2], ["a", "b"]))


def test_a_parquet_table_of_file_names_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    path = write_table(tmp_path / "t.parquet", pd.DataFrame({"image": ["1.png"], "id": [b"x"]}))
    assert read_source(path).kind == "table"


def test_the_column_of_images_is_chosen(tmp_path: Path) -> None:
    frame = pd.DataFrame({"before": [{"bytes": b"1"}], "after": [{"bytes": b"2"}], "label": ["x"]})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(SkyclassError, match="several columns of images: before, after"):
        read_source(tmp_path / "t.parquet")
    chosen = read_source(tmp_path / "t.parquet", SourceOptions(file_column="after"))
    assert chosen.catalog["file"][0].endswith("::after[0]")


def test_the_column_of_images_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, asked = pq.read_table, []

    def watched(path: Path, columns: list[str]) -> Any:
        asked.append(columns)
        return read(path, columns=columns)

    monkeypatch.setattr(pq, "read_table", watched)
    read_source(parquet_images(tmp_path / "t.parquet", [0, 1], ["a", "b"]))
    assert asked == [["label"]]


def test_options_of_columns_reach_shards(tmp_path: Path) -> None:
    frame = pd.DataFrame({"img": [b"1", b"2"], "kind": ["x", "y"], "plate": [1, 2], "name": ["p", "q"]})
    frame.to_parquet(tmp_path / "t.parquet")
    options = SourceOptions(label_column="kind", group_column="plate", id_column="name")
    assert columns(read_source(tmp_path / "t.parquet", options), "image_id", "label", "group") == [
        ("p", "x", "1"),
        ("q", "y", "2"),
    ]
    assert columns(read_source(tmp_path, options), "image_id", "label") == [("p", "x"), ("q", "y")]


def test_images_alone_in_parquet(tmp_path: Path) -> None:
    pd.DataFrame({"image": [b"1", b"2", b"3"]}).to_parquet(tmp_path / "train.parquet")
    source = read_source(tmp_path / "train.parquet")
    assert columns(source, "image_id", "label", "split") == [(str(i), None, None) for i in range(3)]


def test_files_of_one_name_in_the_folders_of_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):  # as the Hub's own conversion to Parquet lays them
        parquet_images(tmp_path / split / "0000.parquet", [1, 0], ["a", "b"])
    source = read_source(tmp_path)
    assert columns(source, "image_id", "split") == [
        ("test/0000/0", "test"),
        ("test/0000/1", "test"),
        ("train/0000/0", "train"),
        ("train/0000/1", "train"),
    ]
    assert source.problems.empty


def test_ids_that_begin_anew_in_each_file(tmp_path: Path, logged: Logged) -> None:
    for split, ids in (("train", [0, 1, 2]), ("test", [0, 1])):
        table = pq.read_table(parquet_images(tmp_path / f"{split}.parquet", ids, ["a", "b", "c"]))
        pq.write_table(table.append_column("id", [ids]), tmp_path / f"{split}.parquet")
    source = read_source(tmp_path)
    assert source.catalog["image_id"].tolist() == ["test/0", "test/1", "train/0", "train/1", "train/2"]
    assert source.problems.empty
    assert "ids begin anew in each file" in logged()


def test_a_few_ids_in_two_files_are_repeated_ids(tmp_path: Path) -> None:
    for split, ids in (("train", [10, 11, 12]), ("test", [12, 13, 14])):
        table = pq.read_table(parquet_images(tmp_path / f"{split}.parquet", [0, 1, 0], ["a", "b"]))
        pq.write_table(table.append_column("id", [ids]), tmp_path / f"{split}.parquet")
    source = read_source(tmp_path)
    assert source.catalog["image_id"].tolist() == ["12", "13", "14", "10", "11"]
    assert source.problems["problem"].tolist() == ["repeated id: the first row with it is kept"]
