"""The predictions of a source, batch by batch, and the table that they are written to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd

from ...classifier.classifier import Classifier
from ...classifier.prediction_formats import predictions_file
from ...core.console import progress, say
from ...core.errors import SkyclassError, did_you_mean
from ...core.text import quantity
from ...data.catalog import COORDINATES, Problem, pixel_problems
from ...data.open import Opened
from ...data.packs.pack import Pack
from ...evaluation.predictions import carried_schema
from ...images.decode import decode_rows, unusable

CARRIED = ("label", "split", "group", "file")


def predicted(
    model: Classifier, opened: Opened, batch_size: int, orientations: bool
) -> tuple[pd.DataFrame, Iterator[pd.DataFrame], pd.DataFrame]:
    """The catalog with the images that it lacks, such as those whose files are not there; their predictions in this
    order, a frame a batch; and the problems of the source that are in none of them.
    """
    catalog, lost, problems = opened.catalog, opened.left_out, opened.problems
    ids = catalog["image_id"].tolist()
    if opened.pack:
        frames = _pack_frames(model, opened.pack, ids, batch_size, orientations)
    else:
        frames = model.stream(catalog["file"].tolist(), batch_size, orientations, ids)
    if lost.empty:
        return catalog, frames, problems
    errors = problems[problems["severity"] == "error"].drop_duplicates("image_id")
    reasons = errors.set_index("image_id")["problem"].loc[lost["image_id"]]
    unread = [unusable(problem) for problem in reasons]
    frames = chain(frames, [model.frame(lost["file"].tolist(), unread, image_ids=lost["image_id"].tolist())])
    catalog = pd.concat([catalog, lost], ignore_index=True)
    return catalog, frames, problems.drop(errors.index[errors["image_id"].isin(lost["image_id"])])


def say_predicted(n: int, failed: int, unlike: int, *, less_sure: bool) -> None:
    """Say how many of n images were predicted, how many are unlike all, and whether the calibration fits less well."""
    say(f"{n - failed:,} of {quantity(n, 'image')} predicted, {failed:,} could not be read")
    if unlike:
        are = f"{quantity(unlike, 'image')} {'is' if unlike == 1 else 'are'}"
        say(f"{are} unlike all that the classifier was trained on: true in the column `unlike`")
    if less_sure:
        say("The calibration was fitted without --orientations: p may be less sure, and sets larger, than they need be")


def unpredicted(failed: int, n: int, wrong: list[Problem], out: Path, listed: Path) -> SkyclassError:
    """The error if no image, or with `strict` not every image could be predicted."""
    first = next(row["problem"] for row in wrong if row["severity"] == "error")
    which = f"none of {quantity(n, 'image')}" if failed == n else f"{failed:,} of {quantity(n, 'image')}"
    what = f"{which} could {'' if failed == n else 'not '}be predicted, the first because: {first}"
    return SkyclassError(what, where=out, fix=f"{listed} has the reason of each")


def carried_columns(catalog: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The catalog's columns that go along beside those of CARRIED.

    Errors: SkyclassError for one that it lacks.
    """
    for name in columns:
        if name not in catalog:
            fix = did_you_mean(name, catalog.columns) or f"its columns are {', '.join(catalog.columns)}"
            raise SkyclassError(f"the source has no column {name!r}", where="--columns", fix=fix)
    wanted = dict.fromkeys((*(name for name in COORDINATES if name in catalog), *columns))
    return [name for name in wanted if name not in ("image_id", *CARRIED)]


def write(
    out: Path,
    model: Classifier,
    frames: Iterator[pd.DataFrame],
    catalog: pd.DataFrame,
    more: Sequence[str],
    provenance: dict[str, Any],
) -> tuple[list[Problem], int]:
    """Write the frames as they come, with the catalog's columns; returns the problems, and the images unlike all."""
    schema = carried_schema(catalog, more)
    wrong: list[Problem] = []
    start = unlike = 0
    writer = predictions_file(out, model.classes, provenance, schema)
    with writer as append, progress("Predicting", len(catalog)) as advance:
        for frame in frames:
            rows = catalog.iloc[start : start + len(frame)]
            own = set(frame)
            for name in (name for name in (*CARRIED, *more) if name in catalog):
                called = f"table_{name}" if name in more and name in own else name
                frame[called] = rows[name].array
            append(frame)
            texts = frame[["error", "warning"]].astype(object).where(frame[["error", "warning"]].notna(), None)
            for image_id, file, error, oddity in zip(
                frame["image_id"], frame["file"], texts["error"], texts["warning"], strict=True
            ):
                wrong += pixel_problems(image_id, file, error, oddity)
            start += len(frame)
            unlike += int(frame["unlike"].sum())
            advance(len(frame))
    return wrong, unlike


def _pack_frames(
    model: Classifier, pack: Pack, ids: list[str], batch_size: int, orientations: bool
) -> Iterator[pd.DataFrame]:
    """Frames of predictions of a pack's images, in order."""
    recipes = model.remaining_settings(pack.pixels, pack.path)
    decoded = decode_rows(pack.images, range(len(pack.images)), pack.bands, recipes)
    for start in range(0, len(pack.images), batch_size):
        chunk = list(islice(decoded, batch_size))
        names = ids[start : start + len(chunk)]
        yield model.frame(names, chunk, orientations, names)
