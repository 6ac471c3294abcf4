from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as pillow
from pyarrow import parquet

from helpers.make_data import random_pixels, write_image
from skyclass.core import limits
from skyclass.core.errors import SkyclassError
from skyclass.core.parallel import in_order
from skyclass.images.formats import array_files, containers, open_files
from skyclass.images.formats import parquet as parquet_module
from skyclass.images.formats.containers import read_column, stack_arrays
from skyclass.images.formats.read import Image, decode_bytes, read_image

SIZE = (12, 20)
RGB = ("red", "green", "blue")
NUMBERED = ("band_1", "band_2", "band_3")
TEXTS = ["spiral", "élliptical", "", "edge on "]
STRIPPED = ["spiral", "élliptical", "", "edge on"]

Writer = Callable[..., Path]


def write_npy(path: Path, **arrays: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), arrays["images"])
    return path.with_suffix(".npy")


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def write_packed(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def write_hdf5(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, array in arrays.items():
            text = h5py.string_dtype() if array.dtype.kind == "U" else None
            data = array.astype(object) if text else array
            file.create_dataset(name, data=data, dtype=text, compression="gzip" if array.ndim > 2 else None)
    return path.with_suffix(".h5")


WRITERS: list[Writer] = [write_npy, write_npz, write_packed, write_hdf5]
NAMED: list[Writer] = [write_npz, write_packed, write_hdf5]  # files whose arrays have names


def key_of(file: Path) -> str:
    return "" if file.suffix == ".npy" else "images"


def row_of(file: Path, row: int, key: str | None = None) -> Image:
    return read_image(f"{file}::{key_of(file) if key is None else key}[{row}]")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", ">f4", "int16", "float64", "bool"])
def test_rows_of_grey_images(tmp_path: Path, write: Writer, dtype: str) -> None:
    images = random_pixels(0, SIZE, 5, "uint8").astype(dtype)
    file = write(tmp_path / "x", images=images)
    kept = (
        images * np.uint8(255)
        if dtype == "bool"
        else images.astype("f4" if dtype[-2:] in ("f4", "16", "64") else dtype)
    )
    kept = images if dtype == "uint16" else kept
    for row in (0, 3, 4):
        image = row_of(file, row)
        np.testing.assert_array_equal(image.pixels, kept[row][None])
        assert image.pixels.dtype == kept.dtype.newbyteorder("=")
        assert image.pixels.flags.writeable
        assert image.pixels.flags.c_contiguous
        assert (image.bands, image.format) == (("grey",), file.suffix.replace(".h5", ".hdf5")[1:])


@pytest.mark.parametrize("write", WRITERS)
def test_rows_with_bands_first_or_last(tmp_path: Path, write: Writer) -> None:
    images = random_pixels(1, (4 * SIZE[0], SIZE[1])).reshape(3, 4, *SIZE).swapaxes(0, 1)  # (N, C, H, W)
    first = write(tmp_path / "first", images=images)
    last = write(tmp_path / "last", images=images.transpose(0, 2, 3, 1))
    fortran = write(tmp_path / "fortran", images=np.asfortranarray(images))
    for row in range(4):
        for file in (first, last, fortran):
            image = row_of(file, row)
            np.testing.assert_array_equal(image.pixels, images[row])
            # Colours last, of 8 bits, are how pictures are kept.
            assert image.bands == (("red", "green", "blue") if file == last else NUMBERED)
    of_floats = write(tmp_path / "floats", images=images.transpose(0, 2, 3, 1).astype("f4"))
    assert row_of(of_floats, 0).bands == NUMBERED


@pytest.mark.parametrize("write", NAMED)
@pytest.mark.parametrize("key", ["filters", "bands"])
def test_an_array_of_text_names_the_bands(tmp_path: Path, write: Writer, key: str) -> None:
    images = np.stack([random_pixels(seed, SIZE) for seed in range(2)])
    file = write(tmp_path / "a", images=images, **{key: np.array(["g", "r ", "i"])})
    assert row_of(file, 1).bands == ("g", "r", "i")
    assert row_of(write(tmp_path / "b", images=images, **{key: np.array(["g", "r"])}), 1).bands == NUMBERED
    assert row_of(write(tmp_path / "c", images=images, **{key: np.array(["g", "r", "g"])}), 1).bands == NUMBERED
    assert row_of(write(tmp_path / "d", images=images, **{key: np.arange(3)}), 1).bands == NUMBERED


@pytest.mark.parametrize("write", NAMED)
def test_arrays_and_columns(tmp_path: Path, write: Writer) -> None:
    images, answers = random_pixels(2, SIZE, 4), np.array([3, 1, 2, 0], ">i2")
    file = write(tmp_path / "x", images=images, ans=answers, name=np.array(TEXTS), empty=np.zeros(0))
    arrays = stack_arrays(file)
    assert arrays["images"] == (images.shape, images.dtype)
    assert arrays["ans"] == ((4,), answers.dtype)
    assert arrays["name"][0] == (4,)
    assert arrays["name"][1].kind == "U"
    column = read_column(file, "ans")
    np.testing.assert_array_equal(column, answers)
    assert column.dtype.isnative
    assert read_column(file, "name").tolist() == STRIPPED
    assert read_column(file, "name").dtype.kind == "U"
    assert len(read_column(file, "empty")) == 0


def test_bytes_are_text_too(tmp_path: Path) -> None:
    texts = np.array([text.encode() for text in TEXTS])
    for write in NAMED:
        assert read_column(write(tmp_path / "x", name=texts), "name").tolist() == STRIPPED
    np.save(tmp_path / "x.npy", texts)
    assert read_column(tmp_path / "x.npy", "").tolist() == STRIPPED
    assert stack_arrays(tmp_path / "x.npy") == {"": ((4,), texts.dtype)}


@pytest.mark.parametrize("write", NAMED)
def test_columns_of_two_axes(tmp_path: Path, write: Writer) -> None:
    one_hot = np.eye(4, dtype="uint8")[[2, 0, 1]]
    np.testing.assert_array_equal(read_column(write(tmp_path / "x", labels=one_hot), "labels"), one_hot)


def test_a_text_heap_that_libhdf5_never_comes_back_from(tmp_path: Path) -> None:
    images = np.stack([random_pixels(seed, SIZE) for seed in range(2)])
    file = write_hdf5(tmp_path / "x", images=images, filters=np.array(["g", "r", "i"]))
    data = bytearray(file.read_bytes())
    # The collection's first object: index, references, reserved, then its length (HDF5 file format, III.E).
    length = data.index(b"GCOL") + 16 + 8
    data[length : length + 8] = (2**64 - 16).to_bytes(8, "little")
    file.write_bytes(data)
    with pytest.raises(SkyclassError, match="the text in /filters is damaged"):
        read_column(file, "filters")
    assert row_of(file, 1).bands == NUMBERED


def test_values_kept_in_other_files_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(240)) * 8)
    pixels = random_pixels(0, SIZE, 4)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = pixels
    layout = h5py.VirtualLayout(pixels.shape, pixels.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "images", pixels.shape)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("raw", (2, *SIZE), "u1", external=[(str(secret), 0, 1920)])
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("texts", (4,), "S4", external=[(str(secret), 0, 16)])
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/images")
        file["group/loop"] = h5py.SoftLink("/group/loop")
        file["group/circle"] = file["group"]
        file["images"] = pixels
    for name in ("raw", "virtual"):
        with pytest.raises(SkyclassError, match="kept in other files"):
            read_image(f"{tmp_path / 'x.h5'}::{name}[0]")
    with pytest.raises(SkyclassError, match="kept in other files"):
        read_column(tmp_path / "x.h5", "texts")
    assert list(stack_arrays(tmp_path / "x.h5")) == ["images"]
    np.testing.assert_array_equal(row_of(tmp_path / "x.h5", 1, "images").pixels[0], pixels[1])


