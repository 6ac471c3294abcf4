"""`explain`, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from matplotlib.figure import Figure

from conftest import SmallRun
from helpers.commands import CLASSES, copy_toy_run, done, drawn, refused
from helpers.make_data import class_folders, toy_image, write_image, write_jpeg
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run
from skyclass.explanation import output
from skyclass.explanation.figures import class_sheet, explanation_figure
from skyclass.explanation.methods import METHODS
from skyclass.models.resnet_cifar import ResNetCifar
from skyclass.recipes.data_settings import PixelSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(toy_run: Path) -> Path:
    """Class folders `images`, `pack`, `toy.yaml` and a finished `run`."""
    return toy_run


def explained(*words: object, out: Path) -> pd.DataFrame:
    done("explain", *words, "--out", out)
    table = pd.read_csv(out / "explanations.csv")
    assert all(drawn(out / name) for name in table["picture"])
    return table


def test_explain_draws_the_test_images_and_a_sheet_of_every_class(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    done("explain", run)
    table = pd.read_csv(run / "explanations" / "explanations.csv")
    assert table["image_id"].str.startswith("test/").all()
    assert table["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 4)  # four each, of at most six
    assert table["explained"].tolist() == table["predicted"].tolist()
    names = {*table["picture"], *(f"class-{name}.png" for name in CLASSES)}
    if (table["label"] != table["predicted"]).any():
        names.add("mistakes.png")
    assert {path.name for path in (run / "explanations").glob("*.png")} == names
    assert all(drawn(run / "explanations" / name) for name in names)


def test_what_is_explained_can_be_chosen(place: Path, tmp_path: Path) -> None:
    run = place / "run"
    ids = ["test/bar/bar_001", "train/ring/ring_000"]
    chosen = explained(run, "--image", ids[0], "--image", ids[1], out=tmp_path / "a")
    assert chosen["image_id"].tolist() == ids
    two = explained(run, "--per-class", 2, "--target", "true", out=tmp_path / "b")
    assert two["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 2)
    assert two["explained"].tolist() == two["label"].tolist()
    maps = {}
    for target in CLASSES:
        one = explained(run, "--image", ids[0], "--target", target, out=tmp_path / target)
        assert one["explained"].tolist() == [target]
        maps[target] = (tmp_path / target / one["picture"].item()).read_bytes()
    assert len(set(maps.values())) == 3


def test_explain_takes_images_that_are_not_in_the_pack(place: Path, tmp_path: Path) -> None:
    classifier = place / "run" / "classifier"
    write_jpeg(tmp_path / "new" / "b.jpg", 3)
    (tmp_path / "new" / "a.png").write_text("no picture")
    result = done("explain", classifier, tmp_path / "new", "--target", "true", "--out", tmp_path / "folder")
    assert "left out" in result.err
    assert "a.png" in result.err
    table = pd.read_csv(tmp_path / "folder" / "explanations.csv")
    assert table["image_id"].tolist() == ["b"]
    assert table["label"].isna().all()
    assert table["explained"].tolist() == table["predicted"].tolist()  # without a label, the prediction
    assert len(explained(classifier, tmp_path / "new" / "b.jpg", out=tmp_path / "file")) == 1
    listing = tmp_path / "list.csv"
    pd.DataFrame({"file": ["b.jpg"], "label": ["ring"]}).to_csv(listing, index=False)
    listed = explained(classifier, listing, "--image-root", tmp_path / "new", out=tmp_path / "table")
    assert listed["label"].tolist() == ["ring"]
    assert "none of the chosen images can be read" in refused("explain", classifier, tmp_path / "new/a.png")


def test_explain_refuses_another_pack_in_the_place_of_the_runs_own(toy_run: Path, tmp_path: Path) -> None:
    place = copy_toy_run(toy_run, tmp_path)
    meta = json.loads((place / "pack" / "pack.json").read_text())
    del meta["content_sha256"]
    (place / "pack" / "pack.json").write_text(json.dumps({**meta, "hash": "another"}))
    said = refused("explain", place / "run", "--out", tmp_path / "out")
    assert "the pack has changed since the run was trained on it; name the images to explain after the run" in said
    assert len(explained(place / "run", place / "pack", "--per-class", 1, out=tmp_path / "out"))


def test_explain_again_replaces_its_own_pictures_alone(place: Path, tmp_path: Path) -> None:
    mine = write_image(tmp_path / "out" / "mine.png", np.full((1, 8, 9), 3, np.uint8))
    explained(place / "run", "--per-class", 2, out=tmp_path / "out")
    second = explained(place / "run", "--image", "test/bar/bar_001", out=tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert names == {mine.name, second["picture"].item(), "class-bar.png"}


def test_an_image_without_a_label_is_not_captioned_with_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []

    def titled(image: np.ndarray, heatmap: np.ndarray, title: str) -> Figure:
        titles.append(title.splitlines())
        return explanation_figure(image, heatmap, title)

    monkeypatch.setattr(output, "explanation_figure", titled)
    class_folders(tmp_path / "images", CLASSES, per_class=3)
    write_jpeg(tmp_path / "images" / "loose.jpg", 3)
    done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates")
    words = ("--image", "loose", "--image", "bar/bar_000", "--target", "ring")
    table = explained(place / "run", tmp_path / "pack", *words, out=tmp_path / "out")
    assert [title[0] for title in titles] == table["image_id"].tolist() == ["bar/bar_000", "loose"]
    assert titles[0][1] == "true bar"
    assert titles[1][1].startswith("predicted ")


def test_every_method_draws_its_own_maps(place: Path, tmp_path: Path) -> None:
    drawn_maps = set()
    for method in METHODS:
        out = tmp_path / method
        table = explained(place / "run", "--image", "test/bar/bar_001", "--method", method, out=out)
        assert table["method"].tolist() == [method]
        drawn_maps.add((out / table["picture"].item()).read_bytes())
    assert len(drawn_maps) == len(METHODS)
    said = refused("explain", place / "run", "--method", "lime", "--out", tmp_path / "no")
    assert (
        "no method of explanation is called 'lime'; the methods are gradcam, gradcam++, layercam, integrated-" in said
    )
    assert not (tmp_path / "no").exists()


def test_a_layer_is_drawn_listed_and_written_into_fits(place: Path, tmp_path: Path) -> None:
    image = ("--image", "test/bar/bar_001", "--fits")
    maps = {}
    for layer, cells in ((None, "6x8"), ("layer3", "6x8"), ("layer2", "12x16")):
        out = tmp_path / str(layer)
        table = explained(place / "run", *image, *(("--layer", layer) if layer else ()), out=out)
        assert table["cells"].item() == cells
        maps[layer], header = fits.getdata(out / table["map"].item(), header=True)
        assert header.get("LAYER") == layer
        assert table["layer"].item() == layer or (layer is None and table["layer"].isna().all())
    np.testing.assert_allclose(maps["layer3"], maps[None], atol=1e-5)
    assert not np.allclose(maps["layer2"], maps[None], atol=0.05)
    words = (place / "run", *image, "--out", tmp_path / "out")
    explained(*words[:-2], out=tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert "no module 'layer9'; did you mean 'layer" in refused("explain", *words, "--layer", "layer9")
    assert "integrated-gradients are of the image itself" in refused(
        "explain", *words, "--layer", "layer2", "--method", "integrated-gradients"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before  # nothing is lost to a slip
    pixel_by_pixel = explained(*words[:-2], "--method", "integrated-gradients", out=tmp_path / "out")
    assert pixel_by_pixel[["layer", "cells"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("words", "cells", "said"),
    [
        (
            (),
            "3x4",
            "3x4 cells, to which the backbone shrinks images of 12x16 pixels: --layer layer2 shows 6x8; larger",
        ),
        (("--layer", "layer3.1"), "3x4", "to which layer3.1 shrinks images of 12x16 pixels: --layer layer2 shows 6x8"),
        (("--layer", "layer2"), "6x8", None),
        (("--method", "integrated-gradients"), "", None),
    ],
)
def test_maps_of_few_cells_are_told_of(
    words: tuple[str, ...], cells: str, said: str | None, small_run: SmallRun, tmp_path: Path
) -> None:
    result = done("explain", small_run.run, *words, "--per-class", 2, "--out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "explanations.csv", dtype=str, keep_default_na=False)
    assert set(table["cells"]) == {cells}
    told = " ".join(result.err.split())
    assert told.count("The maps have") == (said is not None)
    assert said is None or (said in told and "larger images (pixels.size) show more" in told)


def test_a_backbone_that_names_no_stages_is_told_of_without_one(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ResNetCifar, "feature_info")
    result = done("explain", small_run.run, "--per-class", 1, "--out", tmp_path / "out")
    assert "shrinks images of 12x16 pixels: larger images (pixels.size)" in " ".join(result.err.split())


def test_the_sheet_of_mistakes_shows_the_surest_first(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(place / "run", run.path)
    frame = pd.read_parquet(run.predictions_file)
    test = frame.index[frame["split"] == "test"]
    frame.loc[test, "predicted"] = frame.loc[test, "label"]
    wrong = test[[1, 5, 9]]
    frame.loc[wrong, "predicted"] = [next(c for c in CLASSES if c != label) for label in frame.loc[wrong, "label"]]
    frame.loc[wrong, "confidence"] = [0.5, 0.9, 0.7]
    write_predictions(frame, place / "run", run.predictions_file)
    titles = {}

    def sheet(images: list[np.ndarray], maps: list[np.ndarray], captions: list[str], title: str) -> Figure:
        titles[title.split()[0]] = [caption.splitlines()[0] for caption in captions]
        return class_sheet(images, maps, captions, title=title)

    monkeypatch.setattr(output, "class_sheet", sheet)
    done("explain", run.path, "--per-class", 1)
    assert titles["Most"] == frame.loc[wrong[[1, 2, 0]], "image_id"].tolist()
    assert drawn(run.explanations / "mistakes.png")
    done("explain", run.path, "--image", "test/bar/bar_001")
    assert not (run.explanations / "mistakes.png").exists()
    # of a source with labels: among the images explained
    for name, other in zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True):
        shutil.copytree(place / "images" / "test" / name, tmp_path / "other" / other)
    done("explain", run.path, tmp_path / "other", "--out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "explanations.csv")
    surest = table[table["predicted"] != table["label"]].sort_values("confidence", ascending=False, kind="stable")
    assert len(surest) >= 4
    assert titles["Most"] == surest["image_id"].head(12).tolist()


def write_predictions(frame: pd.DataFrame, like: Path, path: Path) -> None:
    """Predictions with the metadata of another run's."""
    schema = pq.read_schema(Run(like).predictions_file)
    pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), path)


