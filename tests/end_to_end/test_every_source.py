"""Every command of docs/sources.md, from the files it names to predictions: inspect, pack, train, predict."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from PIL import Image as pillow

from helpers.commands import done, write_toy_recipe
from helpers.make_data import class_folders, toy_image, write_image, write_table
from helpers.paths import PROJECT
from skyclass.data.packs.pack import Pack

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

PAGE = (PROJECT / "docs" / "sources.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(skyclass pack .*)$", PAGE, flags=re.MULTILINE)
SIZE = (24, 32)
CLASSES = ("blob", "ring")
N = 40
BANDS = ("g", "r", "i", "z", "y")
# The search for duplicates takes most of the time and does not depend on the source: these alone are searched.
SEARCHED = ("images", "stack.csv", "positions.csv")


def labels() -> list[str]:
    return [CLASSES[row % 2] for row in range(N)]


def toys(bands: int = 3) -> np.ndarray:
    """(N, bands, H, W) float32 in [0, 1]."""
    return np.stack([toy_image(label, row, SIZE, bands) for row, label in enumerate(labels())])


def bytes_of(pixels: np.ndarray) -> np.ndarray:
    return np.rint(255 * pixels).astype(np.uint8)


def folders(root: Path) -> None:
    class_folders(root / "images", CLASSES, per_class=N // 2, size=SIZE, formats=("png", "jpg", "tif", "webp", "gif"))


def lenses(root: Path) -> None:
    splits = {"train": 8, "val": 4, "test": 4}
    class_folders(root / "lenses", CLASSES, size=SIZE, formats=("npy",), bands=1, splits=splits)


def nights(root: Path) -> None:
    for night in ("night1", "night2"):
        class_folders(root / "nights" / night, CLASSES, per_class=N // 4, size=SIZE, seed=len(night) + int(night[-1]))


def surveys(root: Path) -> None:
    for survey, count in (("first", 16), ("vlass", 4)):
        class_folders(root / "surveys" / survey, CLASSES, per_class=count, size=SIZE, seed=count)


def table(name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for row, pixels in enumerate(bytes_of(toys())):
            write_image(root / "stamps" / f"stamp_{row}.png", pixels)
        files = [f"stamp_{row}.png" for row in range(N)]
        ids = [f"object-{row}" for row in range(N)]
        frame = pd.DataFrame({"objid": ids, "picture": files, "morphology": labels(), "redshift": np.linspace(0, 1, N)})
        if name == "labels.csv":
            frame = frame.assign(picture="stamps/" + frame["picture"])
        if name != "catalog.tsv":
            frame = frame.rename(columns={"picture": "filename", "morphology": "class"})
        write_table(root / name, frame)

    return make


def arrays_npz(root: Path) -> None:
    np.savez_compressed(root / "arrays.npz", images=bytes_of(toys()).transpose(0, 2, 3, 1), labels=labels())


def galaxy10(root: Path) -> None:
    with h5py.File(root / "Galaxy10.h5", "w") as file:
        file["images"] = bytes_of(toys()).transpose(0, 2, 3, 1)
        file["ans"] = np.arange(N, dtype=np.uint8) % 2
        file["redshift"] = np.linspace(0, 1, N)


def stack(root: Path) -> None:
    np.save(root / "stack.npy", toys(1)[:, 0])
    pd.DataFrame({"label": labels(), "magnitude": np.linspace(17, 20, N)}).to_csv(root / "stack.csv", index=False)


def split_arrays(root: Path) -> None:
    folders(root)
    done("pack", root / "images", root / "arrays", "--as", "npz", "--no-duplicates")


def zoo(root: Path) -> None:
    rng = np.random.default_rng(0)
    (root / "zoo").mkdir()
    votes = pd.DataFrame({"GalaxyID": np.arange(N) + 100_000})
    smooth = np.where(np.arange(N) % 2 == 0, 0.7, 0.2) + rng.uniform(0, 0.05, N)
    votes["Class1.1"], votes["Class1.2"], votes["Class1.3"] = smooth, 0.95 - smooth, 0.05
    odd = rng.uniform(0.05, 0.15, N) + np.where(np.arange(N) % 4 == 0, 0.75, 0)
    votes["Class6.1"], votes["Class6.2"] = 1 - odd, odd
    votes.loc[::4, "Class1.1"] = 0.5
    votes.loc[::2, "Class6.1"] = 0.1
    votes.loc[1::2, "Class6.1"] = 0.15
    votes.to_csv(root / "zoo/training_solutions_rev1.csv", index=False)
    for number, pixels in zip(votes["GalaxyID"], bytes_of(toys()), strict=True):
        write_image(root / f"zoo/images_training_rev1/{number}.jpg", pixels)


def shards(root: Path) -> None:
    pixels = bytes_of(toys()).transpose(0, 2, 3, 1)
    (root / "dataset/data").mkdir(parents=True)
    for name, rows in (("train-00000-of-00001", range(28)), ("test-00000-of-00001", range(28, N))):
        encoded = []
        for row in rows:
            stream = io.BytesIO()
            pillow.fromarray(pixels[row]).save(stream, "PNG")
            encoded.append({"bytes": stream.getvalue(), "path": None})
        columns = {"image": encoded, "label": [labels()[row] for row in rows]}
        pq.write_table(pa.table(columns), root / f"dataset/data/{name}.parquet")


def cubes(root: Path) -> None:
    class_folders(root / "cubes", CLASSES, per_class=N // 2, size=SIZE, formats=("fits",), bands=5)


def extensions(root: Path) -> None:
    for row, (label, pixels) in enumerate(zip(labels(), toys(3), strict=True)):
        bands = [fits.ImageHDU(100 * band, name=name) for name, band in zip("gri", pixels, strict=True)]
        (root / "extensions" / label).mkdir(parents=True, exist_ok=True)
        fits.HDUList([fits.PrimaryHDU(), *bands]).writeto(root / f"extensions/{label}/object_{row}.fits")


def band_files(root: Path) -> None:
    for row, (label, pixels) in enumerate(zip(labels(), toys(3), strict=True)):
        for name, band in zip("gri", pixels, strict=True):
            write_image(root / f"bands/{label}/object{row}_{name}.fits", band[None])


def filters(root: Path) -> None:
    for row, (label, pixels) in enumerate(zip(labels(), toys(5), strict=True)):
        (root / "filters" / label).mkdir(parents=True, exist_ok=True)
        np.savez(
            root / f"filters/{label}/object{row}.npz", images=pixels, filters=np.array(BANDS), psfs=np.zeros((5, 3, 3))
        )


def frame(root: Path) -> None:
    """A mosaic of 5 x 8 toys, each at a position of its own; those at the border reach over the edge."""
    height, width = SIZE
    pixels = np.block([[toy_image(labels()[8 * y + x], 8 * y + x, SIZE, 1)[0] for x in range(8)] for y in range(5)])
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0})
    header.update({"CRPIX1": 1.0, "CRPIX2": 1.0, "CDELT1": -1 / 3600, "CDELT2": 1 / 3600})
    fits.PrimaryHDU(pixels, header).writeto(root / "frame.fits")
    rows = np.arange(N)
    x, y = rows % 8 * width + width / 2, rows // 8 * height + height / 2
    positions = pd.DataFrame({"id": rows + 1, "class": labels(), "x": x, "y": y})
    positions.loc[0, "x"] = 3.0
    positions.to_csv(root / "positions.csv", index=False)


MADE = {
    "images": folders,
    "lenses": lenses,
    "nights": nights,
    "surveys": surveys,
    "arrays.npz": arrays_npz,
    "Galaxy10.h5": galaxy10,
    "stack.csv": stack,
    "arrays": split_arrays,
    "zoo/training_solutions_rev1.csv": zoo,
    "dataset": shards,
    "cubes": cubes,
    "extensions": extensions,
    "bands": band_files,
    "filters": filters,
    "positions.csv": frame,
    **{
        name: table(name)
        for name in ("labels.csv", *(f"catalog.{end}" for end in ("tsv", "parquet", "ecsv", "fits", "vot")))
    },
}


def test_every_source_of_the_page_is_made_and_run_here() -> None:
    assert len(COMMANDS) == 25
    assert {shlex.split(command)[2] for command in COMMANDS} == set(MADE)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=[shlex.split(command)[3] for command in COMMANDS])
def test_a_source_from_inspection_to_predictions(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, source, out, *options = shlex.split(command)
    monkeypatch.chdir(tmp_path)
    MADE[source](tmp_path)
    reading = [word for pair in zip(options[::2], options[1::2], strict=True) if pair[0] != "--pixels" for word in pair]
    search = () if source in SEARCHED else ("--no-duplicates",)
    done("inspect", source, "--out", "audit", *reading, *search)
    done("pack", source, out, *options, *search)
    packed = Pack.open(Path(out))
    assert len(packed.classes) >= 2
    assert len(packed.catalog) >= 32
    problems = pd.read_csv("audit/problems.csv")
    assert (problems["severity"] == "warning").all()
    done("train", write_toy_recipe(tmp_path), out, "--out", "run", "--set", "training.epochs=1")
    done("predict", "run", source, "--out", "predictions.parquet", *reading)
    predicted = pd.read_parquet("predictions.parquet")
    assert predicted["error"].isna().all()
    assert set(predicted["image_id"]) == set(packed.catalog["image_id"])
    # The same from the pack's own pixels: what is predicted does not depend on where the image lies.
    done("predict", "run", out, "--out", "again.parquet")
    again = pd.read_parquet("again.parquet").set_index("image_id").loc[predicted["image_id"]]
    columns = [name for name in predicted if name.startswith("p_")]
    np.testing.assert_allclose(predicted[columns], again[columns], atol=1e-5)