def test_groups_beyond_any_depth_or_number_cost_nothing_but_themselves(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file["a"] = random_pixels(0, SIZE, 4)
        file["b" + "/b" * 2000 + "/images"] = random_pixels(0, SIZE, 4)
    assert list(stack_arrays(tmp_path / "deep.h5")) == ["a"]
    with pytest.raises(SkyclassError, match=r"more than 50 groups deep"):
        row_of(tmp_path / "deep.h5", 0, "b" + "/b" * 50)


def test_groups_of_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["train/images"] = random_pixels(3, SIZE, 4)
        file["train/loop"] = h5py.SoftLink("/train")
        file["elsewhere"] = h5py.ExternalLink("absent.h5", "/x")
        file["null"] = h5py.Empty("f4")
    assert list(stack_arrays(tmp_path / "x.hdf5")) == ["train/images"]
    np.testing.assert_array_equal(
        row_of(tmp_path / "x.hdf5", 2, "train/images").pixels[0], random_pixels(3, SIZE, 4)[2]
    )


@pytest.mark.parametrize("write", NAMED)
def test_refused_arrays_do_not_cost_the_others(tmp_path: Path, write: Writer) -> None:
    images = random_pixels(4, SIZE, 2)
    if write is write_hdf5:
        file = write(tmp_path / "x", images=images)
        with h5py.File(file, "a") as opened:
            opened.create_dataset("objects", (2,), h5py.vlen_dtype("f4"))
    else:
        file = write(tmp_path / "x", images=images, objects=np.array([{}, 1], dtype=object))
    assert list(stack_arrays(file)) == ["images"]
    np.testing.assert_array_equal(row_of(file, 1).pixels[0], images[1])
    for refused in (lambda: row_of(file, 0, "objects"), lambda: read_column(file, "objects")):
        with pytest.raises(SkyclassError, match="object") as caught:
            refused()
        assert "rewrite" in str(caught.value)


@pytest.mark.parametrize("write", WRITERS)
def test_refusals(tmp_path: Path, write: Writer) -> None:
    file = write(tmp_path / "x", images=random_pixels(5, SIZE, 4))
    key = key_of(file)
    flat = write(tmp_path / "flat", images=np.zeros((4, 240)))
    large = write(tmp_path / "complex", images=np.zeros((4, *SIZE), complex))
    expected = {
        f"{file}::{key}[4]": "no row 4: it has 4 rows",
        f"{file}::{key}[-1]": "no row -1",
        f"{file}::image[0]": "no array called 'image' in it",
        f"{flat}::{key}[0]": "no stack of images",
        f"{large}::{key}[0]": "type <c16",
        f"{tmp_path / 'absent.h5'}::images[0]": "no such file",
        f"{tmp_path}::images[0]": "a folder",
    }
    for address, words in expected.items():
        with pytest.raises(SkyclassError) as caught:
            read_image(address)
        assert words in str(caught.value)
        assert str(caught.value).startswith(address.partition("::")[0])
        assert caught.value.fix
    with pytest.raises(SkyclassError, match="no column"):
        read_column(file, key)
    with pytest.raises(SkyclassError, match=r"x.*no array called"):
        read_column(file, "absent")


def test_a_mistyped_array_is_told_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(SkyclassError, match="did you mean 'images'"):
        row_of(write_npz(tmp_path / "x", images=random_pixels(0, SIZE, 2)), 0, "image")


def test_what_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_npy(tmp_path / "x", images=random_pixels(0, SIZE, 2))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SkyclassError, match=r"cannot be read \(Permission denied\); check its permissions"):
        row_of(file, 0)


