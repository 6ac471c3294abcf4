"""Encoded images in a column of a Parquet file, as Hugging Face saves image data sets."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from ...core.errors import SkyclassError, did_you_mean
from ...core.limits import MAX_BYTES, check_disk, check_unpacking

_GROUPS = 4  # row groups held
_IN_MEMORY = 2**26  # bytes of a row group held in memory; a larger one is unpacked into a temporary file
_BATCH = 2**23  # bytes unpacked at a time, as the file declares them
_MOST_ROWS = 64  # unpacked at a time, for files that declare too little


class ParquetImages:
    """An open Parquet file and the row groups of it that were read last. Threads may read at once."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self._path = path
        self._file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False)
        self._n_bytes = path.stat().st_size
        metadata = self._file.metadata
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum(counts, dtype=np.int64)  # the first row after each group
        self._groups: OrderedDict[tuple[str, int], tuple[list[Any], np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def read_row(self, key: str, row: int) -> bytes | Path:
        """The bytes of the encoded image in a row of the column `key`, or the path of its file.

        The column is binary, or a struct of `bytes` and `path`; a path is relative to the Parquet file.
        """
        n_rows = int(self._ends[-1]) if len(self._ends) else 0
        if not 0 <= row < n_rows:
            raise SkyclassError(f"no row {row}: it has {n_rows:,} rows, counted from 0", fix="correct the row")
        self._check_column(key)
        group = int(np.searchsorted(self._ends, row, side="right"))
        place = row - (int(self._ends[group - 1]) if group else 0)
        with self._lock:
            batches, ends = self._group(key, group)
        number = int(np.searchsorted(ends, place, side="right"))
        if number == len(batches):
            raise SkyclassError(f"row {row} is missing though the file counts it", fix="write the file again")
        start = int(ends[number - 1]) if number else 0
        return self._content(batches[number].column(key)[place - start].as_py(), row)

    def _content(self, value: Any, row: int) -> bytes | Path:
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if content:
            return bytes(content)
        if not path:
            raise SkyclassError(f"row {row} holds no image", fix="leave the row out")
        return self._path.parent / str(path)

    def _check_column(self, key: str) -> None:
        import pyarrow

        schema = self._file.schema_arrow
        if schema.names.count(key) != 1:
            names = ", ".join(map(repr, schema.names[:20]))
            fix = did_you_mean(key, schema.names) or f"its columns are: {names}"
            raise SkyclassError(f"no single column called {key!r}", fix=fix)
        kind = schema.field(key).type
        if pyarrow.types.is_struct(kind) and (place := kind.get_field_index("bytes")) >= 0:
            kind = kind.field(place).type
        if not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
            fix = "name a column of bytes, or a struct of bytes and path"
            raise SkyclassError(f"the column {key!r} holds no encoded images (it is of type {kind})", fix=fix)

    def _group(self, key: str, group: int) -> tuple[list[Any], np.ndarray]:
        """The record batches of a row group, of this column alone, and the first row after each."""
        if (key, group) not in self._groups:
            while len(self._groups) >= _GROUPS:
                self._groups.popitem(last=False)
            batches = _held(self._batches(key, group))
            self._groups[key, group] = batches, np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)
        self._groups.move_to_end((key, group))
        return self._groups[key, group]

    def _batches(self, key: str, group: int) -> Iterator[Any]:
        """The record batches of a row group as they are unpacked. Errors: SkyclassError where it is a bomb."""
        # Not the metadata of the column: where they are damaged, pyarrow 26 crashes the process.
        metadata = self._file.metadata.row_group(group)
        row_bytes = metadata.total_byte_size // max(metadata.num_rows, 1)
        rows = min(max(_BATCH // max(row_bytes, 1), 1), _MOST_ROWS)
        unpacked = 0
        for batch in self._file.iter_batches(rows, row_groups=[group], columns=[key], use_threads=False):
            unpacked += batch.nbytes
            check_unpacking(unpacked, self._n_bytes)
            if batch.nbytes > MAX_BYTES:
                raise SkyclassError(f"images of more than {MAX_BYTES:,} bytes", fix="leave them out")
            yield batch


def _held(batches: Iterator[Any]) -> list[Any]:
    """The batches in memory, or, where they are more than _IN_MEMORY, mapped from a temporary file without a name."""
    import pyarrow

    first, n_bytes = [], 0
    for batch in batches:
        first.append(batch)
        n_bytes += batch.nbytes
        if n_bytes > _IN_MEMORY:
            break
    else:
        return first
    with TemporaryFile() as file:
        with pyarrow.ipc.new_file(file, first[0].schema) as writer:
            for batch in chain(first, batches):
                check_disk(batch.nbytes)
                writer.write_batch(batch)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = pyarrow.ipc.open_file(pyarrow.py_buffer(mapped))
    return [reader.get_batch(i) for i in range(reader.num_record_batches)]