# FITS maps


def sky_header() -> fits.Header:
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1, "CRVAL2": 2.2, "CRPIX1": 40.0})
    header.update({"CRPIX2": 30.0, "CD1_1": -1e-4, "CD1_2": 1e-5, "CD2_1": 2e-5, "CD2_2": 1e-4, "OBJECT": "nothing"})
    return header


@pytest.fixture(scope="module")
def cropping(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's classifier, made to cut the central 40x60 pixels out of an image and to shrink them to 20x32."""
    model = Classifier.load(place / "run", "cpu")
    rgb = ("red", "green", "blue")
    shape = {"crop": (40, 60), "size": (20, 32), "fit": "distort"}
    model.pixels = [PixelSettings(bands=rgb, interval="minmax", dtype="float32", **shape)]
    return model.save(tmp_path_factory.mktemp("cropping"))


@pytest.mark.parametrize("method", ["gradcam", "integrated-gradients"])
def test_a_fits_map_lies_over_the_sky_of_its_image(method: str, cropping: Path, tmp_path: Path) -> None:
    pixels, header = toy_image("blob", 3, (57, 81), bands=1)[0] * 1000.0, sky_header()
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / "a.fits")
    words = (cropping, tmp_path / "a.fits", "--target", "ring", "--method", method, "--fits")
    table = explained(*words, out=tmp_path / "out")
    heatmap = Classifier.load(cropping, "cpu").explain([tmp_path / "a.fits"], "ring", method=method).heatmaps[0]
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    x, y = 10 + (column + 0.5) * 60 / 32 - 0.5, 8 + (row + 0.5) * 2 - 0.5  # 81 - 60 leaves 10 before, 57 - 40 leaves 8
    with fits.open(tmp_path / "out" / table["map"].item()) as hdus:
        found, cards = hdus[0].data, hdus[0].header
    assert found.shape == (57, 81)
    assert np.isfinite(found[8:48, 10:70]).all()
    assert np.isnan(found).sum() == 57 * 81 - 40 * 60
    assert (cards["EXPLAINS"], cards["METHOD"], cards["OBJECT"]) == ("ring", method, "a")
    peak_y, peak_x = np.unravel_index(np.nanargmax(found), found.shape)
    expected = WCS(header).pixel_to_world(x, y)
    assert WCS(cards).pixel_to_world(peak_x, peak_y).separation(expected).deg < 1.1 * 1.1e-4  # about a pixel


