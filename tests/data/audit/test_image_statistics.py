"""The audit by the command line: planted copies, odd images, handed classes and wrong labels, found and shown."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image as pillow
from scipy import ndimage

from helpers.commands import CLASSES, Result, done
from helpers.make_data import class_folders, random_pixels, toy_image, write_image
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.data.audit.image_statistics import measure_images
from skyclass.data.packs.pack import Pack
from skyclass.data.sources.read import read_source
from skyclass.images.formats.read import Image, read_image

SIZE = (24, 32)
CLOCKWISE, ANTICLOCKWISE = "spiral_clockwise", "spiral_anticlockwise"


def clouds(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(3, height, width) uint8 of smooth noise: no two seeds look alike, however turned."""
    noise = np.random.default_rng(seed).normal(size=(3, *size))
    smooth = ndimage.gaussian_filter(noise + noise.mean(axis=0), (0, 1.2, 1.2))
    return np.clip(np.rint(110 + 90 * smooth / smooth.std() / 2), 1, 250).astype(np.uint8)


def write_clouds(root: Path, label: str, count: int, first: int, split: str = "") -> None:
    for number in range(count):
        write_image(root / split / label / f"{label}_{number}.png", clouds(first + number))


def inspected(*words: object, out: Path) -> tuple[Result, dict[str, Any], pd.DataFrame]:
    """Inspect by the command line; what it said, `summary.json` and `problems.csv`."""
    said = done("inspect", *words, "--out", out)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return said, summary, pd.read_csv(out / "problems.csv", keep_default_na=False)


def section(out: Path, name: str) -> str:
    """A section of the page, as HTML."""
    page = (out / "inspect.html").read_text(encoding="utf-8")
    (found,) = re.findall(rf'<section id="{name}">(.*?)</section>', page, flags=re.DOTALL)
    return found


