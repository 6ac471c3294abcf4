"""`simulate`, `inspect`, `pack` and `recipes`, by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image as pillow

from helpers.commands import copy_toy_run, done, refused
from helpers.make_data import bad_files, class_folders, image_table, random_pixels, write_image, write_jpeg
from skyclass.data.packs.pack import Pack
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.recipe import SHIPPED, dump_recipe, load_recipe

# simulate

SIMULATED = {"lensing": (20, ".npy", 3), "galaxies": (16, ".png", 4)}  # size, suffix, classes


def by_name(pack: Pack) -> dict[str, tuple[np.ndarray, str, str]]:
    """Name of the file without folders -> pixels, label, split."""
    columns = (pack.catalog[name] for name in ("image_id", "label", "split"))
    rows = zip(pack.images, *columns, strict=True)
    return {Path(name).name: (np.asarray(pixels), label, split) for pixels, name, label, split in rows}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SIMULATED)
def test_a_simulated_pack_is_the_pack_of_the_simulated_folders(kind: str, tmp_path: Path) -> None:
    size, suffix, classes = SIMULATED[kind]
    options = ("--per-class", 6, "--size", size, "--seed", 3, "--splits", "0.5,0.25,0.25")
    done("simulate", kind, tmp_path / "direct", *options)
    done("simulate", kind, tmp_path / "folders", *options, "--as", "folders")
    done("pack", tmp_path / "folders", tmp_path / "packed", "--no-duplicates")
    done("pack", tmp_path / "folders" / "truth.parquet", tmp_path / "from_truth", "--no-duplicates")
    direct = Pack.open(tmp_path / "direct")
    expected = by_name(direct)
    assert len(expected) == 6 * classes
    assert len(direct.classes) == classes
    for other in ("packed", "from_truth"):
        found = by_name(Pack.open(tmp_path / other))
        assert found.keys() == expected.keys()
        for name, (pixels, label, split) in expected.items():
            np.testing.assert_array_equal(found[name][0], pixels)
            assert found[name][1:] == (label, split)
    files = [path.relative_to(tmp_path / "folders") for path in (tmp_path / "folders").rglob(f"*{suffix}")]
    assert {path.parts[:2] for path in files} == {(split, label) for _, label, split in expected.values()}
    truth = pd.read_parquet(tmp_path / "folders" / "truth.parquet").drop(columns="file")
    assert len(truth.columns) > 6  # the physics, not the catalog alone
    pd.testing.assert_frame_equal(truth, direct.catalog.drop(columns="file"), check_dtype=False)


def test_options_of_simulate_change_the_images(tmp_path: Path) -> None:
    def pixels(*options: object) -> np.ndarray:
        done("simulate", "lensing", tmp_path / "p", "--per-class", 2, "--size", 20, "--overwrite", *options)
        return np.array(Pack.open(tmp_path / "p").images)

    usual = pixels()
    np.testing.assert_array_equal(usual, pixels())
    np.testing.assert_array_equal(usual, pixels("--workers", 2))
    assert usual.shape == (6, 1, 20, 20)
    assert pixels("--per-class", 3).shape == (9, 1, 20, 20)
    assert pixels("--size", 24).shape == (6, 1, 24, 24)
    assert not np.array_equal(usual, pixels("--seed", 1))
    assert not np.array_equal(usual, pixels("--difficulty", 9))


def test_folders_written_again_hold_the_new_images_alone(tmp_path: Path) -> None:
    folder = tmp_path / "folders"
    done("simulate", "lensing", folder, "--per-class", 6, "--size", 16, "--as", "folders")
    (folder / "notes.txt").write_text("mine")
    assert "add --overwrite" in refused("simulate", "lensing", folder, "--per-class", 2, "--as", "folders")
    again = ("--per-class", 2, "--size", 16, "--seed", 5, "--as", "folders", "--overwrite")
    done("simulate", "lensing", folder, *again)
    listed = set(pd.read_parquet(folder / "truth.parquet")["file"])
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.npy")} == listed
    assert len(listed) == 6
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_refused_simulation_leaves_the_old_pack(tmp_path: Path) -> None:
    done("simulate", "lensing", tmp_path / "p", "--per-class", 2, "--size", 16)
    before = Pack.open(tmp_path / "p").hash
    for fault in (("--size", 3), ("--splits", "1,1,1"), ("--difficulty", -1), ("--device", "abacus")):
        refused("simulate", "lensing", tmp_path / "p", "--per-class", 2, "--overwrite", *fault)
    assert Pack.open(tmp_path / "p").hash == before


# inspect


def test_inspect_counts_measures_and_names(tmp_path: Path) -> None:
    root = tmp_path / "images"
    class_folders(root, ("blob", "ring"), per_class=3, formats=("png", "jpg", "npy"))
    write_image(root / "ring" / "large.png", np.full((1, 30, 20), 7, np.uint8) + np.eye(30, 20, dtype=np.uint8))
    words = bad_files(root / "ring" / "bad")
    (root / "void").mkdir()
    result = done("inspect", root, "--out", tmp_path / "seen", "--no-duplicates")
    summary = json.loads((tmp_path / "seen" / "summary.json").read_text())
    assert summary["images"] == 7 + len(words)
    assert summary["readable"] == 7
    assert summary["classes"] == {"blob": 3, "ring": 4 + len(words)}
    assert summary["sizes"] == {"24x32": 6, "30x20": 1}
    assert summary["formats"] == {"png": 3, "jpeg": 2, "npy": 2}
    assert summary["bands"] == {"red green blue": 4, "grey": 1, "band_1 band_2 band_3": 2}
    assert summary["types"] == {"uint8": 5, "float32": 2}
    assert (summary["errors"], summary["warnings"]) == (len(words), 6)
    problems = pd.read_csv(tmp_path / "seen" / "problems.csv")
    errors = problems[problems["severity"] == "error"]
    assert {Path(file).name for file in errors["file"]} == words.keys()
    for file, problem in zip(errors["file"], errors["problem"], strict=True):
        assert words[Path(file).name] in problem
    warnings = problems[problems["severity"] == "warning"]
    then = "scales may differ: `skyclass pack SOURCE PACK --pixels interval=...`"
    assert list(zip(warnings["file"], warnings["problem"], strict=True)) == [
        (str(root / "void"), "no image in this class folder"),
        (str(root), "fewer than 10 images of blob (3)"),
        (
            str(root),
            f"2 types of pixels: uint8 (5), float32 (2); {then}",
        ),
        (str(root), "1 grey image among 4 in colour: a pack has one set of bands"),
        (str(root / "ring" / "large.png"), "odd size: 30x20, where 85.7% of the images have 24x32"),
        (str(root / "ring" / "large.png"), "odd number of bands: 1, where 85.7% of the images have 3"),
    ]
    counts = pd.read_csv(tmp_path / "seen" / "classes.csv", index_col=0)
    assert counts["all"].to_dict() == summary["classes"]
    for picture in ("classes.png", "samples.png"):
        assert np.asarray(pillow.open(tmp_path / "seen" / picture)).std() > 1
    assert "7 readable" in result.err
    assert result.out == ""


@pytest.mark.slow
def test_inspect_of_a_table_and_of_a_pack_with_unlabelled_images(tmp_path: Path) -> None:
    table = image_table(tmp_path / "table", per_class=5)
    frame = pd.read_csv(table)
    frame.loc[0, "label"] = None
    frame.to_csv(table, index=False)
    done("inspect", table, "--out", tmp_path / "of_table", "--no-duplicates")
    done("pack", table, tmp_path / "pack", "--no-duplicates")
    done("inspect", tmp_path / "pack", "--out", tmp_path / "of_pack", "--no-duplicates")
    for name in ("of_table", "of_pack"):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["classes"] == {"blob": 4, "gradient": 5, "ring": 5, "unlabelled": 1}
        assert summary["sizes"] == {"24x32": 15}
        assert (tmp_path / name / "samples.png").is_file()


def test_inspect_without_a_readable_image(tmp_path: Path) -> None:
    bad_files(tmp_path / "bad")
    result = done("inspect", tmp_path / "bad", "--out", tmp_path / "seen")
    summary = json.loads((tmp_path / "seen" / "summary.json").read_text())
    assert (summary["readable"], summary["values"]) == (0, {})
    assert "0 readable" in result.err


# pack


def test_pack_keeps_the_splits_of_the_folders(tmp_path: Path) -> None:
    frame = class_folders(tmp_path / "images", splits={"train": 3, "val": 2, "test": 1})
    done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates")
    pack = Pack.open(tmp_path / "pack")
    assert pack.images.shape == (18, 3, 24, 32)
    assert pack.classes == ["blob", "gradient", "ring"]
    expected = {(tmp_path / "images" / row.file).as_posix(): (row.label, row.split) for row in frame.itertuples()}
    found = {Path(row.file).as_posix(): (row.label, row.split) for row in pack.catalog.itertuples()}
    assert found == expected


def test_pack_draws_splits_by_share_and_seed(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", ("blob", "ring"), per_class=40, size=(6, 8))

    def splits(name: str, *options: object) -> pd.Series:
        done("pack", tmp_path / "images", tmp_path / name, "--no-duplicates", *options)
        return Pack.open(tmp_path / name).catalog.set_index("image_id")["split"]

    usual = splits("a")
    assert usual.equals(splits("b", "--seed", 0))
    assert not usual.equals(splits("c", "--seed", 1))
    counts = splits("d", "--splits", "0.2,0.5,0.3").value_counts()
    assert counts["val"] > counts["test"] > 0
    assert counts["val"] > counts["train"] > 0
    assert splits("e", "--splits", "0.5,0,0.5").isin(["train", "test"]).all()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_pack_of_a_table_with_columns_of_its_own_names(suffix: str, tmp_path: Path) -> None:
    frame = pd.read_csv(image_table(tmp_path / "sky", per_class=4))
    frame = frame.assign(
        file=frame["file"].str.removeprefix("images/"),
        part=["train"] * 6 + ["valid"] * 3 + ["test"] * 3,
        night=[f"n{i // 3}" for i in range(12)],
        magnitude=np.linspace(15, 20, 12),
    )
    columns = {"image_id": "name", "file": "cutout", "label": "morphology"}
    frame = frame.rename(columns=columns)
    table = tmp_path / f"mine{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(table)
    else:
        frame.to_csv(table, index=False, sep="\t" if suffix == ".tsv" else ",")
    options = "--id-column name --file-column cutout --label-column morphology --split-column part --group-column night"
    done("pack", table, tmp_path / "pack", "--image-root", tmp_path / "sky/images", "--no-duplicates", *options.split())
    catalog = Pack.open(tmp_path / "pack").catalog
    assert catalog["image_id"].tolist() == frame["name"].tolist()
    assert catalog["label"].tolist() == frame["morphology"].tolist()
    assert catalog["split"].tolist() == ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    assert catalog["group"].tolist() == frame["night"].tolist()
    assert [Path(file).name for file in catalog["file"]] == frame["cutout"].tolist()
    np.testing.assert_allclose(catalog[["ra", "dec", "magnitude"]], frame[["ra", "dec", "magnitude"]])


def test_pack_never_parts_a_group(tmp_path: Path) -> None:
    table = image_table(tmp_path, ("blob", "ring"), per_class=20, size=(6, 8))
    pd.read_csv(table).assign(night=[f"n{i % 10}" for i in range(40)]).to_csv(table, index=False)
    options = ("--group-column", "night", "--splits", "0.5,0.25,0.25", "--no-duplicates")
    done("pack", table, tmp_path / "pack", *options)
    catalog = Pack.open(tmp_path / "pack").catalog
    assert (catalog.groupby("group")["split"].nunique() == 1).all()
    assert catalog["split"].nunique() == 3


def test_pack_names_the_rows_it_leaves_out(tmp_path: Path) -> None:
    table = image_table(tmp_path, per_class=4)
    frame = pd.read_csv(table)
    frame.loc[3, "image_id"] = frame.loc[0, "image_id"]  # the same class, another file
    frame.loc[4, "file"] = "images/gone.png"
    (tmp_path / frame.loc[5, "file"]).write_bytes(b"no picture at all")
    frame.to_csv(table, index=False)
    result = done("pack", table, tmp_path / "pack", "--no-duplicates")
    problems = pd.read_csv(tmp_path / "pack" / "problems.csv").set_index("image_id")["problem"]
    assert "repeated id" in problems["object-0000"]
    assert "no such file" in problems["object-0004"]
    assert "not an image" in problems["object-0005"]
    assert Pack.open(tmp_path / "pack").catalog["image_id"].tolist() == [
        f"object-{i:04d}" for i in (0, 1, 2, *range(6, 12))
    ]
    assert "3 left out" in result.err


def test_pixel_settings_reach_the_pack(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", per_class=2)
    folder = tmp_path / "images"
    done("pack", folder, tmp_path / "a", "--pixels", "size=[12,20]", "--pixels", "fit=distort", "--no-duplicates")
    assert Pack.open(tmp_path / "a").images.shape == (6, 3, 12, 20)
    done("pack", folder, tmp_path / "b", "--pixels", "interval=minmax", "--pixels", "dtype=float32", "--no-duplicates")
    stretched = Pack.open(tmp_path / "b").images
    assert stretched.dtype == np.float32
    assert [float(stretched[0].min()), float(stretched[0].max())] == [0.0, 1.0]
    recipe = Pack.open(tmp_path / "b").pixels
    assert recipe == PixelSettings(
        interval="minmax", dtype="float32", size=(24, 32), fit="pad", bands=("red", "green", "blue")
    )


def test_arrays_without_band_names_pack_beside_colour_images_and_are_told(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", per_class=3)
    pixels = random_pixels(5, (24, 32))
    write_image(tmp_path / "images" / "blob" / "array.npy", pixels)
    result = done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates")
    packed = Pack.open(tmp_path / "pack")
    row = packed.catalog["image_id"].tolist().index("blob/array")
    np.testing.assert_array_equal(packed.images[row], pixels)
    assert "0 left out, 1 warning, of" in result.err
    assert "array.npy: the file does not name its bands: taken in order as red, green, blue" in result.err


def test_a_pack_without_labels_is_said_to_have_none(tmp_path: Path) -> None:
    for i in range(2):
        write_jpeg(tmp_path / "images" / f"{i}.jpg", i)
    assert (
        "no labels: good for predicting" in done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates").err
    )


@pytest.mark.slow
def test_pack_like_a_classifier_and_over_an_old_pack(toy_run: Path, tmp_path: Path) -> None:
    run = copy_toy_run(toy_run, tmp_path) / "run"
    class_folders(tmp_path / "larger", per_class=2, size=(40, 30))
    done("pack", tmp_path / "larger", tmp_path / "free", "--no-duplicates")
    done("pack", tmp_path / "larger", tmp_path / "like", "--like", run, "--no-duplicates")
    assert Pack.open(tmp_path / "free").images.shape == (6, 3, 40, 30)
    assert Pack.open(tmp_path / "like").pixels == Pack.open(tmp_path / "pack").pixels
    assert Pack.open(tmp_path / "like").images.shape == (6, 3, 24, 32)
    done("pack", tmp_path / "larger", tmp_path / "pack", "--overwrite")
    assert Pack.open(tmp_path / "pack").images.shape == (6, 3, 40, 30)


def test_an_image_outside_the_class_folders_is_kept_without_a_label(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", per_class=3)
    write_jpeg(tmp_path / "images" / "loose.jpg", 5)
    done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates")
    catalog = Pack.open(tmp_path / "pack").catalog.set_index("image_id")
    assert catalog.loc["loose", ["label", "split"]].isna().all()
    assert "without a label" in pd.read_csv(tmp_path / "pack" / "problems.csv")["problem"].item()


# recipes


def test_recipes_are_listed_and_shown() -> None:
    names = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    lines = done("recipes", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == names
    for line, name in zip(lines, names, strict=True):
        assert line.removeprefix(name).strip() == load_recipe(name).about.question
        assert done("recipes", "show", name).out == (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
        assert done("recipes", "check", name).out == f"{name}: valid\n"


def test_a_resolved_recipe_says_every_setting() -> None:
    text = done("recipes", "show", "lensing-demo", "--resolved").out
    assert text == dump_recipe(load_recipe("lensing-demo"))
    changed = done("recipes", "show", "lensing-demo", "--set", "training.epochs=3", "--set", "seed=7").out
    document = yaml.safe_load(changed)
    assert (document["training"]["epochs"], document["seed"]) == (3, 7)
    assert document["training"].keys() == yaml.safe_load(text)["training"].keys()


def test_a_copied_recipe_is_one_s_own(tmp_path: Path) -> None:
    own = tmp_path / "deep" / "own.yaml"
    assert done("recipes", "copy", "lensing-demo", own).out == f"{own}\n"
    assert own.read_bytes() == (SHIPPED / "lensing-demo.yaml").read_bytes()
    own.write_text(own.read_text(encoding="utf-8") + "seed: 3\n", encoding="utf-8")
    assert done("recipes", "check", own).out == "own: valid\n"
    assert "training.epochs=-1" in refused("recipes", "check", own, "--set", "training.epochs=-1")
    done("recipes", "copy", "lensing-demo", own, "--overwrite")
    assert own.read_bytes() == (SHIPPED / "lensing-demo.yaml").read_bytes()


def test_the_schema_knows_every_key_of_a_resolved_recipe() -> None:
    schema = json.loads(done("recipes", "schema").out)
    assert schema["additionalProperties"] is False
    document = yaml.safe_load(done("recipes", "show", "lensing-demo", "--resolved").out)
    assert schema["properties"].keys() == document.keys()
    for name, section in document.items():
        if isinstance(section, dict):
            definition = schema["$defs"][schema["properties"][name]["$ref"].rsplit("/", 1)[1]]
            assert definition["properties"].keys() == section.keys()
            assert all("description" in one for one in definition["properties"].values())
