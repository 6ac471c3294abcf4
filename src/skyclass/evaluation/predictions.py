"""Tables of predictions: their columns, and reading and writing them as Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import SkyclassError
from ..core.files.atomic_files import written_whole
from .calibration.conformal import PredictionSets, set_columns
from .metrics import entropy_uncertainty


def prediction_table(
    image_ids: Iterable[str],
    p: np.ndarray,
    classes: Sequence[str],
    prediction_sets: PredictionSets | None,
    uncertainty: np.ndarray | None,
    novelty: np.ndarray | None,
) -> pd.DataFrame:
    """Probabilities (n, K), rows of NaN where there is no prediction, as a table; see `Classifier.table`."""
    known = ~np.isnan(p).any(axis=1)
    frame = pd.DataFrame({"image_id": list(image_ids)}, dtype=object)
    for index, name in enumerate(classes):
        frame[f"{PREFIX}{name}"] = p[:, index].astype(np.float32)
    best = np.where(known, np.nan_to_num(p).argmax(axis=1), -1)
    frame["predicted"] = [classes[index] if index >= 0 else None for index in best]
    frame["confidence"] = p.max(axis=1).astype(np.float32)
    uncertainty = entropy_uncertainty(np.nan_to_num(p)) if uncertainty is None else uncertainty
    frame["uncertainty"] = np.where(known, uncertainty, np.nan).astype(np.float32)
    columns = set_columns(prediction_sets, p, frame["image_id"], classes)
    frame["prediction_set"], frame["ambiguous"] = columns
    far = np.full(len(p), np.nan) if novelty is None else novelty
    frame["error"] = pd.Series([None if good else NO_NUMBERS for good in known], dtype="object")
    frame["novelty"] = far.astype(np.float32)
    frame["unlike"] = pd.arrays.BooleanArray(far > 1.0, mask=np.isnan(far))
    return frame


def in_rows(rows: Sequence[int], values: np.ndarray | None, n: int) -> np.ndarray | None:
    """Values of some of n rows as values of all, NaN in the others; None where there are none."""
    if values is None:
        return None
    every = np.full(n, np.nan)
    every[rows] = values
    return every


PREFIX = "p_"
UNCALIBRATED = "uncalibrated_"
NO_NUMBERS = "the network's answer is no number (NaN): no prediction"
TEXT = ("image_id", "predicted", "prediction_set", "label", "split", "group", "file", "warning", "error")


def carried_schema(catalog: pd.DataFrame, names: Iterable[str]) -> pa.Schema:
    """Types of those columns of a catalog; what is neither numbers nor text alone goes as text."""
    fields = []
    for name in names:
        try:
            kind = pa.array(catalog[name], from_pandas=True).type
        except (pa.ArrowException, ValueError):
            kind = pa.string()
        flat = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        fields.append((name, kind if flat else pa.string()))
    return pa.schema(fields)


def schema_of(
    classes: list[str], provenance: dict[str, Any], *, uncalibrated: bool = False, carried: pa.Schema | None = None
) -> pa.Schema:
    """The Arrow schema of a predictions file; `provenance` is stored in its metadata.

    uncalibrated, carried : as in `predictions_writer`
    """
    number = [(f"{PREFIX}{name}", pa.float32()) for name in classes]
    before = [(f"{UNCALIBRATED}{name}", pa.float32()) for name in classes if uncalibrated]
    fields = [
        ("image_id", pa.string()),
        *number,
        ("predicted", pa.string()),
        ("confidence", pa.float32()),
        ("uncertainty", pa.float32()),
        ("prediction_set", pa.string()),
        ("ambiguous", pa.bool_()),
        ("novelty", pa.float32()),
        ("unlike", pa.bool_()),
        *((name, pa.string()) for name in TEXT[3:]),
    ]
    own = {name for name, _ in (*fields, *before)}
    catalogs = [(f"table_{one.name}" if one.name in own else one.name, one.type) for one in carried or ()]
    fields = [*fields, *catalogs, *before]
    metadata = {"skyclass": json.dumps({"classes": classes, **provenance})}
    return pa.schema(fields, metadata=metadata)


@contextmanager
def predictions_writer(
    path: Path,
    classes: list[str],
    provenance: dict[str, Any],
    *,
    uncalibrated: bool = False,
    carried: pa.Schema | None = None,
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yields a function that appends rows; the file appears under its name when the block ends without an error.

    uncalibrated : with the columns `uncalibrated_<class>`. Columns that a frame lacks become null.
    carried : columns of the catalog that follow `error`; one that is called as a column of predictions is
        `table_<name>`
    """
    schema = schema_of(classes, provenance, uncalibrated=uncalibrated, carried=carried)
    with written_whole(path) as part, pq.ParquetWriter(part, schema) as writer:

        def append(frame: pd.DataFrame) -> None:
            writer.write_table(table_of(frame, schema))

        yield append


