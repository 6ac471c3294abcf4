"""The options of a source: where its images are and what its columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read; what is None or empty is found out or does not apply.

    image_root : the folder that a table's file names are relative to; or the stack (.npy, .npz, .h5) whose row i is the
        image of row i of the table; or, with `cutout`, the one FITS mosaic to cut from
    id_column, file_column, label_column, split_column, group_column : the table's columns
    band_files : the names of files with one band each, as in `{id}_{band}.fits`, in the folder or the image root
    cutout : (height, width) of the cutouts about each row's `ra` and `dec` (degrees), or `x` and `y` (pixels)
    folders : what the levels of folders above the images mean, as in `{split}/{label}` (see `folder_layout`)
    split_names : what folders, or values of the column of splits, are called -> train, val or test
    votes : KEY=VALUE settings of `data_settings.VotesSettings`, which make labels of vote fractions
    class_names : names of classes that the source numbers from 0
    """

    image_root: Path | None = None
    id_column: str | None = None
    file_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    band_files: str | None = None
    cutout: tuple[int, int] | None = None
    folders: str | None = None
    split_names: Mapping[str, str] = field(default_factory=dict)
    votes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    def given(self) -> list[str]:
        """Names of the options that are set."""
        return [field.name for field in fields(self) if getattr(self, field.name)]