def pictures(html: str) -> dict[str, np.ndarray]:
    """Alternative text -> pixels (H, W, 3) of the pictures in a piece of a page, in its order."""
    tags = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)" alt="([^"]*)">', html)
    return {text: np.asarray(pillow.open(io.BytesIO(base64.b64decode(data)))) for data, text in tags}


# Duplicates


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with splits and four copies: across splits, near and exact; across labels; and a harmless one."""
    root = tmp_path_factory.mktemp("planted")
    for place, (split, count) in enumerate({"train": 10, "val": 3, "test": 3}.items()):
        write_clouds(root, "arm", count, 100 * place, split)
        write_clouds(root, "bar", count, 100 * place + 50, split)
    write_image(root / "test/arm/leak.png", clouds(3))
    dimmed = np.rint(0.85 * clouds(54)[:, :, ::-1]).astype(np.uint8)
    write_image(root / "val/bar/mirrored.png", dimmed)
    write_image(root / "train/bar/mislabelled.png", clouds(5))
    write_image(root / "train/bar/twice.png", clouds(57))
    return root


class Audit(NamedTuple):
    """An inspection: its folder, what it said, `summary.json` and `problems.csv`."""

    out: Path
    said: Result
    summary: dict[str, Any]
    problems: pd.DataFrame


@pytest.fixture(scope="module")
def audit(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Of the planted copies; to be read only."""
    out = tmp_path_factory.mktemp("audit")
    return Audit(out, *inspected(planted, out=out))


PAIRS = [
    ("test/arm/leak", "train/arm/arm_3", "exact", "splits"),
    ("train/bar/bar_4", "val/bar/mirrored", "sure", "splits"),
    ("train/arm/arm_5", "train/bar/mislabelled", "exact", "labels"),
    ("train/bar/bar_7", "train/bar/twice", "exact", ""),
]


def test_planted_copies_are_listed_and_those_across_splits_come_first(audit: Audit) -> None:
    out, said, summary, problems = audit
    table = pd.read_csv(out / "duplicates.csv", keep_default_na=False)
    columns = ["image_id", "other_id", "kind", "across"]
    assert list(table[columns].itertuples(index=False, name=None)) == PAIRS
    assert summary["duplicates"] == {
        "images": 8,
        "clusters": 4,
        "exact_pairs": 3,
        "sure_pairs": 1,
        "maybe_pairs": 0,
        "pairs_across_splits": 2,
        "pairs_across_labels": 1,
    }
    told = dict(zip(problems["image_id"], problems["problem"], strict=True))
    assert told["test/arm/leak"] == "has the same pixels as train/arm/arm_3, which is in train: a leak"
    assert told["train/bar/bar_4"] == "shows the same picture as val/bar/mirrored, which is in val: a leak"
    assert (
        told["train/arm/arm_5"]
        == "has the same pixels as train/bar/mislabelled, which is labelled bar: conflicting labels"
    )
    assert "train/bar/bar_7" not in told
    assert "8 images in 4 clusters of copies" in said.err
    assert "of the pairs of copies 2 lie across splits and 1 across labels" in said.err


def test_the_page_shows_both_pictures_of_every_pair(planted: Path, audit: Audit) -> None:
    html = section(audit.out, "duplicates")
    assert "<b>2 pairs lie across splits</b>" in html
    assert "<b>1 pair lies across labels</b>" in html
    clusters = html.split('<figure class="cluster">')[1:]
    for cluster, (one, other, kind, across) in zip(clusters, PAIRS, strict=True):
        shown = pictures(cluster)
        assert [text.split(":")[0] for text in shown] == [one, other]
        for name, pixels in zip((one, other), shown.values(), strict=True):
            file = np.moveaxis(read_image(planted / f"{name}.png").pixels, 0, -1)
            assert np.abs(pixels - file.astype(float)).mean() < 10  # saved as JPEG
        assert (f"<b>across {across}</b>" in cluster) == bool(across)
        assert ("identical" in cluster) == (kind == "exact")
    assert "mirrored</figcaption>" in clusters[1]
    assert "arm, test" in next(iter(pictures(clusters[0])))


def test_without_duplicates_none_are_looked_for_and_the_old_table_goes(
    planted: Path, audit: Audit, tmp_path: Path
) -> None:
    shutil.copytree(audit.out, tmp_path, dirs_exist_ok=True)
    assert (tmp_path / "duplicates.csv").is_file()
    (tmp_path / "label_errors.csv").write_text("of an inspection with runs\n", encoding="utf-8")
    said, summary, problems = inspected(planted, "--no-duplicates", out=tmp_path)
    assert summary["duplicates"] is None
    assert not (tmp_path / "duplicates.csv").exists()
    assert not (tmp_path / "label_errors.csv").exists()
    assert not problems["problem"].str.contains("same").any()
    assert "They were not looked for (<code>--no-duplicates</code>)" in section(tmp_path, "duplicates")
    assert "duplicates" not in said.err.replace(str(tmp_path), "")


def test_a_source_of_strangers_is_said_to_have_no_duplicates(tmp_path: Path) -> None:
    write_clouds(tmp_path / "source", "arm", 12, 0)
    write_clouds(tmp_path / "source", "bar", 12, 50)
    said, summary, problems = inspected(tmp_path / "source", out=tmp_path / "out")
    assert summary["duplicates"]["clusters"] == 0
    assert "duplicates: no copies" in said.err
    assert pd.read_csv(tmp_path / "out/duplicates.csv").empty
    assert "No image was found to be a copy of another" in section(tmp_path / "out", "duplicates")
    assert problems.empty


def test_copies_in_arrays_and_in_a_pack(tmp_path: Path) -> None:
    images = [clouds(seed) for seed in range(14)]
    images += [images[2], images[9][:, ::-1]]
    labels = ["arm"] * 7 + ["bar"] * 7 + ["bar", "bar"]
    np.savez(tmp_path / "arrays.npz", images=np.stack(images).transpose(0, 2, 3, 1), labels=labels)
    done("pack", tmp_path / "arrays.npz", tmp_path / "pack", "--splits", "1,0,0", "--no-duplicates")
    ids = read_source(tmp_path / "arrays.npz").catalog["image_id"].tolist()
    for source in ("arrays.npz", "pack"):
        out = tmp_path / f"of {source}"
        _, summary, _ = inspected(tmp_path / source, out=out)
        assert (summary["images"], summary["sizes"]) == (16, {"24x32": 16})
        table = pd.read_csv(out / "duplicates.csv", dtype={"image_id": str, "other_id": str}, keep_default_na=False)
        assert table["image_id"].tolist() == [ids[2], ids[9]]
        assert table["other_id"].tolist() == [ids[14], ids[15]]
        assert (table["across"].tolist(), table["mirrored"].tolist()) == (["labels", ""], [False, True])
        html = section(out, "duplicates")
        assert "across labels</b>:" in html
        assert "across splits" not in html
        pixels = list(pictures(html).values())
        for shown, row in zip(pixels, (2, 14, 9, 15), strict=True):
            assert np.abs(shown - np.moveaxis(images[row], 0, -1).astype(float)).mean() < 10


# A pack


def test_a_pack_keeps_copies_in_one_split_and_lists_them(tmp_path: Path) -> None:
    for number in range(16):
        for name, pixels in (("one", clouds(number)), ("mirror", clouds(number)[:, :, ::-1])):
            write_image(tmp_path / "source" / ("arm", "bar")[number % 2] / f"{number}_{name}.png", pixels)
    said = done("pack", tmp_path / "source", tmp_path / "pack")
    assert "duplicates: 32 images in 16 clusters of copies: see duplicates.csv" in said.err
    catalog = Pack.open(tmp_path / "pack").catalog
    assert catalog["duplicates"].nunique() == 16
    both = catalog["image_id"].str.removesuffix("_one").str.removesuffix("_mirror")
    assert (catalog.groupby(both)["duplicates"].nunique() == 1).all()
    assert (catalog.groupby(both)["split"].nunique() == 1).all()
    assert set(catalog["split"]) == {"train", "val", "test"}
    table = pd.read_csv(tmp_path / "pack" / "duplicates.csv", keep_default_na=False)
    assert (len(table), set(table["across"])) == (16, {""})

    said = done("pack", tmp_path / "source", tmp_path / "pack", "--overwrite", "--no-duplicates")
    assert "show the same" not in said.err
    catalog = Pack.open(tmp_path / "pack").catalog
    assert "duplicates" not in catalog
    assert (catalog.groupby(both)["split"].nunique() == 2).any()
    assert not (tmp_path / "pack" / "duplicates.csv").exists()


def test_copies_that_the_source_parts_stay_where_they_are_and_are_reported(planted: Path, tmp_path: Path) -> None:
    done("pack", planted, tmp_path / "pack")
    catalog = Pack.open(tmp_path / "pack").catalog.set_index("image_id")
    assert catalog["split"].tolist() == [name.split("/")[0] for name in catalog.index]
    problems = pd.read_csv(tmp_path / "pack" / "problems.csv")["problem"]
    assert problems.str.endswith(": a leak").sum() == 2
    assert problems.str.endswith(": conflicting labels").sum() == 1


def test_arrays_written_over_arrays_leave_nothing_of_them(tmp_path: Path) -> None:
    class_folders(tmp_path / "source", CLASSES, splits={"train": 2, "val": 1, "test": 1})
    done("pack", tmp_path / "source", tmp_path / "arrays", "--as", "npz")
    files = {"train.npz", "val.npz", "test.npz", "catalog.parquet", "problems.csv"}
    assert {path.name for path in (tmp_path / "arrays").iterdir()} == {*files, "duplicates.csv"}
    class_folders(tmp_path / "other", CLASSES, splits={"train": 2, "val": 1})
    options = ("--splits", "0.7,0.3,0", "--no-duplicates", "--overwrite")
    done("pack", tmp_path / "other", tmp_path / "arrays", "--as", "npz", *options)
    assert {path.name for path in (tmp_path / "arrays").iterdir()} == files - {"test.npz"}


def test_the_catalog_of_a_pack_says_what_share_of_the_pixels_was_bad(tmp_path: Path) -> None:
    for number, bad in enumerate((0, 24, 96)):
        pixels = random_pixels(number, SIZE, 1, "float32")
        pixels.reshape(-1)[:bad] = (np.nan, np.inf)[number % 2]
        write_image(tmp_path / "source" / f"{number}.fits", pixels)
    done("pack", tmp_path / "source", tmp_path / "pack", "--no-duplicates")
    assert Pack.open(tmp_path / "pack").catalog["bad_pixels"].tolist() == [0.0, 24 / 768, 96 / 768]


# Odd images and classes


def test_what_is_odd_about_images_classes_and_splits_is_a_problem(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    write_clouds(source, "galaxy", 20, 0, "train")
    write_clouds(source, "galaxy", 3, 50, "test")
    write_clouds(source, "star", 12, 100, "train")
    (source / "train" / "void").mkdir()
    odd = source / "train" / "galaxy"
    bright = np.maximum(clouds(200), np.where(np.arange(32) < 5, 255, 0).astype(np.uint8))
    write_image(odd / "odd_bright.png", bright)
    write_image(odd / "odd_size.png", clouds(201, (32, 24)))
    write_image(odd / "odd_bands.png", clouds(202)[:1])
    write_image(odd / "odd_type.tif", clouds(203).astype(np.uint16) * 200)
    write_image(odd / "odd_constant.png", np.full((3, *SIZE), 9, np.uint8))
    (odd / "odd_text.png").write_bytes(b"<html>404 Not Found</html>\n")
    _, summary, problems = inspected(source, "--no-duplicates", out=out)
    assert (summary["readable"], summary["errors"], summary["warnings"]) == (40, 2, len(problems) - 2)
    told = list(zip(problems["file"], problems["severity"], problems["problem"], strict=True))
    expected = {
        ("train/galaxy/odd_bright.png", "warning", "saturated: 16% of the pixels are at the largest value of red"),
        ("train/galaxy/odd_size.png", "warning", "odd size: 32x24, where 97.5% of the images have 24x32"),
        ("train/galaxy/odd_bands.png", "warning", "odd number of bands: 1, where 97.5% of the images have 3"),
        (
            "train/galaxy/odd_type.tif",
            "warning",
            "odd type of the pixels: uint16, where 97.5% of the images have uint8",
        ),
        ("train/galaxy/odd_constant.png", "error", "blank: every pixel is 9"),
        ("train/void", "warning", "no image in this class folder"),
        ("", "warning", "no labelled image is in the split 'val'"),
        ("", "warning", "no image of star in test"),
    }
    expected = {(str(source / name), severity, problem) for name, severity, problem in expected}
    (text,) = set(told) - expected
    assert (Path(text[0]).name, text[1]) == ("odd_text.png", "error")
    assert expected <= set(told)
    assert len(told) == len(expected) + 1
    first = re.findall(r"<td>(error|warning)</td>", section(out, "problems"))
    html = section(out, "files-with-problems")
    kinds = re.findall(r"<summary>([^:]+): (\d+) (error|warning)s?</summary>", html)
    assert [severity for _, _, severity in kinds] == first
    assert kinds[0][0] == "Files that cannot be read"
    for severity, n in (("error", 2), ("warning", 7)):
        assert sum(int(count) for _, count, one in kinds if one == severity) == n
    assert "no labelled image is in the split &#39;val&#39;" in html


def test_ranges_are_kept_band_by_band(tmp_path: Path) -> None:
    pixels = np.stack([np.linspace(low, high, 24 * 32).reshape(SIZE) for low, high in ((0, 1), (-3, 5), (2, 9))])
    pixels[2, 0, :2] = np.nan, -np.inf
    write_image(tmp_path / "arm" / "one.npy", pixels.astype(np.float32))
    write_image(tmp_path / "arm" / "two.npy", (pixels[::-1] / 10).astype(np.float32))
    statistics = measure_images(read_source(tmp_path).catalog, lambda row: read_image(row["file"]), fingerprints=True)
    ranges = {"band_1": [0.0, 1.0], "band_2": [-3.0, 5.0], "band_3": [0.0, 9.0]}
    assert statistics.ranges.keys() == ranges.keys()
    for band, both in ranges.items():
        assert statistics.ranges[band] == pytest.approx(both, abs=0.02)
    assert (statistics.readable, statistics.fingerprinted, len(statistics.fingerprints)) == (2, [0, 1], 2)


def test_images_of_no_use_have_no_fingerprint(tmp_path: Path) -> None:
    write_clouds(tmp_path, "arm", 3, 0)
    blank = tmp_path / "arm" / "arm_1.png"
    blank.unlink()
    write_image(blank, np.zeros((3, *SIZE), np.uint8))

    def read(row: Any) -> Image:
        return read_image(row["file"])

    statistics = measure_images(read_source(tmp_path).catalog, read, fingerprints=True)
    assert (statistics.readable, statistics.fingerprinted) == (3, [0, 2])
    assert measure_images(read_source(tmp_path).catalog, read, fingerprints=False).fingerprints == []


# Handed classes


def test_names_that_a_mirror_exchanges_are_a_problem(tmp_path: Path) -> None:
    write_clouds(tmp_path / "source", CLOCKWISE, 10, 0)
    write_clouds(tmp_path / "source", ANTICLOCKWISE, 10, 50)
    _, _, problems = inspected(tmp_path / "source", "--no-duplicates", out=tmp_path / "out")
    assert problems["problem"].tolist() == [
        f"a mirror turns '{ANTICLOCKWISE}' into '{CLOCKWISE}': where images are flipped in training, set "
        f"augment.mirror_swaps: [[{ANTICLOCKWISE}, {CLOCKWISE}]]"
    ]


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        (["augment.flip_horizontal=0.5"], True),
        (["augment.flip_vertical=0.5"], True),
        (["augment.flip_vertical=0.5", f"augment.mirror_swaps=[[{CLOCKWISE},{ANTICLOCKWISE}]]"], False),
        (["augment.rotation=20"], False),
    ],
)
def test_training_warns_of_flips_that_keep_the_label_of_a_handed_class(
    settings: list[str], warned: bool, tmp_path: Path
) -> None:
    toy_pack(tmp_path / "pack", classes=(CLOCKWISE, ANTICLOCKWISE), splits={"train": 4, "val": 1}, size=(8, 10))
    recipe = write_recipe(tmp_path, toy_recipe(training={"epochs": 1}))
    options = [word for setting in settings for word in ("--set", setting)]
    said = done("train", recipe, tmp_path / "pack", "--out", tmp_path / "run", *options)
    warning = f"Warning: flips turn '{ANTICLOCKWISE}' into '{CLOCKWISE}' and keep its label; set augment.mirror_swaps"
    assert (warning in said.err) == warned
    assert ("Warning: flips" in said.err) == warned


# Labels in doubt


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`source`, bars and rings where the bar ring/26 has the wrong label, its `pack`, and a run `fold-K` a fold."""
    root = tmp_path_factory.mktemp("validated")
    for row in range(60):
        shape = ("bar", "ring")[row % 2]
        label = "ring" if row == 26 else shape
        write_image(root / "source" / label / f"{row:02d}.png", np.uint8(255 * toy_image(shape, row, SIZE)))
    done("pack", root / "source", root / "pack", "--no-duplicates")
    training = {"epochs": 6, "learning_rate": 1e-2}
    recipe = write_recipe(root, toy_recipe(data={"folds": 3}, pixels={"size": [12, 16]}, training=training))
    for fold in range(3):
        done("train", recipe, root / "pack", "--out", root / f"fold-{fold}", "--set", f"data.fold={fold}")
    return root


@pytest.mark.parametrize("source", ["source", "pack"])
def test_a_planted_wrong_label_is_ranked_first_and_shown(source: str, validated: Path, tmp_path: Path) -> None:
    runs = [word for fold in range(3) for word in ("--run", validated / f"fold-{fold}")]
    said, summary, _ = inspected(validated / source, "--no-duplicates", *runs, out=tmp_path)
    table = pd.read_csv(tmp_path / "label_errors.csv")
    assert sorted(table["image_id"]) == sorted(Pack.open(validated / "pack").catalog["image_id"])
    first = table.iloc[0]
    assert first[["image_id", "label", "suggested", "likely"]].tolist() == ["ring/26", "ring", "bar", True]
    assert Path(first["file"]) == validated / "source" / "ring" / "26.png"
    assert table["p_label"].is_monotonic_increasing
    likely = int(table["likely"].sum())
    assert summary["label_errors"] == {"ranked": 60, "likely": likely}
    assert 1 <= likely < 6
    assert f"labels: of 60 {likely} are likely wrong" in said.err
    html = section(tmp_path, "labels")
    shown = pictures(html)
    assert [text.split(":")[0] for text in shown] == table["image_id"][table["likely"]].tolist()
    file = np.moveaxis(read_image(first["file"]).pixels, 0, -1)
    assert np.abs(next(iter(shown.values())) - file.astype(float)).mean() < 10
    shares = [f"{100 * first[name]:.0f}&nbsp;%" for name in ("p_label", "p_suggested")]
    assert f"ring/26<br>labelled ring ({shares[0]})<br>rather bar ({shares[1]})" in html


def test_one_fold_ranks_its_own_held_out_images_and_no_run_ranks_none(validated: Path, tmp_path: Path) -> None:
    run = validated / "fold-1"
    _, summary, _ = inspected(validated / "pack", "--no-duplicates", "--run", run, out=tmp_path)
    held_out = pd.read_parquet(run / "predictions.parquet")["image_id"]
    table = pd.read_csv(tmp_path / "label_errors.csv")
    assert sorted(table["image_id"]) == sorted(held_out)
    assert summary["label_errors"]["ranked"] == len(held_out) < 60
    _, summary, _ = inspected(validated / "pack", "--no-duplicates", out=tmp_path)
    assert summary["label_errors"] is None
    assert not (tmp_path / "label_errors.csv").exists()
    assert 'id="labels"' not in (tmp_path / "inspect.html").read_text(encoding="utf-8")


def test_a_file_that_has_gone_bad_since_the_run_is_ranked_and_not_shown(validated: Path, tmp_path: Path) -> None:
    frame = Pack.open(validated / "pack").catalog[["image_id", "file", "label"]].set_index("image_id")
    (tmp_path / "bad.png").write_bytes(b"")
    frame.loc["ring/26", "file"] = str(tmp_path / "bad.png")
    frame.to_csv(tmp_path / "labels.csv")
    runs = [word for fold in range(3) for word in ("--run", validated / f"fold-{fold}")]
    _, summary, _ = inspected(tmp_path / "labels.csv", "--no-duplicates", *runs, out=tmp_path / "out")
    assert pd.read_csv(tmp_path / "out/label_errors.csv")["image_id"][0] == "ring/26"
    assert summary["readable"] == 59
    assert not any(text.startswith("ring/26") for text in pictures(section(tmp_path / "out", "labels")))


def test_images_of_classes_that_a_run_does_not_know_are_not_ranked(validated: Path, tmp_path: Path) -> None:
    frame = Pack.open(validated / "pack").catalog[["image_id", "file", "label"]]
    frame.assign(label=frame["label"].where(frame.index % 10 > 0, "comet")).to_csv(tmp_path / "relabelled.csv")
    runs = [word for fold in range(3) for word in ("--run", validated / f"fold-{fold}")]
    _, summary, _ = inspected(tmp_path / "relabelled.csv", "--no-duplicates", *runs, out=tmp_path / "out")
    assert summary["label_errors"]["ranked"] == 54
