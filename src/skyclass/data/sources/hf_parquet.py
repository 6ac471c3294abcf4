"""Hugging Face image data sets saved as Parquet: images as bytes in a column, labels as numbers with their names.

The column of images is never read here: a catalog's `file` is the address of a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ...core.errors import SkyclassError, one_line
from ..catalog import Found
from ..source_options import SourceOptions
from ..tables.columns import given_columns, name_classes, name_columns
from ..tables.table_files import as_frame
from .array_stacks import split_named
from .rows import addressed, checked_rows, join_table, short_names

# What a column of encoded images may be called if nothing else shows that it is one.
_NAMES = ("image", "img", "images", "picture", "jpg", "png", "webp", "image_bytes")
_FIX = "save it again with an image column of bytes"


def holds_images(path: Path, options: SourceOptions) -> bool:
    """Whether a Parquet file has a column of encoded images; False where it cannot be read."""
    if path.suffix.lower() != ".parquet":
        return False
    try:
        schema = pq.read_schema(path)
        return _image_column(schema, options.file_column, path) is not None
    except (pa.ArrowException, OSError, ValueError):
        return False


def read_parquet_images(root: Path, files: Sequence[Path], options: SourceOptions) -> Found:
    """One Parquet file with images in it, or the shards of a data set, whose names and folders give the split.

    Errors: SkyclassError for a shard that is damaged or has no images.
    """
    frames = []
    names = [""] if list(files) == [root] else [f"{name}/" for name in short_names(files, root)]
    for file, name in zip(files, names, strict=True):
        frame = _shard(file, options, name)
        split = split_named(file.relative_to(root)) if file != root else None
        if split is not None and "split" not in frame.columns:
            frame["split"] = split
        frames.append(frame)
    frame = join_table(list(zip(names, frames, strict=True)), root)
    return checked_rows(frame, root, sought=frame["file"].tolist(), fix=_FIX)


def _shard(path: Path, options: SourceOptions, prefix: str) -> pd.DataFrame:
    try:
        schema = pq.read_schema(path)
        column = _image_column(schema, options.file_column, path)
        if column is None:
            raise SkyclassError("no column of images", where=path, fix=f"its columns are {', '.join(schema.names)}")
        flat = [name for name in schema.names if name != column and _is_flat(schema.field(name).type)]
        table = pq.read_table(path, columns=flat)
        table.validate(full=True)
        count = pq.read_metadata(path).num_rows
        frame = as_frame(table) if flat else pd.DataFrame(index=pd.RangeIndex(count))
    except (pa.ArrowException, OSError, ValueError) as error:
        what = f"unreadable table ({one_line(error)[:200].rstrip('.')})"
        raise SkyclassError(what, where=path, fix="download it again") from None
    names = _class_names(schema)
    given = given_columns(options)
    if given["label"] is None and len(names) == 1:
        given["label"] = next(iter(names))
    frame = name_columns(frame, given | {"file": None}, path, places=False, split_names=options.split_names)
    label = given["label"] or next((name for name in names if name in ("label", "class")), None)
    if label in names and "label" in frame.columns:
        frame["label"] = name_classes(frame["label"], names[label], path)
    return addressed(frame, path, column, prefix)


def _is_flat(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """The features that the library stores: column -> feature."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column of labels -> names of its classes."""
    return {
        name: [str(one) for one in feature["names"]]
        for name, feature in _features(schema).items()
        if isinstance(feature, dict) and isinstance(feature.get("names"), list) and name in schema.names
    }


def _image_column(schema: pa.Schema, wanted: str | None, path: Path) -> str | None:
    """The column of images: the one wanted, else the only one, or the one that is called so.

    Errors: SkyclassError where there are several.
    """
    marked = {name for name, feature in _features(schema).items() if _is_image_feature(feature)}
    holding = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted is not None:
        return wanted if wanted in holding else None
    found = [
        name for name in holding if name in marked or name in _NAMES or pa.types.is_struct(schema.field(name).type)
    ]
    if len(found) > 1 and "image" not in found:
        what = f"several columns of images: {', '.join(found)}"
        raise SkyclassError(what, where=path, fix=f"choose one (--file-column {found[0]})")
    return "image" if "image" in found else next(iter(found), None)


def _is_image_feature(feature: object) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "Image"


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes, or a struct with bytes in it."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_bytes(kind.field(place).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
