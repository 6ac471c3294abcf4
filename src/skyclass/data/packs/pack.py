"""A pack: a catalog and its decoded images in a folder of plain NumPy and Parquet, which is written once."""

from __future__ import annotations

import hashlib
import json
import tokenize
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from ...core.errors import SkyclassError
from ...core.files.artefact_tables import read_own_parquet
from ...core.files.atomic_files import new_folder, sha256_of, write_json, written_whole
from ...core.files.json_documents import Document, read_document, sealed
from ...core.files.replacing import finish_replacing, new_contents
from ...core.files.temporary_names import remove_leftovers
from ...core.html import facts, small_table
from ...core.version import __version__
from ...recipes.data_settings import PixelSettings
from ...recipes.recipe import StoredPixels, stored_pixels
from ..catalog import REQUIRED, SPLITS, TEXT, check_catalog, class_counts
from .npy_stream import PackChunk, write_images
from .verify import VERIFIED, remember, verify_files

OVERWRITE = "add --overwrite to replace it, or name another folder"
PROBLEMS = "problems.csv"
NOT_PACKED = "not-packed.csv"
"""The problems of a pack that could not be made, where an older one still exists."""
IMAGES, CATALOG = "images.npy", "catalog.parquet"
FILES = ("pack.json", IMAGES, CATALOG, "duplicates.csv", PROBLEMS, NOT_PACKED, VERIFIED, "prepared")
ARRAYS = tuple(f"{name}.npz" for name in (*SPLITS, "unlabelled"))
"""What a pack becomes with `--as npz`, one file a split."""

AGAIN = "pack the source again"
TYPES = ("uint8", "uint16", "float16", "float32")


class PackDocument(Document):
    """What readers of pack.json rely on. 0.1 wrote all of it but `rows_sha256`."""

    classes: list[str]
    bands: list[str]
    pixels: StoredPixels
    source: dict[str, Any]
    hash: str
    sha256: dict[str, str] = Field(default_factory=dict)
    """Hash of the bytes of each file."""
    rows_sha256: str | None = None
    """`rows_hash` of the catalog."""


