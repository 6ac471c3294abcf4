"""What the fuzzer damages: for each kind a good file, the mutators of its format, and how Skyclass reads it.

Use it as `from fuzz_kinds import KINDS`.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import imagecodecs
import numpy as np
import pandas as pd
import pyarrow as pa
import tifffile
from astropy.io import fits
from pyarrow import parquet

import mutators
from artefact_mutators import JSON, SAFETENSORS, YAML, ZIP
from bad_reader import read_badly
from hostile import compressed, plain
from make_data import random_pixels, write_image, write_table
from skyclass.data.sources import read_source
from skyclass.images import read_image
from skyclass.stacks import read_column, stack_arrays

SIZE = (20, 28)
ARTEFACTS = Path(__file__).parent / "data" / "written_by_0_1"


class Kind(NamedTuple):
    """How a good file is written and damaged, and how it is read.

    write : makes the file, whose path it is given, and gives the path of what is damaged (the file or one beside it)
    read : raises AssertionError where what is read cannot be; True where something was
    """

    write: Callable[[Path], Path]
    mutate: mutators.Mutator
    read: Callable[[Path], Any]


# Images


def as_image(address: str, file: Path) -> None:
    image = read_image(address.format(file=file))
    assert image.pixels.ndim == 3
    assert len(image.bands) == len(image.pixels)
    assert image.pixels.size
    if "::images" in address:
        for name, (shape, _) in stack_arrays(file).items():
            if len(shape) == 1:
                assert len(read_column(file, name)) == shape[0], name


def picture(suffix: str, dtype: str = "uint8") -> Callable[[Path], Path]:
    return lambda path: write_image(path.with_suffix(suffix), random_pixels(0, SIZE, 3, dtype)).rename(path)


def written(write: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write_it(path: Path) -> Path:
        write(path)
        return path

    return write_it


def content(make: Callable[[], bytes]) -> Callable[[Path], Path]:
    return written(lambda path: path.write_bytes(make()))


def deep_png() -> bytes:
    return bytes(imagecodecs.png_encode(random_pixels(0, SIZE, 3, "uint16").transpose(1, 2, 0).copy()))


def tiles() -> bytes:
    stream = io.BytesIO()
    pixels = random_pixels(0, (48, 64), 3, "uint16")
    tifffile.imwrite(stream, pixels, compression="zlib", tile=(16, 16), photometric="minisblack")
    return stream.getvalue()


def cube() -> bytes:
    stream = io.BytesIO()
    fits.PrimaryHDU(random_pixels(0, SIZE, 3, "float32")).writeto(stream)
    return stream.getvalue()


def arrays(*, packed: bool) -> bytes:
    stream = io.BytesIO()
    images, save = random_pixels(0, SIZE, 4), np.savez_compressed if packed else np.savez
    save(stream, images=images, filters=np.array(["g"] if packed else list("griz")), psf=np.zeros((3, 3)))
    return stream.getvalue()


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        pixels = random_pixels(0, SIZE, 8)
        file.create_dataset("images", data=pixels, chunks=(2, *SIZE), compression="gzip", shuffle=True)
        file.create_dataset("filters", data=["g"], dtype=h5py.string_dtype())
        file["group/ans"] = np.arange(8)


def hdf5_latest(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("images", data=random_pixels(0, SIZE, 8), chunks=(1, *SIZE), maxshape=(None, *SIZE))
        file["group/ans"] = np.arange(8)


def encoded_images(path: Path) -> None:
    jpeg = write_image(path.with_suffix(".jpg"), random_pixels(0, SIZE)).read_bytes()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parquet.write_table(pa.table({"image": pa.array([{"bytes": jpeg, "path": "x"}] * 6, kind)}), path, row_group_size=3)


def image(write: Callable[[Path], Path], mutate: mutators.Mutator, address: str = "{file}") -> Kind:
    return Kind(write, mutate, partial(as_image, address))


IMAGES = {
    "jpeg": image(picture(".jpg"), mutators.BYTES),
    "png": image(picture(".png"), mutators.PNG),
    "png_16": image(content(deep_png), mutators.PNG),
    "webp": image(picture(".webp"), mutators.BYTES),
    "gif": image(picture(".gif"), mutators.BYTES),
    "tiff": image(picture(".tif"), mutators.BYTES),
    "tiff_tiles": image(content(tiles), mutators.BYTES),
    "npy": image(picture(".npy", "float32"), mutators.BYTES),
    "npy_rows": image(picture(".npy"), mutators.BYTES, "{file}::[1]"),
    "npz": image(picture(".npz"), ZIP),
    "npz_bands": image(content(partial(arrays, packed=False)), ZIP),
    "npz_rows": image(content(partial(arrays, packed=True)), ZIP, "{file}::images[3]"),
    "fits": image(content(cube), mutators.FITS),
    "fits_extensions": image(content(plain), mutators.FITS),
    **{
        f"fits_{kind.lower()}": image(content(partial(compressed, kind, dtype)), mutators.FITS)
        for kind, dtype in (
            ("RICE_1", "float32"),
            ("GZIP_2", "float32"),
            ("HCOMPRESS_1", "int16"),
            ("PLIO_1", "int16"),
        )
    },
    "fits_pixel": image(content(partial(compressed, "HCOMPRESS_1")), mutators.FITS, "{file}::pixel(9,9)[9x13]"),
    "fits_sky": image(content(plain), mutators.FITS, "{file}::sky(10.1,2.1)[9x13]"),
    "hdf5": image(written(hdf5), mutators.HDF5, "{file}::images[5]"),
    "hdf5_latest": image(written(hdf5_latest), mutators.HDF5, "{file}::images[5]"),
    "parquet": image(written(encoded_images), mutators.PARQUET, "{file}::image[4]"),
}

# Tables


def table(suffix: str, mutate: mutators.Mutator) -> Kind:
    """A table with every type of column, whose images exist; a packed mutant has the same suffix."""

    def write(path: Path) -> Path:
        frame = pd.DataFrame(
            {
                "id": [f"obj{i}" for i in range(12)],
                "label": ["spiral", "", "ring"] * 4,
                "split": ["train", "val", "test", "train"] * 3,
                "ra": np.linspace(0, 359, 12),
                "dec": ["-01:02:03", "12.5"] * 6,
                "counts": np.arange(12, dtype=np.int16),
                "good": [True, False] * 6,
            }
        )
        for name in frame["id"]:
            path.with_name(f"{name}.png").touch()
        return write_table(path.with_name(path.name + suffix), frame)

    def read(file: Path) -> None:
        assert len(read_source(file).catalog)

    return Kind(write, mutate, read)


TABLES = {
    "table_csv": table(".csv", mutators.BYTES),
    "table_tsv": table(".tsv", mutators.BYTES),
    "table_ecsv": table(".ecsv", mutators.BYTES),
    "table_votable": table(".vot", mutators.VOTABLE),
    "table_fits": table(".fits", mutators.FITS),
    "table_parquet": table(".parquet", mutators.PARQUET),
}

# Our own artefacts, as the first version wrote them: a copy of the folder, one file of which is damaged


def artefact(folder: str, file: str, mutate: mutators.Mutator, read: Callable[[Path], Any]) -> Kind:
    def write(path: Path) -> Path:
        shutil.copytree(ARTEFACTS / folder, path)
        return path / file

    return Kind(write, mutate, lambda damaged: read(Path(str(damaged).removesuffix(file)[:-1])))


def read_pack(folder: Path) -> None:
    from skyclass.data.pack import Pack

    pack = Pack.open(folder)
    assert len(pack.images) == len(pack.catalog)
    assert pack.bands
    assert pack.pixels
    read_source(folder)


def read_classifier(folder: Path) -> None:
    from skyclass.classifier import Classifier

    table = Classifier.load(folder).predict([str(next((ARTEFACTS / "images").rglob("*.*")))])
    assert len(table) == 1


def read_run(folder: Path) -> None:
    from skyclass.run import Run

    run = Run.open(folder)
    run.origin()
    run.legs()
    run.turned_to()
    run.wants_rate()
    run.recipe()


def read_recipe(folder: Path) -> None:
    from skyclass.recipe import load_recipe

    load_recipe(folder / "recipe.yaml")


def read_metrics(folder: Path) -> None:
    from skyclass.verbs.report import report

    report(folder, out=folder / "report.html")


def read_last(folder: Path) -> None:
    from skyclass.training.checkpoints import best_names, read_checkpoint, stand_of

    checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    stand_of(checkpoint)
    best_names(checkpoint)


def read_table_of_predictions(folder: Path) -> None:
    from skyclass.prediction_formats import read_predictions

    read_predictions(folder / "predictions.parquet")


OUR_OWN = {
    "pack_json": artefact("packs/uint8", "pack.json", JSON, read_pack),
    "pack_catalog": artefact("packs/uint8", "catalog.parquet", mutators.PARQUET, read_pack),
    "pack_images": artefact("packs/uint8", "images.npy", mutators.BYTES, read_pack),
    "classifier_json": artefact("classifiers/own", "classifier.json", JSON, read_classifier),
    "classifier_weights": artefact("classifiers/own", "model.safetensors", SAFETENSORS, read_classifier),
    "run_json": artefact("runs/interrupted", "run.json", JSON, read_run),
    "run_recipe": artefact("runs/interrupted", "recipe.yaml", YAML, read_recipe),
    "run_metrics": artefact("runs/ended", "evaluation/metrics.json", JSON, read_metrics),
    "run_last": artefact("runs/interrupted", "checkpoints/last.ckpt", ZIP, read_last),
    "run_predictions": artefact("runs/ended", "predictions.parquet", mutators.PARQUET, read_table_of_predictions),
}

KINDS: dict[str, Kind] = {**IMAGES, **TABLES, **OUR_OWN}

# The fuzzer's own test

if "FUZZ_BROKEN_READER" in os.environ:
    KINDS["npy"] = KINDS["npy"]._replace(read=read_badly)
