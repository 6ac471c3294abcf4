"""Arrays of many images as sources; `read_image` is the oracle of their addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from helpers.make_data import random_pixels, write_image, write_table
from skyclass.core.errors import SkyclassError
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.array_stacks import is_stack, read_stack
from skyclass.data.sources.read import Source, read_source
from skyclass.images.formats.read import read_image

N, SIZE = 20, (6, 8)


def pixels(n: int = N, bands: int = 3, seed: int = 0) -> np.ndarray:
    """(n, H, W, C) uint8."""
    images = [random_pixels(seed + i, SIZE, bands) for i in range(n)]
    return np.moveaxis(np.stack(images), 1, -1)


def hdf5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def npz(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def columns(source: Source, *names: str) -> list[tuple[Any, ...]]:
    return list(source.catalog[list(names)].itertuples(index=False, name=None))


# HDF5


def test_hdf5_as_in_galaxy10(tmp_path: Path) -> None:
    images, rng = pixels(), np.random.default_rng(0)
    answers = rng.integers(0, 10, N)
    path = hdf5(
        tmp_path / "galaxies.h5",
        images=images,
        ans=answers.astype(np.uint8),
        ra=np.linspace(0, 350, N),
        dec=np.linspace(-60, 60, N),
        redshift=np.full(N, 0.1),
        pxscale=np.full(N, 0.262),
    )
    source = read_source(path)
    assert (source.kind, source.problems.empty) == ("arrays", True)
    expected = [(str(i), f"{path}::images[{i}]", str(answers[i]), None) for i in range(N)]
    assert columns(source, "image_id", "file", "label", "split") == expected
    np.testing.assert_array_equal(source.catalog["ra"], np.linspace(0, 350, N))
    assert {"dec", "redshift", "pxscale"} < set(source.catalog.columns)
    np.testing.assert_array_equal(read_image(source.catalog["file"][7]).pixels, images[7].transpose(2, 0, 1))


def test_hdf5_as_in_galaxymnist(tmp_path: Path) -> None:
    images = pixels(4)
    path = hdf5(tmp_path / "train_dataset.hdf5", images=images, labels=np.array([0, 3, 1, 0]))
    names = ("smooth_round", "smooth_cigar", "edge_on_disk", "unbarred_spiral")
    source = read_source(path, SourceOptions(class_names=names))
    assert source.catalog["label"].tolist() == ["smooth_round", "unbarred_spiral", "smooth_cigar", "smooth_round"]
    folder = tmp_path / "both"
    folder.mkdir()
    for name in ("train_dataset.hdf5", "test_dataset.hdf5"):
        hdf5(folder / name, images=images, labels=np.array([0, 3, 1, 0]))
    both = read_source(folder)
    assert both.catalog["split"].value_counts().to_dict() == {"train": 4, "test": 4}
    assert both.catalog["image_id"][0] == "test_dataset/0"


def test_arrays_of_groups_are_found_by_their_last_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["survey/images"], file["survey/labels"] = pixels(3), np.array([b"E", b"S", b"E"])
        file.create_dataset("survey/name", data=["x", "y", "z"], dtype=h5py.string_dtype())
    source = read_source(tmp_path / "a.h5")
    assert columns(source, "file", "label", "name")[1] == (f"{tmp_path}/a.h5::survey/images[1]", "S", "y")


def test_two_groups_of_images_are_told_apart(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", **{"b/images": pixels(3), "a/images": pixels(2), "b/labels": np.arange(3)})
    with pytest.raises(SkyclassError, match="no one array of images"):
        read_source(path)
    assert read_source(path, SourceOptions(file_column="b/images")).catalog["label"].tolist() == ["0", "1", "2"]


# NPZ


@pytest.mark.parametrize(("image_key", "label_key"), [("images", "labels"), ("x", "y"), ("X", "y"), ("data", "ans")])
def test_npz_under_every_usual_name(tmp_path: Path, image_key: str, label_key: str) -> None:
    images = pixels(5)
    path = npz(tmp_path / "a.npz", **{image_key: images, label_key: np.array([0, 1, 2, 1, 0])})
    source = read_source(path)
    assert source.catalog["label"].tolist() == ["0", "1", "2", "1", "0"]
    np.testing.assert_array_equal(read_image(source.catalog["file"][4]).pixels, images[4].transpose(2, 0, 1))


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0, 1]),
        np.array([[2], [0], [1]], np.uint8),
        np.array([2.0, 0.0, 1.0], ">f4"),
        np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32),
        np.array(["2", "0", "1"]),
        np.array([b"2", b"0", b"1"]),
    ],
)
def test_labels_of_every_form(tmp_path: Path, labels: np.ndarray) -> None:
    path = npz(tmp_path / "a.npz", images=pixels(3), labels=labels)
    assert read_source(path).catalog["label"].tolist() == ["2", "0", "1"]
    named = read_source(path, SourceOptions(class_names=("a", "b", "c"))).catalog["label"]
    assert named.tolist() == ["c", "a", "b"]


def test_names_of_classes_beside_the_labels(tmp_path: Path) -> None:
    arrays = {"images": pixels(3), "labels": np.array([1, 0, 1]), "class_names": np.array(["E", "S"])}
    path = npz(tmp_path / "a.npz", **arrays)
    assert read_source(path).catalog["label"].tolist() == ["S", "E", "S"]
    assert read_source(path, SourceOptions(class_names=("x", "y"))).catalog["label"].tolist() == ["y", "x", "y"]


def test_arrays_named_by_the_person(tmp_path: Path) -> None:
    arrays = {"images": pixels(4), "clean": pixels(4, seed=9), "labels": np.zeros(4, int), "kind": np.arange(4)}
    path = npz(tmp_path / "a.npz", **arrays, plate=np.array([7, 7, 8, 8]), name=np.array(list("abcd")))
    options = SourceOptions(file_column="clean", label_column="kind", group_column="plate", id_column="name")
    catalog = read_source(path, options).catalog
    assert catalog["file"][2] == f"{path}::clean[2]"
    assert catalog["label"].tolist() == ["0", "1", "2", "3"]
    assert catalog["group"].tolist() == ["7", "7", "8", "8"]
    assert catalog["image_id"].tolist() == list("abcd")


@pytest.mark.parametrize("form", ["{}_{split}", "{split}_{}", "{split}/{}"])
def test_split_arrays_in_one_file(tmp_path: Path, form: str) -> None:
    arrays = {}
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        arrays[form.format("images", split=split)] = pixels(count)
        arrays[form.format("labels", split=split)] = np.arange(count)[:, None]  # (n, 1), as in MedMNIST
    path = hdf5(tmp_path / "a.h5", **arrays) if "/" in form else npz(tmp_path / "a.npz", **arrays)
    source = read_source(path)
    assert source.catalog["split"].value_counts().to_dict() == {"train": 4, "test": 3, "val": 2}
    key = form.format("images", split="test")
    row = source.catalog.set_index("image_id").loc["test/2"]
    assert (row["file"], row["label"], row["split"]) == (f"{path}::{key}[2]", "2", "test")


def test_one_file_a_split(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1), ("unlabelled", 2)):
        arrays = {"images": pixels(count), "labels": np.array(["ring"] * count), "bands": np.array(["r", "g", "b"])}
        names = np.array([f"{split}-{i}" for i in range(count)])
        npz(tmp_path / "arrays" / f"{split}.npz", **arrays, image_id=names)
    (tmp_path / "arrays" / "problems.csv").write_text("image_id\n")
    source = read_source(tmp_path / "arrays")
    assert source.kind == "arrays"
    assert source.catalog["split"].value_counts(dropna=False).to_dict() == {"train": 3, "val": 2, "test": 1, None: 2}
    assert source.catalog["image_id"].tolist()[:2] == ["test-0", "train-0"]
    assert "bands" not in source.catalog.columns


# NPY


def test_npy_stack_without_labels(tmp_path: Path) -> None:
    images = random_pixels(0, SIZE, 4 * 2, "float32").reshape(4, 2, *SIZE)
    source = read_source(npy(tmp_path / "a.npy", images))
    assert columns(source, "image_id", "file", "label")[3] == ("3", f"{tmp_path}/a.npy::[3]", None)
    np.testing.assert_array_equal(read_image(source.catalog["file"][3]).pixels, images[3])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_a_stack_with_a_table(tmp_path: Path, suffix: str) -> None:
    images = pixels(3)
    writers: dict[str, Callable[[Path], Path]] = {
        ".npy": lambda path: npy(path, images),
        ".npz": lambda path: npz(path, images=images, labels=np.zeros(3)),
        ".h5": lambda path: hdf5(path, images=images),
    }
    stack = writers[suffix](tmp_path / f"a{suffix}")
    frame = pd.DataFrame({"name": ["p", "q", "r"], "label": ["x", "", "y"], "split": ["train", "val", "test"]})
    table = write_table(tmp_path / "t.csv", frame)
    source = read_source(table, SourceOptions(image_root=stack))
    key = "" if suffix == ".npy" else "images"
    assert columns(source, "image_id", "file", "label", "split") == [
        (str(i), f"{stack}::{key}[{i}]", [*"x", None, *"y"][i], ["train", "val", "test"][i]) for i in range(3)
    ]
    ids = read_source(table, SourceOptions(image_root=stack, id_column="name")).catalog["image_id"]
    assert ids.tolist() == ["p", "q", "r"]
    write_table(table, frame.iloc[:2])
    with pytest.raises(SkyclassError, match=rf"the table has 2 rows and a{re.escape(suffix)} 3 images"):
        read_source(table, SourceOptions(image_root=stack))


# One image stays one image


@pytest.mark.parametrize(
    ("shape", "many"),
    [
        ((6, 8), False),
        ((3, 6, 8), False),
        ((40, 50, 3), False),
        ((1, 3, 40, 50), False),
        ((40, 30, 50), True),
        ((2, 3, 40, 50), True),
        ((20, 40, 50, 3), True),
    ],
)
def test_which_npy_files_are_many_images(tmp_path: Path, shape: tuple[int, ...], many: bool) -> None:
    path = npy(tmp_path / "a.npy", np.zeros(shape, np.float32))
    assert is_stack(path) is many
    assert read_source(path).kind == ("arrays" if many else "files")
    assert is_stack(npz(tmp_path / "b.npz", images=np.zeros(shape))) is many


def test_labels_of_matching_length_make_a_stack(tmp_path: Path) -> None:
    images = np.zeros((5, 20, 30))
    assert not is_stack(npz(tmp_path / "a.npz", images=images, filters=np.array(list("grizy"))))
    assert is_stack(npz(tmp_path / "b.npz", images=images, labels=np.arange(5)))


def test_folders_of_single_arrays_are_class_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("sub", "no_sub"):
            write_image(tmp_path / split / label / "1.npy", random_pixels(0, SIZE, 1, "float32"))
            write_image(tmp_path / split / label / "2.npz", random_pixels(0, SIZE, 1, "float32"))
    source = read_source(tmp_path)
    assert source.kind == "folders"
    assert source.catalog.groupby(["split", "label"]).size().tolist() == [2, 2, 2, 2]


# Malformed twins


def objects(n: int) -> np.ndarray:
    array = np.empty(n, dtype=object)
    array[:] = [np.zeros(SIZE)] * n
    return array


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"images": pixels(3), "labels": np.arange(2)}, {}, "3 images and labels of shape \\(2,\\) in 'labels'"),
        ({"images": pixels(2), "labels": np.full((2, 3), 0.3)}, {}, "neither one a row nor one-hot"),
        ({"images": pixels(2), "labels": np.ones((2, 3))}, {}, "neither one a row nor one-hot"),
        ({"a": pixels(2), "b": pixels(2)}, {"label_column": "b"}, "no one array of images was recognised"),
        ({"images": pixels(2)}, {"file_column": "image"}, "no array 'image'; its arrays are images"),
        ({"images": pixels(2)}, {"label_column": "y"}, "no array 'y'"),
        ({"images": pixels(2)}, {"id_column": "name"}, "no column 'name'"),
        (
            {"images": pixels(2), "labels": np.array([0, 2])},
            {"class_names": ("a", "b")},
            "label '2' is none of the num",
        ),
        ({"images": pixels(2), "labels": np.array([0.5, 1])}, {"class_names": ("a", "b")}, "label '0.5' is none"),
        ({"images": np.zeros((3, 4), dtype=complex)}, {}, "no one array of images"),
        ({"images": np.zeros((2, 3, 4, 5, 6))}, {}, "is not a row of images"),
        ({"images": np.zeros((0, 4, 5, 3))}, {}, "is not a row of images"),
        ({"images": np.array([[["a"]], [["b"]]])}, {}, "values of type <U1, not images"),
        ({"images": pixels(2), "split": np.array(["A", "B"])}, {"split_column": "split"}, "unknown split 'A'"),
        ({"images": pixels(2), "image_id": np.array(["", ""])}, {}, "none of its 2 rows"),
    ],
)
def test_arrays_that_cannot_be_read(tmp_path: Path, arrays: Any, options: Any, message: str) -> None:
    path = npz(tmp_path / "a.npz", **arrays)
    read = read_source if is_stack(path) else read_stack
    with pytest.raises(SkyclassError, match=message):
        read(path, SourceOptions(**options))
    if all(np.asarray(array).dtype.kind not in "Uc" for array in arrays.values()):
        with pytest.raises(SkyclassError, match=message):
            read_source(hdf5(tmp_path / "a.h5", **arrays), SourceOptions(**options))


def test_repeated_ids_of_arrays_are_reported(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "a.npz", images=pixels(3), image_id=np.array(["a", "a", "b"]), labels=np.array(["x", "x", ""])
    )
    source = read_source(path)
    assert source.catalog["image_id"].tolist() == ["a", "b"]
    assert source.problems["problem"].tolist() == ["repeated id: the first row with it is kept", "no label"]


def test_damaged_files_of_arrays_are_refused(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", images=pixels(), labels=np.arange(N))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(SkyclassError, match=r"a\.h5"):
        read_source(path)
    (tmp_path / "text.h5").write_text("not found")
    with pytest.raises(SkyclassError, match=r"text\.h5"):
        read_source(tmp_path / "text.h5")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=objects(3), labels=np.arange(3))
    np.save(tmp_path / "b.npy", objects(3))
    table = write_table(tmp_path / "t.csv", pd.DataFrame({"label": list("xyz")}))
    for name in ("a.npz", "b.npy"):
        with pytest.raises(SkyclassError, match="pickled"):
            read_source(table, SourceOptions(image_root=tmp_path / name))
    for name in ("a.npz", "b.npy"):  # alone they are taken for images, which the decoder refuses
        with pytest.raises(SkyclassError):
            read_image(read_source(tmp_path / name).catalog["file"][0])


def test_options_of_tables_are_refused_for_arrays(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", images=pixels(2))
    with pytest.raises(SkyclassError, match="--image-root is for a table"):
        read_source(path, SourceOptions(image_root=tmp_path))


def test_a_folder_with_one_file_of_arrays_points_to_it(tmp_path: Path) -> None:
    hdf5(tmp_path / "galaxies.h5", images=pixels(2))
    with pytest.raises(SkyclassError, match=r"no image in this folder; .* galaxies\.h5, give that file instead"):
        read_source(tmp_path)


@pytest.mark.parametrize("together", [True, False])
def test_ids_that_begin_anew_in_each_split(tmp_path: Path, together: bool) -> None:
    parts = {"train": {"images": pixels(3), "id": np.arange(3)}, "test": {"images": pixels(2), "id": np.arange(2)}}
    if together:
        npz(tmp_path / "a.npz", **{f"{name}_{split}": array for split in parts for name, array in parts[split].items()})
    else:
        for split, arrays in parts.items():
            npz(tmp_path / f"{split}.npz", **arrays)
    source = read_source(tmp_path / "a.npz" if together else tmp_path)
    assert set(source.catalog["image_id"]) == {"train/0", "train/1", "train/2", "test/0", "test/1"}
    assert source.problems.empty


def test_a_damaged_split_does_not_make_images_of_the_others(tmp_path: Path) -> None:
    for split in ("train", "test"):
        npz(tmp_path / f"{split}.npz", images=pixels(3), labels=np.arange(3))
    (tmp_path / "test.npz").write_bytes((tmp_path / "test.npz").read_bytes()[:300])
    with pytest.raises(SkyclassError, match=r"test\.npz"):
        read_source(tmp_path)


def test_one_file_of_names_for_all_splits(tmp_path: Path) -> None:
    arrays = {"x_train": pixels(2), "y_train": [0, 1], "x_test": pixels(2), "y_test": [1, -1]}
    source = read_source(npz(tmp_path / "a.npz", **arrays, class_names=np.array(["disc", "bar"])))
    assert source.catalog["label"].tolist() == ["disc", "bar", "bar", None]


def test_names_of_labels_that_are_true_or_false(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", images=pixels(2), labels=np.array([True, False]), class_names=["galaxy", "lens"])
    catalog = read_source(path).catalog
    assert catalog["label"].tolist() == ["lens", "galaxy"]
    assert "class_names" not in catalog


def test_a_bad_split_beside_images_costs_that_split_alone(tmp_path: Path) -> None:
    source = read_source(npz(tmp_path / "a.npz", images=pixels(2), split=np.array(["train", "tset"])))
    assert source.catalog["split"].tolist() == ["train", None]
    assert source.problems["problem"].tolist() == ["row 1: 'tset' in column 'split' is no split, and the row has none"]


def test_a_named_array_of_a_file_without_names(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", pixels(2))
    for options in (SourceOptions(label_column="foo"), SourceOptions(file_column="foo")):
        with pytest.raises(SkyclassError, match=r"no array 'foo'; an \.npy file holds one array without a name"):
            read_source(tmp_path / "stack.npy", options)