def table_of(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame's columns that the schema names, null where it lacks one."""
    return pa.Table.from_arrays([_column(frame, field) for field in schema], schema=schema)


def _column(frame: pd.DataFrame, field: pa.Field) -> pa.Array:
    if field.name not in frame:
        return pa.nulls(len(frame), field.type)
    if field.type == pa.string() and field.name not in TEXT:  # a catalog's column of anything
        return pa.array(frame[field.name].astype(object).map(str, na_action="ignore"), pa.string(), from_pandas=True)
    return pa.array(frame[field.name], type=field.type, from_pandas=True)


_EXACT = {getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")() for name in ("Int64", "UInt64")}


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Arrow's table as pandas's, with long integers exact even beside an absent one."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=_EXACT.get)
    return frame


def without_lost(frame: pd.DataFrame, classes: list[str], path: Path) -> pd.DataFrame:
    """The table, with `predicted` empty and an `error` where a probability is NaN or infinite: that is no prediction.

    Errors: SkyclassError for a class without a column, and one that holds no numbers.
    """
    missing = [f"{PREFIX}{name}" for name in classes if f"{PREFIX}{name}" not in frame]
    if missing:
        raise SkyclassError(f"no column {', '.join(missing)}", where=path, fix="predict again")
    try:
        lost = ~np.isfinite(probabilities(frame, classes)).all(axis=1)
    except (TypeError, ValueError):
        raise SkyclassError("a column of probabilities holds no numbers", where=path, fix="predict again") from None
    if "predicted" in frame:
        frame["predicted"] = frame["predicted"].astype(object).mask(lost, None)
        lost &= frame["error"].isna() if "error" in frame else True
    if lost.any():
        errors = frame["error"] if "error" in frame else pd.Series(None, index=frame.index)
        frame["error"] = errors.astype(object).mask(lost, NO_NUMBERS)
    return frame


def probabilities(frame: pd.DataFrame, classes: list[str], prefix: str = PREFIX) -> np.ndarray:
    """(N, K) float64 probabilities in the order of `classes`; `UNCALIBRATED` gives those before calibration."""
    return frame[[f"{prefix}{name}" for name in classes]].to_numpy(dtype=np.float64)


def lost_rows(frame: pd.DataFrame) -> pd.Series:
    """Whether a row (N,) has no prediction, as `without_lost` tells it in `error`."""
    return frame["error"].eq(NO_NUMBERS) if "error" in frame else pd.Series(False, index=frame.index)


def labelled_predictions(frame: pd.DataFrame, split: str | None, where: Path) -> tuple[pd.DataFrame, str]:
    """The predicted rows of the split, and its name. Errors: SkyclassError for a split without rows."""
    known = frame["split"] if "split" in frame else pd.Series(index=frame.index, dtype=object)
    if split is None:
        split = "test" if (known == "test").any() else "all"
    rows = frame if split == "all" else frame[known == split]
    rows = rows[rows["predicted"].notna()] if "predicted" in rows else rows[~lost_rows(rows)]
    if "label" not in rows:
        rows = rows.assign(label=None)
    if rows.empty:
        have = ", ".join(sorted(set(known.dropna()))) or "none"
        raise SkyclassError(f"no prediction in the split {split!r}", where=where, fix=f"the splits here are {have}")
    return rows, split


def count_unpredicted(frame: pd.DataFrame, split: str) -> int:
    """Images of the split, or of `all`, that could not be predicted."""
    rows = frame if split == "all" else frame[frame["split"] == split]
    return int(rows["error"].notna().sum()) if "error" in rows else 0