def test_fits_maps_of_files_without_a_sky_and_of_packs(place: Path, tmp_path: Path) -> None:
    run = place / "run"
    table = explained(run, "--per-class", 1, "--fits", out=tmp_path / "a")
    assert all(fits.getdata(tmp_path / "a" / name).shape == (24, 32) for name in table["map"])
    assert "CTYPE1" not in fits.getheader(tmp_path / "a" / table["map"][0])
    without = explained(run, "--per-class", 1, out=tmp_path / "a")
    assert without["map"].isna().all()
    assert not list((tmp_path / "a").glob("*.fits"))  # those of before are gone
    done("simulate", "lensing", tmp_path / "lenses", "--per-class", 4, "--size", 24)
    words = ("--set", "training.epochs=1", "--set", "training.batch_size=6", "--device", "cpu")
    done("train", place / "toy.yaml", tmp_path / "lenses", "--out", tmp_path / "lens-run", *words)
    simulated = explained(tmp_path / "lens-run", "--per-class", 1, "--fits", out=tmp_path / "b")
    assert fits.getdata(tmp_path / "b" / simulated["map"][0]).shape == (24, 24)


def test_maps_of_a_pack_go_back_to_its_files(place: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    for name in CLASSES:
        for number in range(4):
            pixels = toy_image(name, number, (57, 81), bands=3)
            path = files / name / f"{name}{number}.fits"
            path.parent.mkdir(parents=True, exist_ok=True)
            header = sky_header()
            header["FILTERS"] = "red,green,blue"
            fits.PrimaryHDU(pixels, header).writeto(path)
    choices = ("--pixels", "crop=[40,60]", "--pixels", "size=[20,32]", "--pixels", "interval=minmax")
    done("pack", files, tmp_path / "pack", "--no-duplicates", *choices)
    done("train", place / "toy.yaml", tmp_path / "pack", "--out", tmp_path / "run", "--set", "training.epochs=1")
    table = explained(tmp_path / "run", tmp_path / "pack", "--per-class", 1, "--fits", out=tmp_path / "out")
    with fits.open(tmp_path / "out" / table["map"][0]) as hdus:
        assert np.isnan(hdus[0].data).sum() == 57 * 81 - 40 * 60
        assert hdus[0].header["CRPIX1"] == 40.0


# Grades


def test_grades_of_a_run_on_lenses(place: Path, tmp_path: Path) -> None:
    done("simulate", "lensing", tmp_path / "lenses", "--per-class", 5, "--size", 16)
    words = ("--set", "training.epochs=1", "--set", "training.batch_size=6", "--device", "cpu")
    run = tmp_path / "run"
    done("train", place / "toy.yaml", tmp_path / "lenses", "--out", run, *words)
    source = (run, tmp_path / "lenses", "--per-class", 1, "--target", "true", "--grade")
    result = done("explain", *source, "--grade-per-class", 2)
    table = pd.read_csv(run / "explanations" / "grades.csv")
    every = table[table["class"] == "all"].set_index("method")
    assert every.index.tolist() == list(METHODS)
    assert (every["n"] == 6).all()
    assert (every["n_localised"] == 4).all()  # a lens without substructure has nowhere to look
    assert every["heat_beyond_ring"].between(-1, 1).all()
    assert "Too few to tell how far these maps can be believed: " in result.err
    assert all(method in result.err for method in METHODS)
    assert "checks passed" not in result.err
    assert json.loads((run / "explanations" / "grades.json").read_text())["grades"][0]["method"] == "gradcam"
    pictures = {path.name for path in (run / "explanations").glob("grades-*.png")}
    assert pictures == {"grades-curves.png", "grades-sanity.png", "grades-localisation.png"}
    fewer = done("explain", *source, "--image", "lensing-0-0000001", "--out", tmp_path / "one")
    one = pd.read_csv(tmp_path / "one" / "grades.csv")
    assert (one["n"] == 1).all()
    assert "Explanations" in fewer.err


def test_no_grades_unless_asked(place: Path, tmp_path: Path) -> None:
    explained(place / "run", "--per-class", 1, out=tmp_path / "out")
    assert not list((tmp_path / "out").glob("grades*"))
    assert "--grade-per-class: 0 images of a class" in refused("explain", place / "run", "--grade-per-class", 0)
