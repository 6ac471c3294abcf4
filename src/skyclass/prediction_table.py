"""What a classifier says of some images, as a table: the columns that `predictions` describes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from .evaluation.metrics import entropy_uncertainty
from .evaluation.prediction_sets import PredictionSets, set_columns
from .predictions import NO_NUMBERS, PREFIX


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
