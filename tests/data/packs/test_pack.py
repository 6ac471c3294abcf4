"""Packs: what is written is what was decoded, bad files cost nothing, and a training's pixels are prepared once."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.make_data import bad_files, class_folders, odd_files, random_pixels, toy_image, write_image
from helpers.toys import toy_pack
from skyclass.core.errors import SkyclassError
from skyclass.data.catalog import problems_frame
from skyclass.data.packs import resize as resize_module
from skyclass.data.packs import write as write_module
from skyclass.data.packs.pack import Pack, PackChunk, is_pack, new_pack, write_pack
from skyclass.data.packs.resize import resize_for_training
from skyclass.data.packs.training_rows import training_rows
from skyclass.data.packs.write import pack_catalog, settle
from skyclass.images.formats.read import read_image
from skyclass.images.preprocess import apply_settings
from skyclass.recipes.data_settings import DataSettings, PixelSettings, TrainingPixels

NO_PROBLEMS = problems_frame([])


def catalog_of(files: list[Path], labels: list[str | None] | None = None) -> pd.DataFrame:
    """A catalog whose splits go round."""
    names = [str(file) for file in files]
    splits = [("train", "val", "test")[row % 3] for row in range(len(files))]
    ids = [f"{row}-{file.name}" for row, file in enumerate(files)]
    return pd.DataFrame({"image_id": ids, "file": names, "label": labels or ["a"] * len(files), "split": splits})


def packed(
    folder: Path, files: list[Path], settings: PixelSettings | None = None, problems: pd.DataFrame = NO_PROBLEMS
) -> tuple[Pack, pd.DataFrame]:
    """A pack of the files and its problems."""
    made = pack_catalog(
        catalog_of(files),
        problems,
        folder,
        settings or PixelSettings(),
        {"kind": "files"},
        splits=(0.7, 0.1, 0.2),
        seed=0,
        duplicates=False,
    )
    assert made.duplicates is None
    return made.pack, made.problems


def chunks_of(images: np.ndarray, length: int) -> Iterator[PackChunk]:
    """The images in chunks of that length, with a catalog."""
    ids = [f"i{row}" for row in range(len(images))]
    frame = pd.DataFrame({"image_id": ids, "file": ids, "label": "a", "split": "train"})
    for start in range(0, len(images), length):
        yield PackChunk(images[start : start + length], frame.iloc[start : start + length])


# Written


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 23),
    length=st.integers(1, 9),
    dtype=st.sampled_from(["uint8", "uint16", "float16", "float32"]),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 9)),
)
def test_written_images_are_the_given_ones_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, n: int, length: int, dtype: str, shape: tuple[int, int, int]
) -> None:
    images = np.stack([random_pixels(row, shape[1:], shape[0], dtype) for row in range(n)])
    folder = tmp_path_factory.mktemp("pack")
    write_pack(chunks_of(images, length), folder, PixelSettings(), classes=None, source={})
    pack = Pack.open(folder)
    assert pack.images.dtype == images.dtype
    np.testing.assert_array_equal(pack.images, images)
    assert not pack.images.flags.writeable
    assert pack.catalog["image_id"].tolist() == [f"i{row}" for row in range(n)]
    np.testing.assert_array_equal(np.load(folder / "images.npy"), images)  # plain NumPy reads it


@pytest.mark.parametrize("n", [9, 10, 99, 100, 999, 1000, 10_001])
def test_the_header_grows_with_the_number_of_images(tmp_path: Path, n: int) -> None:
    """The number is written last, with more digits than the header had at first."""
    images = np.arange(n * 6, dtype=np.uint16).reshape(n, 1, 2, 3)
    write_pack(chunks_of(images, 1000), tmp_path, PixelSettings(), classes=None, source={})
    assert np.load(tmp_path / "images.npy").shape == (n, 1, 2, 3)
    np.testing.assert_array_equal(Pack.open(tmp_path).images, images)


def test_chunks_that_are_not_contiguous_are_written_in_order(tmp_path: Path) -> None:
    images = random_pixels(0, (6, 10), 3)[None].repeat(2, 0)[..., ::-1, ::2]
    write_pack(chunks_of(images, 2), tmp_path, PixelSettings(), classes=None, source={})
    np.testing.assert_array_equal(Pack.open(tmp_path).images, images)


def test_the_pack_says_what_it_holds(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path, classes=("ring", "blob"), splits={"train": 3, "val": 1}, size=(10, 14), bands=3)
    meta = json.loads((tmp_path / "pack.json").read_text())
    assert (meta["classes"], meta["bands"]) == (["blob", "ring"], ["red", "green", "blue"])
    assert (meta["shape"], meta["dtype"]) == ([8, 3, 10, 14], "uint8")
    assert meta["splits"] == {"train": 6, "val": 2, "test": 0}
    for name in ("images.npy", "catalog.parquet"):
        assert meta["sha256"][name] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert pack.pixels == PixelSettings.model_validate(meta["pixels"])
    assert pack.bands == ("red", "green", "blue")


def test_the_hash_follows_the_images_and_the_catalog(tmp_path: Path) -> None:
    one, same = toy_pack(tmp_path / "one"), toy_pack(tmp_path / "same")
    assert one.hash == same.hash
    assert one.hash != toy_pack(tmp_path / "images", size=(12, 17)).hash
    images = np.array(one.images)
    relabelled = PackChunk(images, one.catalog.assign(label=one.catalog["label"].replace("bar", "rod")))
    assert write_pack([relabelled], tmp_path / "labels", one.pixels, classes=None, source={}).hash != one.hash


def test_classes_keep_a_given_order_and_only_those_that_occur(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack")
    chunk = PackChunk(np.array(pack.images), pack.catalog)
    order = ["ring", "none", "bar", "blob"]
    again = write_pack([chunk], tmp_path / "again", pack.pixels, classes=order, source={})
    assert again.classes == ["ring", "bar", "blob"]


# Refused


def test_an_unfinished_pack_is_refused_and_leaves_no_stump(tmp_path: Path) -> None:
    def broken() -> Iterator[PackChunk]:
        yield from chunks_of(np.zeros((2, 1, 3, 4), np.uint8), 1)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_pack(broken(), tmp_path, PixelSettings(), classes=None, source={})
    assert not is_pack(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SkyclassError, match="no finished pack; make one with `skyclass pack SOURCE PACK`"):
        Pack.open(tmp_path)


def test_a_pack_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SkyclassError, match="no image could be read"):
        write_pack([], tmp_path, PixelSettings(), classes=None, source={})
    assert not is_pack(tmp_path)


def test_a_catalog_with_a_fault_is_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image_id": ["a", "a"], "file": ["f", "g"], "label": "x", "split": "train"})
    with pytest.raises(SkyclassError, match="repeated image_id"):
        write_pack(
            [PackChunk(np.zeros((2, 1, 3, 4), np.uint8), frame)], tmp_path, PixelSettings(), classes=None, source={}
        )
    assert not is_pack(tmp_path)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("name", ["images.npy", "catalog.parquet", "pack.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "removed"])
def test_a_damaged_pack_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    toy_pack(tmp_path)
    file = tmp_path / name
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes({"cut": cut(file.read_bytes()), "empty": b"", "text": b"not at all"}[damage])
    with pytest.raises(SkyclassError) as refusal:
        Pack.open(tmp_path)
    assert str(tmp_path) in str(refusal.value.where)
    assert refusal.value.fix


def test_images_and_rows_must_be_as_many(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path)
    pack.catalog.iloc[:-1].to_parquet(tmp_path / "catalog.parquet", index=False)
    with pytest.raises(SkyclassError, match="48 images but 47 catalog rows"):
        Pack.open(tmp_path)


def test_a_folder_in_use_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack")
    resize_for_training(pack, PixelSettings(size=(6, 8)))
    with (
        pytest.raises(SkyclassError, match="the folder is not empty; add --overwrite"),
        new_pack(pack.path, overwrite=False),
    ):
        raise AssertionError("not reached")
    assert is_pack(pack.path)
    with new_pack(pack.path, overwrite=True) as folder:
        toy_pack(folder, splits={"train": 1})
        assert len(Pack.open(pack.path).images) == len(pack.images)  # the old one, until the new one is whole
    assert len(Pack.open(pack.path).images) == 3
    assert not (pack.path / "prepared").exists()  # they were of the old images


# From files


@pytest.mark.parametrize("suffix", ["png", "npy", "fits", "tif"])
def test_packed_images_equal_the_decoded_ones(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / name for name in class_folders(tmp_path, formats=(suffix,), size=(11, 17))["file"]]
    pack, problems = packed(tmp_path / "pack", files)
    assert len(problems) == 0
    for row, file in enumerate(files):
        image = read_image(file)
        assert pack.images.dtype == image.pixels.dtype
        np.testing.assert_array_equal(pack.images[row], image.pixels)
    assert pack.bands == image.bands
    assert pack.pixels == PixelSettings(bands=image.bands, size=(11, 17), fit="pad", dtype=str(image.pixels.dtype))
    assert pack.catalog["file"].tolist() == [str(file) for file in files]


@pytest.mark.parametrize(
    "settings",
    [
        PixelSettings(size=(9, 12), bands=("grey",)),
        PixelSettings(interval="percentile", stretch="asinh", dtype="uint16"),
        PixelSettings(crop=(6, 10), size=(12, 8), fit="crop"),
    ],
)
def test_packed_images_went_through_the_settled_recipe(tmp_path: Path, settings: PixelSettings) -> None:
    files = [tmp_path / name for name in class_folders(tmp_path, size=(12, 16))["file"]]
    pack, _ = packed(tmp_path / "pack", files, settings)
    assert None not in (pack.pixels.bands, pack.pixels.size, pack.pixels.dtype)
    given_settings = settings.model_dump(exclude_defaults=True)
    assert pack.pixels.model_dump(include=set(given_settings)) == given_settings
    for row, file in enumerate(files):
        image = read_image(file)
        np.testing.assert_array_equal(pack.images[row], apply_settings(image.pixels, image.bands, pack.pixels))


def test_more_images_than_a_chunk_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_module, "CHUNK", 4)
    names = class_folders(tmp_path, per_class=5, formats=("npy",))["file"]
    files = [tmp_path / name for name in names]
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    files.insert(6, tmp_path / "broken.npy")
    pack, problems = packed(tmp_path / "pack", files)
    files.pop(6)
    assert pack.catalog["file"].tolist() == [str(file) for file in files]
    for row, file in enumerate(files):
        np.testing.assert_array_equal(pack.images[row], read_image(file).pixels)
    assert problems["file"].tolist() == [str(tmp_path / "broken.npy")]


def test_bad_files_never_cost_a_good_row(tmp_path: Path) -> None:
    good = [tmp_path / name for name in class_folders(tmp_path, per_class=6, formats=("npy",), bands=1)["file"]]
    words = bad_files(tmp_path / "bad")
    odd = odd_files(tmp_path / "odd")
    files = [*good]
    for place, file in enumerate([*(tmp_path / "bad" / name for name in words), *odd]):
        files.insert(3 * place % len(files), file)
    known = problems_frame([{"image_id": "x", "file": "y.png", "problem": "no label", "severity": "warning"}])
    pack, problems = packed(tmp_path / "pack", files, problems=known)
    kept = pack.catalog["file"].tolist()
    nan = str(tmp_path / "odd" / "nan.fits")
    assert kept == [str(file) for file in files if file in good or str(file) == nan]
    for row, file in enumerate(kept):
        assert np.array_equal(pack.images[row], np.nan_to_num(read_image(file).pixels))
    listed = pd.read_csv(tmp_path / "pack" / "problems.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(listed, problems.astype(str), check_dtype=False)
    assert listed["problem"].iloc[0] == "no label"
    errors = listed[listed["severity"] == "error"]
    assert set(errors["file"]) == {str(file) for file in files} - set(kept)
    for name, word in words.items():
        (text,) = errors.loc[errors["file"] == str(tmp_path / "bad" / name), "problem"]
        assert word in text
    (warning,) = listed.loc[listed["file"] == nan, "problem"]
    assert "NaN" in warning


def test_images_of_other_sizes_bands_and_types_join_the_commonest(tmp_path: Path) -> None:
    usual = [write_image(tmp_path / f"{i}.png", random_pixels(i, (12, 16))) for i in range(5)]
    larger = write_image(tmp_path / "larger.png", random_pixels(7, (24, 24)))
    grey = write_image(tmp_path / "grey.png", random_pixels(8, (12, 16), bands=1))
    deep = write_image(tmp_path / "deep.tif", random_pixels(9, (12, 16), dtype="uint16"))
    floats = write_image(tmp_path / "floats.fits", toy_image("blob", 1, (12, 16)))
    pack, problems = packed(tmp_path / "pack", [*usual, larger, grey, deep, floats], PixelSettings(dtype="uint8"))
    assert pack.images.shape == (8, 3, 12, 16)
    assert pack.pixels.bands == ("red", "green", "blue")
    square = np.array(pack.images[5])
    assert not square[:, :, :2].any()
    assert not square[:, :, -2:].any()
    assert square[:, :, 2:-2].any()
    np.testing.assert_array_equal(pack.images[6], np.repeat(read_image(grey).pixels, 3, axis=0))
    np.testing.assert_array_equal(pack.images[7], np.rint(read_image(deep).pixels / 65535 * 255).astype(np.uint8))
    errors = problems[problems["severity"] == "error"]
    assert errors["file"].tolist() == [str(floats)]
    (types,) = problems.loc[problems["severity"] == "warning", "problem"][lambda told: told.str.contains("types")]
    assert types.startswith("3 types of pixels: uint8 (7), uint16 (1), float32 (1)")


def test_nothing_readable_is_an_error_that_points_to_the_list(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(SkyclassError, match=r"problems\.csv: none of the images can be used, the first, .*, because"):
        packed(tmp_path / "pack", [tmp_path / "a.png", tmp_path / "b.jpg"])
    assert not is_pack(tmp_path / "pack")
    listed = pd.read_csv(tmp_path / "pack" / "problems.csv")
    assert listed["file"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "b.jpg")]


def test_only_blank_images_are_an_error_that_lists_them(tmp_path: Path) -> None:
    zero = odd_files(tmp_path)[0]
    with pytest.raises(SkyclassError, match="none of the images can be used"):
        packed(tmp_path / "pack", [zero])
    assert "blank" in (tmp_path / "pack" / "problems.csv").read_text()


# What a recipe leaves open


def test_settling_keeps_what_is_set_and_fills_in_the_rest(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in class_folders(tmp_path, size=(12, 16))["file"]]
    found = settle(PixelSettings(), files)
    assert found == PixelSettings(bands=("red", "green", "blue"), size=(12, 16), fit="pad", dtype="uint8")
    whole = PixelSettings(bands=("grey",), size=(5, 6), fit="crop", dtype="float16")
    assert settle(whole, files) == whole
    assert settle(PixelSettings(interval="zscale"), files).dtype == "float32"
    assert settle(PixelSettings(stretch="sqrt"), files).dtype == "float32"
    assert settle(PixelSettings(crop=(6, 8)), files).size == (6, 8)


def test_settling_looks_further_where_the_sample_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_module, "SAMPLED", 2)
    bad = [tmp_path / f"{i}.png" for i in range(4)]
    for file in bad:
        file.write_text("no image")
    good = write_image(tmp_path / "good.png", random_pixels(0, (7, 9)))
    files = [str(bad[0]), str(bad[1]), str(bad[2]), str(good), str(bad[3])]
    assert settle(PixelSettings(), files).size == (7, 9)


def test_types_that_differ_become_float(tmp_path: Path) -> None:
    one = write_image(tmp_path / "one.png", random_pixels(0, (7, 9)))
    other = write_image(tmp_path / "two.tif", random_pixels(1, (7, 9), dtype="uint16"))
    assert settle(PixelSettings(), [str(one), str(other)]).dtype == "float32"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (["uint8", "uint8", "float32"], "uint8"),  # a float among them is refused when they are packed
        (["uint8", "uint16", "float32"], "uint16"),
        (["uint8", "float32", "float32"], "float32"),
        (["float32"], "float32"),
        (["uint16", "uint16"], "uint16"),
    ],
)
def test_floats_do_not_join_integers_on_a_scale_of_their_own(tmp_path: Path, stored: list[str], expected: str) -> None:
    files = []
    for i, dtype in enumerate(stored):
        pixels = (1000.0 * toy_image("blob", i, (7, 9), 1)).astype(dtype)
        files.append(tmp_path / f"{i}.npy")
        np.save(files[-1], pixels)
    assert settle(PixelSettings(), [str(file) for file in files]).dtype == expected
    if expected != "float32":
        pack, problems = packed(tmp_path / "pack", files)
        assert len(pack.images) == stored.count("uint8") + stored.count("uint16")
        errors = problems.loc[problems["severity"] == "error", "problem"]
        assert list(errors.str.startswith("floating-point")) == [True] * stored.count("float32")
    interval = PixelSettings(interval="minmax")
    assert settle(interval, [str(file) for file in files]).dtype == "float32"


def test_nothing_to_settle_on() -> None:
    with pytest.raises(SkyclassError, match="no image to pack"):
        settle(PixelSettings(), [])


# The pixels of a training

CHANGES: list[dict[str, Any]] = [
    {"size": (6, 8)},
    {"crop": (8, 8)},
    {"crop": (9, 8), "size": (12, 12), "fit": "pad"},
    {"bands": ("green",)},
    {"bands": ("blue", "red")},
    {"interval": "minmax", "stretch": "asinh", "per_band": True},
    {"interval": "percentile", "percentile": 90.0, "dtype": "uint16"},
    {"dtype": "float32"},
    {"dtype": "float16", "stretch": "sqrt"},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_prepared_pixels_equal_the_recipe_image_by_image(tmp_path: Path, changes: dict[str, Any]) -> None:
    pack = toy_pack(tmp_path, bands=3)
    settings = TrainingPixels(**changes)
    images = resize_for_training(pack, settings)
    assert len(images) == len(pack.images)
    for row in range(len(images)):
        expected = apply_settings(np.array(pack.images[row]), pack.bands, settings)
        assert images.dtype == expected.dtype
        np.testing.assert_array_equal(images[row], expected)
    assert len(list((tmp_path / "prepared").iterdir())) == 1
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable


@pytest.mark.parametrize(
    "changes", [{}, {"size": (12, 16)}, {"crop": (12, 16)}, {"dtype": "uint8"}, {"bands": ("red", "green", "blue")}]
)
def test_a_recipe_that_changes_nothing_gives_the_packs_own_array(tmp_path: Path, changes: dict[str, Any]) -> None:
    pack = toy_pack(tmp_path, bands=3)
    settings = TrainingPixels(**changes)
    assert resize_for_training(pack, settings) is pack.images
    assert not (tmp_path / "prepared").exists()
    for row in range(0, len(pack.images), 7):  # and it does change nothing
        np.testing.assert_array_equal(
            apply_settings(np.array(pack.images[row]), pack.bands, settings), pack.images[row]
        )


def test_prepared_pixels_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = toy_pack(tmp_path)
    small, smaller = TrainingPixels(size=(6, 8)), TrainingPixels(size=(3, 4))
    first, other = np.array(resize_for_training(pack, small)), np.array(resize_for_training(pack, smaller))
    assert first.shape[2:] == (6, 8)
    assert other.shape[2:] == (3, 4)
    assert len(list((tmp_path / "prepared").iterdir())) == 2
    monkeypatch.setattr(resize_module, "apply_settings", lambda *_: pytest.fail("it prepared them again"))
    np.testing.assert_array_equal(resize_for_training(pack, small), first)
    np.testing.assert_array_equal(resize_for_training(Pack.open(tmp_path), smaller), other)


def test_prepared_pixels_belong_to_the_images_they_were_made_from(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack")
    resize_for_training(pack, TrainingPixels(size=(6, 8)))
    resize_for_training(pack, TrainingPixels(size=(6, 8), normalise="none"))  # which comes after what is prepared
    assert len(list((tmp_path / "pack" / "prepared").iterdir())) == 1
    toy_pack(tmp_path / "other", classes=("ring", "bar"), splits={"train": 3})
    for name in ("images.npy", "catalog.parquet", "pack.json"):  # as a person copies a pack over another
        shutil.copy(tmp_path / "other" / name, tmp_path / "pack" / name)
    settings = TrainingPixels(size=(6, 8))
    np.testing.assert_array_equal(
        resize_for_training(Pack.open(tmp_path / "pack"), settings),
        resize_for_training(Pack.open(tmp_path / "other"), settings),
    )


def test_an_interrupted_preparation_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = toy_pack(tmp_path)
    original, calls = resize_module.apply_settings, []

    def breaking(*arguments: Any) -> np.ndarray:
        calls.append(arguments)
        if len(calls) == 10:
            raise MemoryError("full")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(resize_module, "apply_settings", breaking)
        with pytest.raises(MemoryError):
            resize_for_training(pack, TrainingPixels(size=(6, 8)))
    assert not list((tmp_path / "prepared").iterdir())
    assert resize_for_training(pack, TrainingPixels(size=(6, 8))).shape == (48, 1, 6, 8)


def test_a_pack_that_cannot_be_written_to_is_prepared_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = toy_pack(tmp_path)
    settings = TrainingPixels(size=(6, 8))
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:  # a test run by root may write anywhere
        patch.setattr(resize_module.os, "access", lambda *_: False)
        images = resize_for_training(pack, settings)
    assert sorted(tmp_path.rglob("*")) == before
    np.testing.assert_array_equal(images, resize_for_training(pack, settings))


# Rows of a training


def test_training_rows_are_the_labelled_ones_of_each_split(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack")
    frame = pack.catalog.copy()
    frame.loc[[0, 30], "label"] = None
    pack = write_pack([PackChunk(np.array(pack.images), frame)], tmp_path / "n", pack.pixels, classes=None, source={})
    rows = training_rows(pack, DataSettings())
    assert rows.classes == ["bar", "blob", "ring"]
    for split, found in (("train", rows.train), ("val", rows.val), ("test", rows.test)):
        expected = frame.index[(frame["split"] == split) & frame["label"].notna()]
        assert found.tolist() == expected.tolist()
        assert [rows.classes[index] for index in rows.labels[found]] == frame.loc[expected, "label"].tolist()
    assert rows.labels[[0, 30]].tolist() == [-1, -1]


def test_excluded_classes_are_left_out(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path)
    rows = training_rows(pack, DataSettings(exclude=("blob",)))
    assert rows.classes == ["bar", "ring"]
    used = np.concatenate([rows.train, rows.val, rows.test])
    assert set(pack.catalog["label"].iloc[used]) == {"bar", "ring"}
    assert len(used) == 32
    assert set(rows.labels) == {-1, 0, 1}


@pytest.mark.parametrize(
    ("splits", "exclude", "words"),
    [
        ({"train": 2, "val": 1}, ("blob", "ring"), "1 class; a classifier needs two at least"),
        ({"train": 2, "val": 1}, ("blog",), "no class is called 'blog'; the classes are bar, blob, ring"),
        ({"train": 2, "test": 1}, (), "no labelled image is in the split 'val'"),
        ({"val": 2, "test": 1}, (), "no labelled image is in the split 'train'"),
    ],
)
def test_packs_that_cannot_be_trained_on(
    tmp_path: Path, splits: dict[str, int], exclude: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SkyclassError, match=words):
        training_rows(toy_pack(tmp_path, splits=splits), DataSettings(exclude=exclude))


def test_a_pack_without_test_images_can_be_trained_on(tmp_path: Path) -> None:
    assert len(training_rows(toy_pack(tmp_path, splits={"train": 2, "val": 1}), DataSettings()).test) == 0


def test_a_pack_json_that_lacks_a_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "pack.json").write_text('{"classes": []}')
    with pytest.raises(SkyclassError, match="damaged pack: it lacks bands, pixels, source, hash"):
        Pack.open(tmp_path)


@pytest.mark.slow
def test_inspecting_and_packing_wait_for_no_network_library() -> None:
    code = "import sys; from skyclass.commands.steps import inspect, pack; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_pack_shows_its_images_by_class_and_split(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "my <pack>", bands=3, splits={"train": 4, "test": 2})
    assert pack.counts().loc["ring"].to_dict() == {"train": 4, "test": 2}
    text = f"Pack({str(pack.path)!r}, images=18, size=(12, 16), dtype='uint8', bands=('red', 'green', 'blue'), classes="
    assert repr(pack).startswith(text)
    html = pack._repr_html_()
    assert "Pack my &lt;pack&gt;" in html
    assert "18 of 12 x 16 pixels (height x width), uint8" in html
    assert "<th>ring</th>" in html
