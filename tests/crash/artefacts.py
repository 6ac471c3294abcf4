"""Whether two folders hold the same artefacts, but for times and what is a log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import torch

# `images` of a training counts those that were gone through again.
TIMES = {"seconds", "images", "images_per_second", "peak_memory_bytes", "command", "folder"}
# `verified.json` remembers a check that was made; without it the next command makes it again.
LOGS = re.compile(r"(^|/)log/|(^|/)verified\.json$|\.log$|(^|/)\.lock|(^|/)\.locks/|study\.db$|(^|/)train\.lock")
LEFT = re.compile(r"\.part($|/)|(^|/)\.replacing($|/)|-journal$")
MADE = re.compile(r"\d{4}-\d\d-\d\d at \d\d:\d\d UTC")


def differences(found: Path, wanted: Path) -> list[str]:
    """What differs, in words; nothing where the folders hold the same."""
    here, there = _files(found), _files(wanted)
    every = sorted(str(path.relative_to(found)) for path in found.rglob("*"))
    said = [f"left over: {name}" for name in every if LEFT.search(name)]
    said += [f"missing: {name}" for name in sorted(there - here)]
    said += [f"too many: {name}" for name in sorted(here - there) if not LEFT.search(name)]
    return said + [f"differs: {name}" for name in sorted(here & there) if not _same(found / name, wanted / name)]


def _files(folder: Path) -> set[str]:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not LOGS.search(name)}


def _same(found: Path, wanted: Path) -> bool:
    if found.read_bytes() == wanted.read_bytes():
        return True
    read = READERS.get(found.suffix)
    try:
        return read is not None and read(found) == read(wanted)
    except Exception:  # a damaged file: it is not the same
        return False


def _json(path: Path) -> Any:
    return _timeless(json.loads(path.read_text(encoding="utf-8")))


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if key not in TIMES and "mtime" not in key}
    return [_timeless(value) for value in content] if isinstance(content, list) else content


def _checkpoint(path: Path) -> Any:
    return _plain(torch.load(path, weights_only=True))


def _plain(content: Any) -> Any:
    if isinstance(content, torch.Tensor):
        return (str(content.dtype), tuple(content.shape), content.nan_to_num(7.0).tolist())
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return "nan" if content != content else content


def _table(path: Path) -> Any:
    table = pq.read_table(path)
    return table.to_pandas().to_csv(), dict(table.schema.metadata or {})


def _csv(path: Path) -> Any:
    frame = pd.read_csv(path, dtype=str)
    return frame.drop(columns=[name for name in frame if name in TIMES]).to_csv()


def _page(path: Path) -> str:
    return MADE.sub("", path.read_text(encoding="utf-8"))


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": _json,
    ".ckpt": _checkpoint,
    ".parquet": _table,
    ".csv": _csv,
    ".html": _page,
}
