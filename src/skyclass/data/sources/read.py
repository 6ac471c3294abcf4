"""Read any source of images and labels into a catalog and a table of problems.

Nothing here opens an image; whether a file can be decoded shows when it is packed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...core.errors import SkyclassError
from ...core.files.replacing import finish_replacing
from ...images.formats.locations import files_of, parse_address
from ..catalog import check_catalog, problems_frame
from ..source_options import SourceOptions
from ..tables.columns import name_classes
from ..vote_questions import Questions, questions_of, refusal_to_guess
from ..votes import label_by_votes, parse_votes
from .kinds import Place, kind_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Source:
    """Where images and labels come from, as read.

    catalog : as `check_catalog` gives it, with absolute files, in the order of the names or of the table
    problems : rows left out (errors), and oddities of what was kept or passed over (warnings)
    kind : what it turned out to be, the kind of a row of `kinds.SOURCES`
    left_out : the rows of images that are not in the catalog, one an id, with the catalog's columns
    """

    catalog: pd.DataFrame
    problems: pd.DataFrame
    kind: str
    path: Path
    left_out: pd.DataFrame


def read_source(path: str | Path, options: SourceOptions = SourceOptions()) -> Source:
    """Read whatever holds images and labels, of the kinds in `kinds.SOURCES`.

    - a folder: class folders ROOT/class/... or ROOT/{train,val,test}/class/... (or what `folders` says), images without
      labels, arrays called train.npz, val.npz and test.npz, the Parquet shards of an image data set, or one file a band
      (`band_files`)
    - a table (CSV, TSV, ECSV, Parquet, FITS, VOTable) of files, ids, votes, rows of an array or positions for cutouts
    - arrays of many images: HDF5, NPZ, NPY; a Parquet file with images in it; one image, by its file or its address

    Errors: SkyclassError where there is nothing to read or no image in it, and for options that do not apply.
    """
    path = Path(path).absolute()
    if not _exists(path):
        _check_address(path)
    elif path.is_dir():
        finish_replacing(path)
    place = Place(path, options)
    kind = kind_of(place)
    found = kind.read(place)
    name, catalog = kind.name_of(found), found.catalog
    left_out = catalog.iloc[:0] if found.left_out is None else found.left_out
    questions = questions_of(map(str, catalog.columns)) if catalog["label"].isna().all() else {}
    if options.votes or _one(questions, path):
        catalog = label_by_votes(catalog, parse_votes(options.votes), path)
        left_out = left_out.assign(label=None)
    if options.class_names:
        named = name_classes(catalog["label"], options.class_names, path)
        left_out = left_out.assign(label=left_out["label"].map(dict(zip(catalog["label"], named, strict=True))))
        catalog = catalog.assign(label=named)
    return Source(check_catalog(catalog, path), problems_frame(found.problems), name, path, left_out)


def _one(questions: Questions, path: Path) -> bool:
    """Whether a table without labels has the votes of one question, whose answers are its classes; this is logged."""
    if len(questions) == 1:
        logger.info(
            f"{path.name}: no column of labels; the largest of each row's votes becomes its label (see --votes)"
        )
    elif questions:
        what, fix = refusal_to_guess(questions)
        logger.warning(f"{path.name}: no image gets a label: {what}; {fix}, by --votes or in training by data.votes")
    return len(questions) == 1


def _check_address(path: Path) -> None:
    """Errors: SkyclassError for what is no address, and for the address of a file that does not exist."""
    address = parse_address(path)
    lacking = [file for file in files_of(address) if not _exists(file)] if address != path else [path]
    if lacking:
        raise SkyclassError("no such file or folder", where=lacking[0], fix="check the path")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name
        return False
