"""Images that come in chunks, written as one .npy file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd


class PackChunk(NamedTuple):
    """Images (n, C, H, W) and their n catalog rows."""

    images: np.ndarray
    rows: pd.DataFrame


def write_images(
    chunks: Iterable[PackChunk], stream: BinaryIO, frames: list[pd.DataFrame]
) -> tuple[tuple[int, ...], np.dtype]:
    """Append the chunks' images behind an .npy header, then set the header right; fills `frames`."""
    shape: tuple[int, ...] = (0,)
    dtype = np.dtype("float32")
    for chunk in chunks:
        if not frames:
            dtype, shape = chunk.images.dtype, (0, *chunk.images.shape[1:])
            stream.write(_npy_header((0, *shape[1:]), dtype))
        stream.write(np.ascontiguousarray(chunk.images, dtype).data)
        frames.append(chunk.rows)
        shape = (shape[0] + len(chunk.images), *shape[1:])
    stream.seek(0)
    stream.write(_npy_header(shape, dtype))
    return shape, dtype


def _npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """An .npy header of the same length for every number of images: NumPy leaves room for the first axis to grow."""
    stream = io.BytesIO()
    content = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, content)
    return stream.getvalue()
