"""Arrays of many images: NPY, NPZ and HDF5 files become catalogs of addresses. No image is read here.

The images are the array called (or, in HDF5, ending in) one of IMAGE_KEYS, or the only one of three axes or more:
(N, H, W), (N, C, H, W) or (N, H, W, C). The labels are the array called one of LABEL_KEYS: integers, text or one-hot
rows. Every other array of N numbers or texts, such as `ra`, becomes a column. Arrays called `x_train` and `y_train`, or
`train_images` and `train_labels`, or in a group `train`, are one split each.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import SkyclassError
from ...core.limits import MAX_BANDS
from ...core.text import quantity
from ...images.formats.containers import read_column, stack_arrays
from ...images.formats.registry import STACK_SUFFIXES
from ..catalog import Found
from ..source_options import SourceOptions
from ..split_names import SPLIT_NAMES
from ..tables.columns import given_columns, name_classes, name_columns
from .rows import addressed, checked_rows, join_table, short_names
from .tables import read_named

logger = logging.getLogger(__name__)

IMAGE_KEYS = ("images", "x", "X", "data", "image")
LABEL_KEYS = ("labels", "label", "ans", "y", "Y", "class", "classes", "target", "targets")
_NAME_KEYS = ("class_names", "classes")  # texts, as many as there are classes
_NO_COLUMNS = ("bands", "filters", "class_names")  # what is as long as there are images by chance
_FIX = "save the images as one array called `images` and their labels as `labels`"

# Name of an array -> its shape and type.
Arrays = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def is_stack(path: Path) -> bool:
    """Whether a file holds many images: HDF5 always, NPY and NPZ by their shapes and names.

    An array of four axes (more than one along the first) is many images, and so is one of three whose first and last
    are both too long to be bands, or one with as many labels as rows. Files that cannot be read are none.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        return suffix in STACK_SUFFIXES
    try:
        arrays = stack_arrays(path)
        if _splits_in(arrays):
            return True
        shape = arrays[_images_in(arrays, _last_names(arrays), None, path)][0]
    except SkyclassError:  # refused by name when it is decoded as an image
        return False
    if any(key in arrays and arrays[key][0][:1] == shape[:1] for key in LABEL_KEYS):
        return True
    return (len(shape) == 4 and shape[0] > 1) or (len(shape) == 3 and min(shape[0], shape[-1]) > MAX_BANDS)


def split_named(path: Path) -> str | None:
    """The split that the words of a path name, as in test-00000-of-00002.parquet; None where there is not just one."""
    words = re.split(r"[^a-z]+", path.as_posix().lower())
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def read_stack(path: Path, options: SourceOptions) -> Found:
    """One file of many images, whose labels and other columns lie beside them or nowhere.

    `file_column` and `label_column` name the arrays of the images and of the labels.

    Errors: SkyclassError where the images are not to be found or do not go with the labels.
    """
    return _checked(_file_frame(path, None, options, prefix=""), path)


def read_split_stacks(root: Path, files: Sequence[Path], options: SourceOptions) -> Found:
    """Files of many images, each of which is (a part of) the split in its name."""
    prefixes = [f"{name}/" for name in short_names(files, root)]
    frames = [
        _file_frame(file, split_named(Path(file.name)), options, prefix)
        for file, prefix in zip(files, prefixes, strict=True)
    ]
    return _checked(join_table(list(zip(prefixes, frames, strict=True)), root), root)


def read_stack_table(table: Path, stack: Path, options: SourceOptions) -> Found:
    """A table whose row i describes image i of a file of many.

    Errors: SkyclassError where there are not as many images as rows.
    """
    frame = read_named(table, options, places=False)
    arrays = stack_arrays(stack)
    key = _images_in(arrays, _last_names(arrays), None, stack)
    count = _count(arrays, key, stack)
    if count != len(frame):
        what = f"the table has {quantity(len(frame), 'row')} and {stack.name} {quantity(count, 'image')}"
        raise SkyclassError(what, where=table, fix="give a table with one row an image, in the order of the images")
    return _checked(addressed(frame, stack, key, ""), table)


def _checked(frame: pd.DataFrame, path: Path) -> Found:
    return checked_rows(frame, path, sought=frame["file"].tolist(), fix=_FIX)


def _file_frame(path: Path, split: str | None, options: SourceOptions, prefix: str) -> pd.DataFrame:
    """All rows of one file; those of `split`, or of the splits that its arrays are named after."""
    arrays = stack_arrays(path)
    splits = {} if options.file_column else _splits_in(arrays)
    if not splits:
        frame = _part(path, arrays, _last_names(arrays), options, prefix)
        return frame if split is None or "split" in frame.columns else frame.assign(split=split)
    parts = []
    for word, names in splits.items():
        frame = _part(path, {key: arrays[key] for key in names}, names, options, f"{prefix}{word}/")
        parts.append((f"{prefix}{word}/", frame.assign(split=SPLIT_NAMES[word])))
    return join_table(parts, path)


def _last_names(arrays: Arrays) -> dict[str, str]:
    """Key of an array -> its name without the groups that it lies in."""
    return {key: key.rsplit("/", 1)[-1] for key in arrays}


def _splits_in(arrays: Arrays) -> dict[str, dict[str, str]]:
    """Word for a split -> keys of its arrays and their names without that word, if some images are named so."""
    found: dict[str, dict[str, str]] = {}
    for word in SPLIT_NAMES:
        names = {key: key.removesuffix(f"_{word}").removeprefix(f"{word}_").removeprefix(f"{word}/") for key in arrays}
        names = {key: name for key, name in names.items() if name != key}
        if set(names.values()) & set(IMAGE_KEYS):
            found[word] = names | {key: key for key in _NAME_KEYS if key in arrays and key not in names.values()}
    return found


