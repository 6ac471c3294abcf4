"""Export a pack as one .npz a split."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ...core.console import progress
from ...core.files.atomic_files import written_whole
from ..catalog import SPLITS
from .pack import Pack
from .verify import VERIFIED

CHUNK = 256


def unpack_splits(pack: Pack) -> list[Path]:
    """Replace a pack that is being written by `train.npz`, `val.npz`, `test.npz` and, where some rows have no split,
    `unlabelled.npz`.

    Each holds `images` (n, C, H, W), `labels` (n,) text, `image_id` (n,) text and `bands` (C,) text, uncompressed, so
    that any reader can map it into memory. Returns the files.
    """
    splits = pack.catalog["split"].fillna("unlabelled").to_numpy()
    files = []
    with progress("Writing arrays", len(splits)) as advance:
        for name in (*SPLITS, "unlabelled"):
            rows, file = np.flatnonzero(splits == name), pack.path / f"{name}.npz"
            if len(rows):
                for written in _write(pack, rows, file):
                    advance(written)
                files.append(file)
    for name in ("pack.json", "images.npy", VERIFIED):
        (pack.path / name).unlink(missing_ok=True)
    return files


def _write(pack: Pack, rows: np.ndarray, file: Path) -> Iterator[int]:
    """Write the rows of a pack, a chunk at a time; yields how many were written."""
    catalog = pack.catalog.iloc[rows]
    small = {
        "labels": catalog["label"].fillna("").to_numpy(dtype=str),
        "image_id": catalog["image_id"].to_numpy(dtype=str),
        "bands": np.array(pack.bands),
    }
    with written_whole(file) as part, zipfile.ZipFile(part, "w", allowZip64=True) as archive:
        for name, array in small.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            shape = (len(rows), *pack.images.shape[1:])
            content = {"descr": pack.images.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(cast(BinaryIO, stream), content)
            for start in range(0, len(rows), CHUNK):
                chunk = rows[start : start + CHUNK]
                stream.write(np.ascontiguousarray(pack.images[chunk]).tobytes())
                yield len(chunk)
