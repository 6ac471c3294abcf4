"""Makes every image the tests need: toy classes that a tiny network can tell apart, in every format, and bad files.

Use it as `from make_data import class_folders, image_table, bad_files`.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from astropy.io import fits
from astropy.table import Table
from PIL import Image as pillow

Size = tuple[int, int]


def random_pixels(seed: int, size: Size, bands: int = 3, dtype: str = "uint8") -> np.ndarray:
    """(bands, height, width) of noise: integers over their whole range, floats around zero."""
    rng = np.random.default_rng(seed)
    shape = (bands, *size)
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def toy_image(shape: str, seed: int, size: Size, bands: int = 3) -> np.ndarray:
    """(bands, height, width) float32 in [0, 1]: a `blob`, `ring`, `bar` or `gradient` of random place, width, noise."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y = (y - (height - 1) / 2) / height * 2 + rng.uniform(-0.2, 0.2)
    x = (x - (width - 1) / 2) / width * 2 + rng.uniform(-0.2, 0.2)
    radius, wide = np.hypot(x, y), rng.uniform(0.15, 0.25)
    light = {
        "blob": np.exp(-((radius / wide) ** 2)),
        "ring": np.exp(-(((radius - 0.6) / (wide / 2)) ** 2)),
        "bar": np.exp(-((y / (wide / 2)) ** 2)),
        "gradient": (x + 1.2) / 2.4,
    }[shape]
    colours = np.linspace(1.0, 0.8, bands, dtype=np.float32)[:, None, None]
    noise = rng.normal(0, 0.03, (bands, height, width))
    return np.clip(0.05 + 0.85 * light * colours + noise, 0, 1).astype(np.float32)


def write_image(path: Path, pixels: np.ndarray) -> Path:
    """Write (C, H, W) pixels in the format of the suffix; JPEG, PNG, WebP and GIF need uint8 of 1 or 3 bands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        np.save(path, pixels)
    elif suffix == ".npz":
        np.savez_compressed(path, image=pixels)
    elif suffix in (".fits", ".fit", ".fts"):
        fits.PrimaryHDU(pixels[0] if len(pixels) == 1 else pixels).writeto(path)
    elif suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels)
    else:
        picture = pillow.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        picture.save(path, **({"quality": 95} if suffix in (".jpg", ".jpeg") else {}))
    return path


def write_jpeg(path: Path, seed: int, size: Size = (24, 32)) -> Path:
    """A JPEG of three bands with a blob in it."""
    return write_image(path, _as_uint8(toy_image("blob", seed, size)))


def _as_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.rint(pixels * 255).astype(np.uint8)


def _write_toy(path: Path, shape: str, seed: int, size: Size, bands: int) -> Path:
    pixels = toy_image(shape, seed, size, bands)
    return write_image(path, pixels if path.suffix in (".npy", ".npz", ".fits") else _as_uint8(pixels))


def _shape_of(classes: Sequence[str], label: str) -> str:
    shapes = ("blob", "ring", "bar", "gradient")
    return label if label in shapes else shapes[classes.index(label) % len(shapes)]


def class_folders(
    root: Path,
    classes: Sequence[str] = ("blob", "ring", "gradient"),
    per_class: int = 4,
    size: Size = (24, 32),
    formats: Sequence[str] = ("png",),
    splits: Mapping[str, int] | None = None,
    bands: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """A folder a class with `per_class` toy images each, in turn of each of the `formats`.

    With `splits`, such as {"train": 8, "val": 2, "test": 2}, the folders are root/split/class, so many images each, and
    `per_class` is not used. A class of another name takes its shape from its place in `classes`. Returns `file`
    (relative to root), `label` and `split` ("" without splits).
    """
    rows = []
    for split, count in (splits or {"": per_class}).items():
        for label in classes:
            for i in range(count):
                number = zlib.crc32(f"{seed} {split} {label} {i}".encode())
                file = Path(split) / label / f"{label}_{i:03d}.{formats[i % len(formats)]}"
                _write_toy(root / file, _shape_of(classes, label), number, size, bands)
                rows.append((file.as_posix(), label, split))
    return pd.DataFrame(rows, columns=["file", "label", "split"])


def image_table(
    root: Path,
    classes: Sequence[str] = ("blob", "ring", "gradient"),
    per_class: int = 4,
    size: Size = (24, 32),
    formats: Sequence[str] = ("png",),
    bands: int = 3,
    seed: int = 0,
) -> Path:
    """Toy images in root/images and a table root/labels.csv of image_id, file, label, ra and dec; returns the table."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(per_class * len(classes)):
        label = classes[i % len(classes)]
        file = f"images/{i:04d}.{formats[i // len(classes) % len(formats)]}"
        _write_toy(root / file, _shape_of(classes, label), seed * 10_000 + i, size, bands)
        rows.append((f"object-{i:04d}", file, label, rng.uniform(0, 360), rng.uniform(-90, 90)))
    table = root / "labels.csv"
    pd.DataFrame(rows, columns=["image_id", "file", "label", "ra", "dec"]).to_csv(table, index=False)
    return table


