"""`skyclass predict`: a classifier over any source; results reach the disk as they are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd

from ..classifier.classifier import Classifier
from ..classifier.prediction_formats import check_suffix, predictions_file
from ..core.arguments import check_at_least_one, check_out
from ..core.console import progress, say, say_where, shown_messages
from ..core.devices import pick_device
from ..core.errors import SkyclassError, did_you_mean
from ..core.text import quantity
from ..data.catalog import COORDINATES, Problem, pixel_problems, problems_frame, say_problems, write_problems
from ..data.open import Opened, open_source
from ..data.packs.pack import Pack
from ..data.source_options import SourceOptions
from ..evaluation.predictions import carried_schema
from ..images.decode import DecodeResult, decode_rows
from ..models.network import BATCH

CARRIED = ("label", "split", "group", "file")


@shown_messages()
def predict(
    classifier: str | Path,
    source: str | Path,
    *,
    out: str | Path = "predictions.parquet",
    batch_size: int = BATCH,
    orientations: bool = False,
    device: str = "auto",
    strict: bool = False,
    check: bool = False,
    columns: Sequence[str] = (),
    options: SourceOptions = SourceOptions(),
) -> Path:
    """Predict every image of a source.

    Labels, splits, groups, `ra` and `dec` of the source are carried along. Images that cannot be read, or of which the
    source names a file that is not there, have a row too, with the reason in `error` and all that the source says of
    them; they and odd ones are listed in `<out>.problems.csv`.

    Parameters
    ----------
    classifier : str or Path
        The folder of a classifier or of a run.
    source : str or Path
        As `pack` takes it.
    out : str or Path
        The table, in the format of its suffix: .parquet, .csv, .fits, .vot or .ecsv.
    batch_size : int
        Images computed at a time.
    orientations : bool
        Whether to predict each image in its 8 orientations (4 if it is not square) and to take the mean.
    device : str
        auto, cpu, cuda or cuda:N.
    strict : bool
        Whether to refuse where any image could not be predicted, not only where none could.
    check : bool
        Whether to compare every byte of a pack with its hashes first; those of the classifier are compared in any case.
    columns : sequence of str
        More columns of the source's catalog to carry along.
    options : SourceOptions
        How the source is read.

    Returns
    -------
    Path
        The table.

    Raises
    ------
    SkyclassError
        Where no image could be predicted, once the table and the list of problems are written; for a classifier or a
        source that cannot be read.
    """
    out = check_out(Path(out))
    check_suffix(out)
    check_at_least_one(batch_size, "--batch-size", "images at a time")
    pick_device(device)
    model = Classifier.load(classifier, device)
    opened = open_source(source, options, check=check)
    carried = _carried(opened.catalog, columns)
    catalog, frames, told = _predicted(model, opened, batch_size, orientations)
    made_from = {"source": str(source), "source_hash": opened.pack.hash if opened.pack else None}
    provenance = {**made_from, "orientations": orientations, **model.provenance}
    wrong, unlike = _write(out, model, frames, catalog, carried, provenance)
    problems = pd.concat([told, problems_frame(wrong)], ignore_index=True)
    listed = out.with_name(f"{out.stem}.problems.csv")
    write_problems(problems, listed)
    failed = sum(row["severity"] == "error" for row in wrong)
    _tell(len(catalog), failed, unlike, less_sure=orientations and model.calibration.method != "none")
    say_problems(problems, listed)
    say_where("Predictions", out)
    if failed and (strict or failed == len(catalog)):
        raise _unpredicted(failed, len(catalog), wrong, out, listed)
    return out


def _predicted(
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
    unread = [DecodeResult(None, problem, None) for problem in reasons]
    frames = chain(frames, [model.frame(lost["file"].tolist(), unread, image_ids=lost["image_id"].tolist())])
    catalog = pd.concat([catalog, lost], ignore_index=True)
    return catalog, frames, problems.drop(errors.index[errors["image_id"].isin(lost["image_id"])])


def _tell(n: int, failed: int, unlike: int, *, less_sure: bool) -> None:
    """Say how many of n images were predicted, how many are unlike all, and whether the calibration fits less well."""
    say(f"{n - failed:,} of {quantity(n, 'image')} predicted, {failed:,} could not be read")
    if unlike:
        are = f"{quantity(unlike, 'image')} {'is' if unlike == 1 else 'are'}"
        say(f"{are} unlike all that the classifier was trained on: true in the column `unlike`")
    if less_sure:
        say("The calibration was fitted without --orientations: p may be less sure, and sets larger, than they need be")


def _unpredicted(failed: int, n: int, wrong: list[Problem], out: Path, listed: Path) -> SkyclassError:
    """The error if no image, or with `strict` not every image could be predicted."""
    first = next(row["problem"] for row in wrong if row["severity"] == "error")
    which = f"none of {quantity(n, 'image')}" if failed == n else f"{failed:,} of {quantity(n, 'image')}"
    what = f"{which} could {'' if failed == n else 'not '}be predicted, the first because: {first}"
    return SkyclassError(what, where=out, fix=f"{listed} has the reason of each")


def _carried(catalog: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The catalog's columns that go along beside those of CARRIED.

    Errors: SkyclassError for one that it lacks.
    """
    for name in columns:
        if name not in catalog:
            fix = did_you_mean(name, catalog.columns) or f"its columns are {', '.join(catalog.columns)}"
            raise SkyclassError(f"the source has no column {name!r}", where="--columns", fix=fix)
    wanted = dict.fromkeys((*(name for name in COORDINATES if name in catalog), *columns))
    return [name for name in wanted if name not in ("image_id", *CARRIED)]


def _write(
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