@dataclass(frozen=True)
class Pack:
    """An opened pack; the images are memory-mapped."""

    path: Path
    meta: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Pack:
        """Open a finished pack; its catalog is checked, its images are not yet: that is for `verify`.

        Parameters
        ----------
        path : str or Path
            The folder that `skyclass pack` made.

        Returns
        -------
        Pack
            Whose images are memory-mapped.

        Raises
        ------
        SkyclassError
            Where the folder is no pack, or an unfinished or damaged one, one whose images and rows do not belong
            together, and one with an id that repeats.
        """
        path = Path(path)
        if not is_pack(path):
            fix = "make one with `skyclass pack SOURCE PACK`"
            raise SkyclassError("this folder is no finished pack", where=path, fix=fix)
        meta, document = read_document(path / "pack.json", "pack", PackDocument, AGAIN)
        pack = cls(path, meta)
        if len(pack.images) != len(pack.catalog):
            what = f"{len(pack.images)} images but {len(pack.catalog)} catalog rows"
            raise SkyclassError(what, where=path, fix=AGAIN)
        if document.rows_sha256 and document.rows_sha256 != rows_hash(pack.catalog):
            what = "the rows of the catalog are not those that were packed, or are in another order"
            raise SkyclassError(what, where=path / CATALOG, fix="restore it from a copy, or pack the source again")
        return pack

    def verify(self, *, every_byte: bool = False) -> None:
        """Compare images and catalog with their hashes.

        Parameters
        ----------
        every_byte : bool
            Whether to read all bytes, also of a file that has not changed by size and time since it was verified.

        Raises
        ------
        SkyclassError
            Where they are not those that were packed.
        """
        hashes = self.meta.get("sha256", {})
        if hashes and self.hash != _whole_hash(hashes):
            raise SkyclassError("its hash is not that of its files", where=self.path / "pack.json", fix=AGAIN)
        verify_files(self.path, hashes, every_byte=every_byte)

    @cached_property
    def images(self) -> np.ndarray:
        """(N, C, H, W), memory-mapped and read-only."""
        try:
            images: np.ndarray = np.lib.format.open_memmap(self.path / IMAGES, mode="r")
        except (OSError, ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError):  # of NumPy, on headers
            what, where = "damaged images: they cannot be read as an array", self.path / IMAGES
            raise SkyclassError(what, where=where, fix=AGAIN) from None
        shape, kind = images.shape, str(images.dtype)
        if len(shape) != 4 or 0 in shape[1:] or kind not in TYPES or len(self.bands or range(shape[1])) != shape[1]:
            what = f"damaged images: {kind} of shape {shape}, and {len(self.bands)} bands"
            raise SkyclassError(what, where=self.path / IMAGES, fix=AGAIN)
        return images

    @cached_property
    def catalog(self) -> pd.DataFrame:
        """One row an image, in the order of the images."""
        path = self.path / CATALOG
        catalog = read_own_parquet(path, "catalog", AGAIN, REQUIRED)
        ids = catalog["image_id"]
        if ids.isna().any() or ids.duplicated().any():
            what = f"damaged catalog: {int((ids.isna() | ids.duplicated()).sum())} ids are empty or repeat another"
            raise SkyclassError(what, where=path, fix=AGAIN)
        for name in ("image_id", "file", "label", "split"):
            if pd.api.types.infer_dtype(catalog[name], skipna=True) not in ("string", "empty"):
                raise SkyclassError(f"damaged catalog: the column {name} is no text", where=path, fix=AGAIN)
        if not set(catalog["split"].dropna()) <= set(SPLITS):
            raise SkyclassError("damaged catalog: it has unknown splits", where=path, fix=AGAIN)
        return catalog

    def counts(self) -> pd.DataFrame:
        """Images of each class (rows) in each split (columns).

        Returns
        -------
        DataFrame
            Counts; images without a label or a split are `unlabelled` and `none`.
        """
        return class_counts(self.catalog)

    def __repr__(self) -> str:
        shape = tuple(self.meta.get("shape", ()))
        parts = {"images": shape[0] if shape else None, "size": shape[2:], "dtype": self.meta.get("dtype")}
        parts |= {"bands": self.bands, "classes": self.classes}
        return f"Pack({str(self.path)!r}, {', '.join(f'{name}={value!r}' for name, value in parts.items())})"

    def _repr_html_(self) -> str:
        """For notebooks: the pixels, and the images of each class in each split."""
        n, bands, height, width = self.images.shape
        about = {
            "folder": self.path.absolute(),
            "images": f"{n:,} of {height} x {width} pixels (height x width), {self.images.dtype}",
            "bands": ", ".join(self.bands) or str(bands),
        }
        return facts(f"Pack {self.path.name}", about) + small_table(self.counts())

    @property
    def classes(self) -> list[str]:
        """The labels that occur, in order."""
        return list(self.meta["classes"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the C bands."""
        return tuple(self.meta["bands"])

    @property
    def pixels(self) -> PixelSettings:
        """How the files became these images."""
        return stored_pixels(self.meta["pixels"])

    @property
    def hash(self) -> str:
        """SHA-256 over the hashes of the images and of the catalog."""
        return str(self.meta["hash"])


def is_pack(path: Path) -> bool:
    """Whether the folder holds a finished pack; one that a killed command had decided on is completed."""
    finish_replacing(path)
    return (path / "pack.json").is_file()


def write_pack(
    chunks: Iterable[PackChunk],
    folder: Path,
    pixels: PixelSettings,
    *,
    classes: list[str] | None,
    source: dict[str, Any],
    finish: Callable[[pd.DataFrame], pd.DataFrame] = lambda catalog: catalog,
) -> Pack:
    """Write chunks as they come; `pack.json` is written last, so an unfinished pack is never taken for a whole one.

    `pixels` must name the bands; `classes` fixes their order (alphabetical where None). `source` describes
    the source and is stored in `pack.json`; `finish` adds to the catalog what depends on all images together.
    Errors: SkyclassError where no image comes at all, or where the catalog has a fault.
    """
    frames: list[pd.DataFrame] = []
    with written_whole(folder / IMAGES) as part, part.open("wb") as stream:
        shape, dtype = write_images(chunks, stream, frames)
        if not frames:
            raise SkyclassError("no image could be read", where=folder, fix="see problems.csv for the reason of each")
    catalog = finish(check_catalog(pd.concat(frames, ignore_index=True), folder))
    with written_whole(folder / CATALOG) as part:
        catalog.to_parquet(part, index=False)
    labels = set(catalog["label"].dropna())
    order = sorted(labels) if classes is None else [name for name in classes if name in labels]
    hashes = {name: sha256_of(folder / name) for name in (IMAGES, CATALOG)}
    remember(folder, hashes)
    meta = {
        "skyclass": __version__,
        "classes": order,
        "bands": list(pixels.bands or ()),
        "shape": list(shape),
        "dtype": str(dtype),
        "pixels": pixels.model_dump(mode="json"),
        "splits": {name: int((catalog["split"] == name).sum()) for name in SPLITS},
        "source": source,
        "sha256": hashes,
        "rows_sha256": rows_hash(catalog),
        "hash": _whole_hash(hashes),
    }
    write_json(folder / "pack.json", sealed(meta))
    return Pack(folder, meta)


def _whole_hash(hashes: dict[str, str]) -> str:
    return hashlib.sha256("".join(hashes[name] for name in (IMAGES, CATALOG) if name in hashes).encode()).hexdigest()


def rows_hash(catalog: pd.DataFrame) -> str:
    """SHA-256 of what belongs to the images, in their order: ids, files, labels, splits and groups.

    Columns that a user adds to the catalog do not change it.
    """
    digest = hashlib.sha256()
    for name in TEXT:
        if name in catalog:
            column = catalog[name].astype(object)
            cells = column.where(column.notna(), None).tolist()
            digest.update(json.dumps([name, cells]).encode())
    return digest.hexdigest()


@contextmanager
def new_pack(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A hidden folder to write a pack into, which is put in place when the block ends well.

    overwrite : replace an old pack in `folder`, which stays until the new one is whole; files of other names stay
    Errors: SkyclassError where the folder holds something and `overwrite` is not set. Where the block fails, the
    problems.csv that it has written is kept: under another name, `NOT_PACKED`, where there is an old pack.
    """
    finish_replacing(folder)
    remove_leftovers(folder)
    if folder.is_dir() and [entry.name for entry in folder.iterdir()] == [PROBLEMS]:
        overwrite = True  # all that a pack of which no image could be read has left
    new_folder(folder, overwrite=overwrite, fix=OVERWRITE)
    with new_contents(folder, "pack.json", lambda: _files_of(folder)) as stage:
        try:
            yield stage
        except SkyclassError as error:
            problems, kept = stage / PROBLEMS, folder / (NOT_PACKED if is_pack(folder) else PROBLEMS)
            if not problems.is_file():
                raise
            problems.replace(kept)
            where = str(kept) if error.where == str(problems) else error.where
            raise type(error)(error.what, where=where, fix=error.fix) from error


def _files_of(folder: Path) -> list[str]:
    """What a pack in the folder consists of."""
    if not (folder / CATALOG).is_file():
        return []
    return [name for name in (*FILES, *ARRAYS) if (folder / name).exists()]