def test_other_files_are_no_stacks(tmp_path: Path) -> None:
    picture = write_image(tmp_path / "x.png", random_pixels(0, SIZE))
    with pytest.raises(SkyclassError, match="not a file of many images"):
        read_image(f"{picture}::images[0]")
    with pytest.raises(SkyclassError, match="not a file of many images"):
        stack_arrays(picture)
    for file in (
        write_hdf5(tmp_path / "y", images=random_pixels(0, SIZE)),
        write_parquet(tmp_path / "z.parquet", [b"x"]),
    ):
        with pytest.raises(SkyclassError, match=r"many images, not one; name a row"):
            read_image(file)
    with pytest.raises(SkyclassError, match="a table"):
        stack_arrays(tmp_path / "z.parquet")


@pytest.mark.parametrize("write", [write_npy, write_npz, write_hdf5])
def test_a_stack_is_not_read_as_a_whole(tmp_path: Path, write: Writer) -> None:
    images = np.zeros((200, 200, 300), "float32")
    images[:, 0, 0] = np.arange(200)
    file = write(tmp_path / "x", images=images)
    tracemalloc.start()
    assert [row_of(file, row).pixels[0, 0, 0] for row in (0, 150, 199)] == [0, 150, 199]
    assert tracemalloc.get_traced_memory()[1] < images.nbytes / 10
    tracemalloc.stop()


def test_a_packed_array_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_pixels(6, SIZE, 50)
    file = write_packed(tmp_path / "x", images=images)
    unpacked = []
    unpack = open_files.decompress
    monkeypatch.setattr(
        "skyclass.images.formats.array_files.decompress", lambda *given: unpacked.append(given) or unpack(*given)
    )
    rows = in_order(lambda row: row_of(file, row).pixels[0], range(50), threads=4)
    np.testing.assert_array_equal(np.stack(list(rows)), images)
    assert len(unpacked) == 1


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_changes_is_read_again(tmp_path: Path, write: Writer) -> None:
    before, after = random_pixels(7, SIZE, 3), random_pixels(8, SIZE, 4)
    file = write(tmp_path / "x", images=before)
    np.testing.assert_array_equal(row_of(file, 1).pixels[0], before[1])
    file.unlink()
    write(tmp_path / "x", images=after)
    np.testing.assert_array_equal(row_of(file, 1).pixels[0], after[1])


