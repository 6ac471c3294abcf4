"""MiraBest: its pickled batches converted to arrays.

Pickles can run any program when they are read. The batches of CIFAR's kind that some sets come in are read here by an
unpickler that knows arrays, lists, dicts, texts and numbers and nothing else (Python's documentation of pickle,
"Restricting Globals"): it looks no name up, it builds arrays with code of its own.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core.errors import SkyclassError, one_line
from ...core.files.atomic_files import written_whole


class _Dtype:
    """A replacement of numpy.dtype in pickles: keeps its code and byte order, and lets a pickle set nothing else."""

    def __init__(self, code: str, *_options: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biuf][1248]|[SU][1-9][0-9]{0,3}", code):
            raise pickle.UnpicklingError(f"an array of {code!r}, which is neither numbers nor texts")
        self.code = code
        self.order = "="

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")

    @property
    def value(self) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{self.code}")


class _Array:
    """A replacement of numpy.ndarray in pickles: shape, type and bytes, checked against each other."""

    def __init__(self) -> None:
        self.value = np.empty(0, np.uint8)

    def __setstate__(self, state: Sequence[Any]) -> None:
        _version, shape, dtype, fortran, data = state
        self.value = _of_bytes(data, dtype, shape, "F" if fortran else "C").value


def _of_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """An array of its bytes (numpy.core.numeric._frombuffer, in pickles of protocol 5)."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array whose content is not bytes")
    array = _Array()
    array.value = np.frombuffer(raw, dtype.value).reshape(shape, order=order)
    return array


def _new_array(*_options: object) -> _Array:
    return _Array()


def _number(dtype: Any, data: Any) -> Any:
    """A number that NumPy made."""
    return _of_bytes(data, dtype, (1,), "C").value[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes in pickles of protocol 2: `_codecs.encode(text, 'latin1')`."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes as {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    **{(f"{core}.multiarray", "_reconstruct"): _new_array for core in ("numpy.core", "numpy._core")},
    **{(f"{core}.multiarray", "scalar"): _number for core in ("numpy.core", "numpy._core")},
    **{(f"{core}.numeric", "_frombuffer"): _of_bytes for core in ("numpy.core", "numpy._core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]


def read_pickled(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Entries of a pickled dict: arrays, lists of arrays, numbers or texts, numbers and texts; a missing one is None.

    A text of Python 2 is read as Latin-1. No code of the pickle is run.
    Errors: SkyclassError for a pickle that is damaged, refers to anything else or is no dict.
    """
    try:
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        return {key: _plain(content.get(key)) for key in keys}
    except Exception as error:  # a forged pickle can make the standard unpickler raise nearly anything
        what = f"not a pickle of plain arrays ({one_line(error)})"
        fix = "do not use this file: it is damaged or was made to harm; tell its publisher"
        raise SkyclassError(what, where=path, fix=fix) from error


def _plain(value: Any) -> Any:
    """Replace the stand-ins by arrays, in lists of one level: lists that contain each other would never end."""
    if isinstance(value, list):
        return [item.value if isinstance(item, _Array) else item for item in value]
    return value.value if isinstance(value, _Array) else value


class _Batch(NamedTuple):
    """Images (n, H, W) with H = W, the name of each one's class, and their file names without suffix, or nothing."""

    images: np.ndarray
    labels: list[str]
    names: list[str]


def pickled_batches(folder: Path) -> None:
    """Batches of CIFAR's kind (`data_batch_N`, `test_batch`, `batches.meta`) below the folder -> arrays in the folder.

    `train.npz` and `test.npz` hold `images` (n, H, W), H = W, `labels` (n,) text and `image_id` (n,) text: the file
    name that the batch gives, where each is there once. The batches are removed.
    Errors: SkyclassError for batches that are missing, forged or unlike each other.
    """
    meta = next(iter(sorted(folder.rglob("batches.meta"))), None)
    if meta is None:
        raise SkyclassError("no file batches.meta in it", where=folder, fix="see the page of the data set")
    home = meta.parent
    classes = read_pickled(meta, ["label_names"])["label_names"]
    files = {"train": sorted(home.glob("data_batch_*")), "test": sorted(home.glob("test_batch"))}
    splits = {split: [_batch(path, classes) for path in paths] for split, paths in files.items()}
    shapes = {batch.images.shape[1:] for batches in splits.values() for batch in batches}
    if not all(splits.values()) or len(shapes) != 1:
        raise SkyclassError("its batches are missing or unlike each other", where=home, fix="fetch it again")
    names = [name for batches in splits.values() for batch in batches for name in batch.names]
    unique = len(set(names)) == sum(len(batch.images) for batches in splits.values() for batch in batches)
    for split, batches in splits.items():
        labels = [label for batch in batches for label in batch.labels]
        ids = [f"{split}-{row:05d}" for row in range(len(labels))]
        ids = [name for batch in batches for name in batch.names] if unique else ids
        images = np.concatenate([batch.images for batch in batches])  # (n, H, W)
        with written_whole(folder / f"{split}.npz") as part, part.open("wb") as stream:
            np.savez(stream, images=images, labels=np.array(labels), image_id=np.array(ids))
    for path in (meta, *files["train"], *files["test"]):
        path.unlink()
    if home != folder:
        shutil.rmtree(home)


def _batch(path: Path, classes: Any) -> _Batch:
    content = read_pickled(path, ["data", "labels", "filenames"])
    try:
        pixels = np.stack(content["data"])  # of one array, or of one an image
        numbers = np.asarray(content["labels"])
        side = math.isqrt(math.prod(pixels.shape[1:]))
        images = pixels.reshape(-1, side, side)  # (n, H*W) or (n, H, W) -> (n, H, W)
        if numbers.shape != images.shape[:1] or numbers.dtype.kind not in "iu" or numbers.min() < 0:
            raise ValueError("not a number of a class for each image")
        labels = [str(classes[number]) for number in numbers]
    except (ValueError, TypeError, IndexError, KeyError) as error:
        fix = "see the page of the data set"
        raise SkyclassError(f"not square images with labels ({one_line(error)})", where=path, fix=fix) from error
    return _Batch(images, labels, [Path(str(name)).stem for name in content["filenames"] or ()])


CONVERSIONS: dict[str, Callable[[Path], None]] = {"pickled_batches": pickled_batches}