def _part(path: Path, arrays: Arrays, names: Mapping[str, str], options: SourceOptions, prefix: str) -> pd.DataFrame:
    """The rows of one array of images. `names` are what the arrays are called without their split or group."""
    images = _images_in(arrays, names, options.file_column, path)
    count = _count(arrays, images, path)
    group = images.rpartition("/")[0]
    keys: dict[str, str] = {}  # name -> key; of arrays of one name, that beside the images counts
    for key in sorted(arrays, key=lambda key: key.rpartition("/")[0] != group):
        keys.setdefault(names[key], key)
    label = _label_name(arrays, keys, count, options.label_column, path)
    columns = {}
    for name, key in keys.items():
        shape, dtype = arrays[key]
        if name == label:
            columns[name] = _labels(read_column(path, key), path, name)
        elif key != images and shape in ((count,), (count, 1)) and name not in _NO_COLUMNS and dtype.kind in "biufSU":
            columns[name] = read_column(path, key).reshape(count)
    frame = pd.DataFrame(columns, index=pd.RangeIndex(count))
    frame = name_columns(
        frame,
        given_columns(options) | {"file": None, "label": label},
        path,
        places=False,
        split_names=options.split_names,
    )
    class_names = next((keys[name] for name in _NAME_KEYS if name in keys and name != label), None)
    if class_names and not options.class_names and label and arrays[class_names][1].kind in "SU":
        frame["label"] = name_classes(frame["label"], read_column(path, class_names).tolist(), path)
    called = f" of array {images!r}" if images else ""
    logger.info(f"{path.name}: {quantity(count, 'image')}{called}" + (f", labels of {label!r}" if label else ""))
    return addressed(frame, path, images, prefix)


def _images_in(arrays: Arrays, names: Mapping[str, str], wanted: str | None, path: Path) -> str:
    """The key of the array of images.

    Errors: SkyclassError where it is not `wanted`, nor clear by its name or its axes.
    """
    have = ", ".join(filter(None, arrays)) or "none of numbers or text"
    if wanted is not None:
        if wanted not in arrays:
            raise _no_array(wanted, arrays, path)
        return wanted
    stacks = [key for key, (shape, _) in arrays.items() if len(shape) >= 3]
    named = next((found for name in IMAGE_KEYS if (found := [key for key in stacks if names[key] == name])), stacks)
    if len(named) == 1:
        return named[0]
    what = f"no one array of images was recognised among its arrays ({have}; pickled objects are never read)"
    raise SkyclassError(what, where=path, fix="say which it is (--file-column NAME), or call it `images`")


def _no_array(wanted: str, names: Iterable[str], path: Path) -> SkyclassError:
    if list(names) == [""]:
        fix = "an .npy file holds one array without a name; save several in an .npz, or leave the option out"
    else:
        fix = f"its arrays are {', '.join(names)}"
    return SkyclassError(f"no array {wanted!r}", where=path, fix=fix)


def _count(arrays: Arrays, key: str, path: Path) -> int:
    """How many images an array holds.

    Errors: SkyclassError where it holds no images.
    """
    shape, dtype = arrays[key]
    if dtype.kind not in "biuf":
        what = f"array {key!r} holds values of type {dtype}, not images"
        raise SkyclassError(what, where=path, fix="save the images as one array of real numbers, such as float32")
    if len(shape) not in (3, 4) or 0 in shape:
        what = f"array {key!r} of shape {shape} is not a row of images"
        raise SkyclassError(what, where=path, fix="save it as (N, H, W), (N, C, H, W) or (N, H, W, C)")
    return shape[0]


def _label_name(arrays: Arrays, keys: Mapping[str, str], count: int, wanted: str | None, path: Path) -> str | None:
    """The name of the array of labels, or None where there is none.

    Errors: SkyclassError where it is not as long as that of the images.
    """
    if wanted is not None and wanted not in keys:
        raise _no_array(wanted, keys, path)
    name = wanted or next((name for name in LABEL_KEYS if name in keys and _may_label(name, arrays[keys[name]])), None)
    # Classes of another length are the names of the classes.
    if name is None or (name == "classes" and not wanted and arrays[keys[name]][0] != (count,)):
        return None
    shape = arrays[keys[name]][0]
    if shape[:1] != (count,):
        what = f"{count:,} images and labels of shape {shape} in {name!r}"
        raise SkyclassError(what, where=path, fix="save one label an image")
    return name


def _may_label(name: str, array: tuple[tuple[int, ...], np.dtype]) -> bool:
    """Whether an array of this name can be the labels: beside images, `y` may also be a position."""
    shape, dtype = array
    return name not in ("y", "Y") or dtype.kind in "biuSU" or len(shape) == 2


def _labels(values: np.ndarray, path: Path, name: str) -> np.ndarray:
    """(N,) labels of integers, texts or one-hot rows (N, K).

    Errors: SkyclassError for rows of numbers that are not one-hot.
    """
    if values.ndim == 1 or values.shape[1:] == (1,):
        return values.reshape(len(values))
    one_hot = values.ndim == 2 and values.dtype.kind in "biuf"
    if not one_hot or not (np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all()):
        what = f"labels {name!r} of shape {values.shape} are neither one a row nor one-hot"
        raise SkyclassError(what, where=path, fix="save the number or the name of each image's class")
    return values.argmax(axis=1)  # (N, K) -> (N,)