def test_an_hdf5_file_written_again_in_its_place(tmp_path: Path) -> None:
    file = write_hdf5(tmp_path / "x", images=np.zeros((2, 4, 6), "uint8"))
    assert row_of(file, 1).pixels.max() == 0
    code = "import sys, h5py, numpy as np; h5py.File(sys.argv[1], 'w')['images'] = np.full((3, 4, 6), 9, 'uint8')"
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)  # as another program would
    assert row_of(file, 2).pixels.min() == 9


@pytest.mark.parametrize("write", WRITERS)
def test_threads_over_more_files_than_stay_open(tmp_path: Path, write: Writer) -> None:
    images = random_pixels(9, SIZE, 6)
    files = [write(tmp_path / f"{i}", images=images + np.uint8(i)) for i in range(containers._AT_MOST + 3)]
    asked = [(i, row) for row in range(6) for i in range(len(files))]
    rows = in_order(lambda place: row_of(files[place[0]], place[1]).pixels[0], asked, threads=4)
    for (i, row), pixels in zip(asked, rows, strict=True):
        np.testing.assert_array_equal(pixels, images[row] + np.uint8(i))


# Bombs and false headers


def npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.slow
def test_bombs_in_npz_are_refused(tmp_path: Path) -> None:
    shape = (2000, 300, 300)
    zeros = bytes(2**20)
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w") as file,
    ):
        file.write(npy_header(shape))
        for _ in range(4 * 2000 * 300 * 300 // len(zeros)):
            file.write(zeros)
        file.write(bytes(4 * 2000 * 300 * 300 % len(zeros)))
    with pytest.raises(SkyclassError, match="bombs"):
        row_of(tmp_path / "x.npz", 0)


def test_a_header_that_the_archive_contradicts_is_not_believed(tmp_path: Path) -> None:
    for name, kind in (("stored", zipfile.ZIP_STORED), ("packed", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", kind) as archive:
            archive.writestr("images.npy", npy_header((1000, *SIZE)) + bytes(960))
            archive.writestr("good.npy", npy_header((2, *SIZE)) + bytes(1920))
        with pytest.raises(SkyclassError, match="does not agree"):
            row_of(tmp_path / f"{name}.npz", 0)
        assert not row_of(tmp_path / f"{name}.npz", 1, "good").pixels.any()


def test_what_the_disk_cannot_bear_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_packed(tmp_path / "x", images=random_pixels(0, SIZE, 9))
    usage = limits.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(SkyclassError, match="too large to be unpacked"):
        row_of(file, 0)


def test_cut_stacks_are_refused(tmp_path: Path) -> None:
    images = random_pixels(0, (60, 80), 9)
    for write in WRITERS:
        file = write(tmp_path / write.__name__, images=images)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
        with pytest.raises(SkyclassError, match=r"ends early|cannot be decoded"):
            row_of(file, 0)
        with pytest.raises(SkyclassError, match=file.name):
            stack_arrays(file)


def test_hdf5_that_declares_too_much_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("wide", (10, 100_000, 100_000), "f4", chunks=(1, 100, 100))
        file.create_dataset("chunk", (1000, 1000, 1000), "f4", chunks=(1000, 1000, 100), compression="gzip")
        file.create_dataset("long", (10**12,), "f4", chunks=(1000,))
        file.create_dataset("text", (10**12,), h5py.string_dtype(), chunks=(1000,))
        file.create_dataset("fine", (10**9, 20, 30), "f4", chunks=(100, 20, 30))
    with pytest.raises(SkyclassError, match="more than"):
        row_of(tmp_path / "x.h5", 0, "wide")
    with pytest.raises(SkyclassError, match="chunks"):
        row_of(tmp_path / "x.h5", 0, "chunk")
    for key in ("long", "text"):
        with pytest.raises(SkyclassError, match="too long"):
            read_column(tmp_path / "x.h5", key)
    assert row_of(tmp_path / "x.h5", 10**9 - 1, "fine").pixels.shape == (1, 20, 30)


# Parquet


def encoded(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    stream = io.BytesIO()
    pillow.fromarray(random_pixels(seed, size).transpose(1, 2, 0)).save(stream, "png")
    return stream.getvalue()


def write_parquet(path: Path, values: list[Any], kind: pa.DataType | None = None, **options: Any) -> Path:
    table = pa.table({"label": pa.array(range(len(values))), "image": pa.array(values, kind)})
    parquet.write_table(table, path, **options)
    return path


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), STRUCT])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet_of_encoded_images(tmp_path: Path, kind: pa.DataType, dictionary: bool) -> None:
    images = [encoded(seed) for seed in range(23)]
    values = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)] if kind == STRUCT else images
    file = write_parquet(tmp_path / "x.parquet", values, kind, row_group_size=5, use_dictionary=dictionary)
    rows = [*range(23), 0, 22, 7]
    for row, image in zip(rows, in_order(lambda row: row_of(file, row, "image"), rows, threads=3), strict=True):
        np.testing.assert_array_equal(image.pixels, random_pixels(row, SIZE))
        assert (image.bands, image.format) == (RGB, "png")