def vote_table(
    root: Path, questions: Mapping[str, Sequence[str]], count: int = 12, size: Size = (24, 32), seed: int = 0
) -> Path:
    """Galaxy Zoo's layout: root/images/ID.jpg; root/votes.csv of GalaxyID and vote fractions, one in sum a question.

    questions : {"Class1": ["Class1.1", "Class1.2"], ...}; the shape of an image follows the winner of the first one
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        votes: dict[str, float] = {"GalaxyID": 100_000 + i}
        for answers in questions.values():
            votes |= dict(zip(answers, rng.dirichlet(np.full(len(answers), 0.3)), strict=True))
        first = next(iter(questions.values()))
        winner = max(first, key=votes.__getitem__)
        _write_toy(root / f"images/{100_000 + i}.jpg", _shape_of(first, winner), seed * 10_000 + i, size, 3)
        rows.append(votes)
    table = root / "votes.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


def bad_files(root: Path) -> dict[str, str]:
    """Files that cannot be read as images; returns name -> a word that the refusal must hold."""
    root.mkdir(parents=True, exist_ok=True)
    fits.BinTableHDU(np.zeros(3, [("ra", "f8")])).writeto(root / "table.fits")
    bytes_and_words = {
        "empty.jpg": (b"", "empty"),
        "text.png": (b"<html>404 Not Found</html>\n", "begins as text"),
        "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "begins as text"),
        "noise.png": (bytes(range(32)), "not an image"),
        "huge.png": (_png_header(100_000, 100_000, depth=8), "more than"),
        "huge_16_bit.png": (_png_header(100_000, 100_000, depth=16), "more than"),
        "huge.npy": (_npy_header((3, 1_000_000, 1_000_000)), "more than"),
    }
    for name, (data, _) in bytes_and_words.items():
        (root / name).write_bytes(data)
    words = {name: word for name, (_, word) in bytes_and_words.items()}
    return words | {"table.fits": "without an image"} | _cut_files(root) | _wrong_arrays(root)


def _cut_files(root: Path) -> dict[str, str]:
    """One file of each format that ends in the middle of its pixels or of its header."""
    noise = random_pixels(0, (48, 64))
    header_bytes = {"cut_in_header.jpg": 12, "cut_in_header.fits": 400, "cut_in_header.npy": 40}
    names = [f"cut.{suffix}" for suffix in ("jpg", "png", "webp", "gif", "tif", "fits", "npy", "npz")]
    for name in (*names, *header_bytes):
        data = write_image(root / name, noise).read_bytes()
        (root / name).write_bytes(data[: header_bytes.get(name, len(data) // 2)])
    deep = imagecodecs.png_encode(random_pixels(0, (48, 64), dtype="uint16").transpose(1, 2, 0).copy())
    packed = gzip.compress((root / "cut.fits").read_bytes())
    (root / "cut_16_bit.png").write_bytes(deep[: len(deep) // 2])
    (root / "cut.fits.gz").write_bytes(packed[: len(packed) // 2])
    return dict.fromkeys((*names, *header_bytes, "cut_16_bit.png", "cut.fits.gz"), "ends early")


def _wrong_arrays(root: Path) -> dict[str, str]:
    """NumPy files that hold something else than one image."""
    objects = np.empty(2, dtype=object)
    objects[:] = [np.zeros((4, 6)), "mass"]
    arrays_and_words = {
        "pickled.npy": (objects, "pickled"),
        "structured.npy": (np.zeros((4, 6), [("x", "f4"), ("y", "f4")]), "structured"),
        "complex.npy": (np.zeros((4, 6), complex), "type <c16"),
        "vector.npy": (np.zeros(24), "not an image"),
        "volume.npy": (np.zeros((2, 3, 4, 6)), "not an image"),
        "no_bands.npy": (np.zeros((20, 24, 30)), "the bands"),
        "no_pixels.npy": (np.zeros((0, 24, 30)), "without pixels"),
    }
    for name, (array, _) in arrays_and_words.items():
        np.save(root / name, array)
    np.savez(root / "many.npz", images=np.zeros((3, 4, 6)), psfs=np.zeros((3, 4, 6)))
    return {name: word for name, (_, word) in arrays_and_words.items()} | {"many.npz": "2 arrays"}


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """A .npy file that declares a shape and has no data."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _png_header(width: int, height: int, depth: int) -> bytes:
    """A PNG that declares a size and has next to no data: a decompression bomb."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    start = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def odd_files(root: Path) -> list[Path]:
    """Files that are readable and of little use: an all-zero PNG, a constant NPY, FITS with some and with only NaN."""
    pixels = random_pixels(0, (24, 32), bands=1, dtype="float32")
    pixels[0, :3, :5] = np.nan
    return [
        write_image(root / "zero.png", np.zeros((1, 24, 32), np.uint8)),
        write_image(root / "constant.npy", np.full((1, 24, 32), 7, np.float32)),
        write_image(root / "nan.fits", pixels),
        write_image(root / "all_nan.fits", np.full((1, 24, 32), np.nan, np.float32)),
    ]


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    """A table in the format of the suffix: .csv, .tsv, .parquet, .ecsv, .fits(.gz), .vot, .votable, .xml(.gz)."""
    name = path.name.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith((".csv", ".tsv")) and not name.endswith(".ecsv"):
        frame.to_csv(path, index=False, sep="\t" if name.endswith(".tsv") else ",")
    elif name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
    elif name.endswith(".ecsv"):
        Table.from_pandas(frame).write(path, format="ascii.ecsv")
    elif ".fits" in name:
        Table.from_pandas(frame).write(path, format="fits")
    else:
        plain = path.with_name(path.name.removesuffix(".gz"))
        Table.from_pandas(frame).write(plain, format="votable")
        if path != plain:
            path.write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
    return path


def sky_frame(path: Path, size: Size = (60, 80), seed: int = 0) -> Path:
    """A FITS mosaic of (height, width) noise with a tangential WCS: 1 arcsec a pixel about RA 150, Dec 2 degrees."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = 150.0, 2.0
    header["CRPIX1"], header["CRPIX2"] = (size[1] + 1) / 2, (size[0] + 1) / 2
    header["CDELT1"], header["CDELT2"] = -1 / 3600, 1 / 3600
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(random_pixels(seed, size, 1, "float32")[0], header).writeto(path)
    return path


def parquet_images(
    path: Path, labels: Sequence[int], names: Sequence[str], size: Size = (6, 8), struct: bool = True
) -> Path:
    """A Parquet file as the Hugging Face libraries save image data sets: PNG bytes, labels and their names."""
    pictures = []
    for seed, _ in enumerate(labels):
        stream = io.BytesIO()
        pillow.fromarray(np.ascontiguousarray(random_pixels(seed, size).transpose(1, 2, 0))).save(stream, "PNG")
        pictures.append(stream.getvalue())
    image = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(pictures)] if struct else pictures
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    said = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": image, "label": pa.array(labels, pa.int64())}).replace_schema_metadata(said)
    pq.write_table(table, path)
    return path
