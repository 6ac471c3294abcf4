"""The public data sets that `skyclass fetch` knows, as `datasets.yaml` lists them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field

from .errors import SkyclassError, did_you_mean
from .settings import Settings, validate
from .yaml_files import read_yaml

LIST = Path(__file__).with_name("datasets.yaml")


class RemoteFile(Settings):
    """One file, and how it is had."""

    name: str = Field(pattern=r"^\w[\w.-]*$", description="what it is called on disk; archives are unpacked")
    url: str = Field(pattern=r"^https?://", description="its address, which a browser opens too (but for Kaggle's)")
    via: Literal["http", "drive", "kaggle", "hub"] = Field("http", description="the downloader")
    checksum: str | None = Field(
        None, pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$", description="as its publisher states it"
    )

    def is_at(self, path: Path) -> bool:
        """Whether the file there has the checksum, if one is known."""
        kind, _, value = (self.checksum or "").partition(":")
        if not value:
            return True
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, kind).hexdigest() == value

    def by_hand(self, target: Path, page: str) -> str:
        """The way out where it cannot be fetched here; `page` is where a person can get it."""
        address = page if self.via == "kaggle" else self.url
        return f"download it from {address} on another machine, put it at {target} and run the command again"


class PublicDataset(Settings):
    """A data set that somebody has published."""

    title: str
    files: tuple[RemoteFile, ...] = Field(min_length=1)
    classes: tuple[str, ...] = Field((), description="names of the classes that the files number from 0")
    size: str = Field(description="of the download, as its publisher states it")
    licence: str
    citation: str
    page: str = Field(pattern=r"^https?://", description="where people read about it")
    found_in: tuple[str, ...] = Field(min_length=1, description="the public sources of what is said here")
    verified: bool = Field(description="whether the addresses were called and the content looked at")
    convert: Literal["pickled_batches"] | None = Field(
        None, description="what is made of the files that no other part of Skyclass reads as they are"
    )
    note: str = Field("", description="what a person has to know of its content")
    then: str = Field(description="the next command; {out} is the folder, {classes} are the classes")


class _List(Settings):
    datasets: dict[str, PublicDataset]


def read_datasets(path: Path = LIST) -> dict[str, PublicDataset]:
    """Name -> data set, in the order of the list.

    Errors: SkyclassError with the line of the first fault of the list.
    """
    document, node = read_yaml(path)
    return validate(_List, {"datasets": document}, path.name, node, {}).datasets


def find_dataset(name: str) -> PublicDataset:
    """The data set called so.

    Errors: SkyclassError with the nearest name, or all names.
    """
    known = read_datasets()
    if name not in known:
        fix = did_you_mean(name, known) or f"the names are {', '.join(known)}"
        raise SkyclassError("no public data set is called so", where=name, fix=fix)
    return known[name]