def test_parquet_that_names_files(tmp_path: Path) -> None:
    write_image(tmp_path / "pictures/a.png", random_pixels(1, SIZE))
    values = [
        {"bytes": None, "path": "pictures/a.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": b"", "path": "b"},
    ]
    file = write_parquet(tmp_path / "x.parquet", values, STRUCT)
    np.testing.assert_array_equal(row_of(file, 0, "image").pixels, random_pixels(1, SIZE))
    for row in (1, 2):
        with pytest.raises(SkyclassError, match=rf"x.parquet::image\[{row}\]: row {row} holds no image"):
            row_of(file, row, "image")
    with pytest.raises(SkyclassError, match=f"{tmp_path / 'b'}: no such file"):
        row_of(file, 3, "image")


def test_refusals_of_parquet(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", [encoded(0), b"not an image, but text"])
    expected = {
        "image[1]": "begins as text",
        "image[2]": "no row 2",
        "imag[0]": "did you mean 'image'",
        "label[0]": "int64",
    }
    for row, words in expected.items():
        with pytest.raises(SkyclassError) as caught:
            read_image(f"{file}::{row}")
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"{file}::{row}: ")
    empty = write_parquet(tmp_path / "empty.parquet", [], pa.binary())
    with pytest.raises(SkyclassError, match="0 rows"):
        row_of(empty, 0, "image")


def test_columns_whose_names_begin_alike(tmp_path: Path) -> None:
    images = [encoded(seed) for seed in range(3)]
    parquet.write_table(pa.table({"image.old": [b"", b"", b""], "image": images}), tmp_path / "x.parquet")
    np.testing.assert_array_equal(row_of(tmp_path / "x.parquet", 2, "image").pixels, random_pixels(2, SIZE))


def test_a_large_row_group_goes_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [encoded(seed) for seed in range(300)]
    file = write_parquet(tmp_path / "x.parquet", images)
    monkeypatch.setattr(parquet_module, "_IN_MEMORY", 50_000)
    monkeypatch.setattr(parquet_module, "_BATCH", 10_000)
    for row in (299, 0, 150, 151):
        np.testing.assert_array_equal(row_of(file, row, "image").pixels, decode_bytes(images[row], "x").pixels)


def test_bombs_in_parquet_are_refused(tmp_path: Path) -> None:
    image = bytes(2**20)
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3000, np.int32)), pa.array([image]))
    table = pa.table({"image": repeated})
    parquet.write_table(table, tmp_path / "dictionary.parquet", store_schema=False)  # read as 3000 images of their own
    bombs = [
        tmp_path / "dictionary.parquet",
        write_parquet(tmp_path / "zstd.parquet", [image] * 300, compression="zstd", use_dictionary=False),
    ]
    for file in bombs:
        with pytest.raises(SkyclassError, match="bombs"):
            row_of(file, 0, "image")


def test_a_false_offset_in_a_zip_is_refused(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "x", images=random_pixels(0, SIZE, 2))
    content = bytearray(file.read_bytes())
    content[26:28] = struct.pack("<H", 60_000)  # the length of the member's name in its own header
    file.write_bytes(content)
    with pytest.raises(SkyclassError, match=r"images"):
        row_of(file, 0)


def test_a_forked_process_opens_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    (tmp_path / "x").touch()
    kept = open_files.KeptOpen(lambda path: opened.append(path), 2)
    for process in (1, 1, 2):
        monkeypatch.setattr(open_files.os, "getpid", lambda process=process: process)
        kept.get(tmp_path / "x")
    assert len(opened) == 2


def test_a_bug_of_ours_is_no_damaged_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise TypeError("a bug of ours")

    np.savez(tmp_path / "a.npz", images=np.zeros((2, 3, 4, 5)), bands=np.array(["g", "r", "i"]))
    monkeypatch.setattr(array_files, "texts", bug)
    with pytest.raises(TypeError, match="a bug of ours"):
        assert array_files.open_npz(tmp_path / "a.npz").names_of_bands
