"""A pack as one .npz a split: what any NumPy program reads back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as pillow

from skyclass.commands.pack import pack
from skyclass.data.packs.pack import Pack, is_pack
from skyclass.data.sources.read import read_source
from skyclass.images.formats.read import read_image


def source(root: Path) -> Path:
    random = np.random.default_rng(0)
    for number in range(60):
        folder = root / ("ring" if number % 2 else "blob")
        folder.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f"{number}.png")
    pillow.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).save(root / "unknown.png")
    return root


def test_every_image_is_in_the_file_of_its_split(tmp_path: Path) -> None:
    whole = Pack.open(pack(source(tmp_path / "source"), tmp_path / "pack", duplicates=False))
    out = pack(tmp_path / "source", tmp_path / "arrays", form="npz", duplicates=False)
    assert not is_pack(out)
    assert sorted(file.name for file in out.glob("*.npz")) == ["test.npz", "train.npz", "unlabelled.npz", "val.npz"]
    seen = 0
    for name in ("train", "val", "test", "unlabelled"):
        with np.load(out / f"{name}.npz", allow_pickle=False) as arrays:
            rows = whole.catalog[whole.catalog["split"].fillna("unlabelled") == name]
            assert arrays["image_id"].tolist() == rows["image_id"].tolist()
            assert arrays["labels"].tolist() == rows["label"].fillna("").tolist()
            np.testing.assert_array_equal(arrays["images"], whole.images[rows.index])
            assert arrays["bands"].tolist() == ["red", "green", "blue"]
            seen += len(rows)
    assert seen == 61


def test_what_was_written_is_a_source_with_the_same_splits_and_ids(tmp_path: Path) -> None:
    whole = Pack.open(pack(source(tmp_path / "source"), tmp_path / "pack", duplicates=False))
    found = read_source(pack(tmp_path / "source", tmp_path / "arrays", form="npz", duplicates=False))
    columns = ["image_id", "label", "split"]
    both = [
        frame[columns].fillna("").sort_values("image_id").to_numpy(dtype=str)
        for frame in (whole.catalog, found.catalog)
    ]
    np.testing.assert_array_equal(*both)
    row = found.catalog[found.catalog["image_id"] == whole.catalog["image_id"][5]].iloc[0]
    np.testing.assert_array_equal(read_image(row["file"]).pixels, whole.images[5])
