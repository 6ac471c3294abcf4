"""`skyclass inspect`: the audit of a source, before a network learns it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from ..arguments import check_out
from ..console import console, say, say_where
from ..counts import quantity
from ..data.audit import (
    balance_problems,
    chirality_problems,
    cluster_problems,
    duplicate_problems,
    duplicate_table,
    duplicates_found,
    mixed_bands,
    odd_ones,
)
from ..data.catalog import SPLITS, problems_frame, tell_problems
from ..data.duplicates import claimed, find_duplicates
from ..data.file_kinds import Look, mixture_problems
from ..data.inspection import Inspection, write_inspection
from ..data.opening import Opened, open_source
from ..data.source_options import SourceOptions
from ..data.survey import UNLABELLED, Reader, Row, Survey, counted, survey_images
from ..errors import SkyclassError
from ..evaluation.evidence import LEAST_IN_CLASS, is_above_chance, listed
from ..evaluation.label_errors import held_out, rank_label_errors
from ..evaluation.metrics import balanced_accuracy
from ..images import Image, read_image
from ..prediction_formats import read_predictions
from ..run import predictions_of

TOLD = 6  # kinds of problems named at the terminal


def inspect(
    source: str | Path,
    *,
    out: str | Path | None = None,
    duplicates: bool = True,
    run: Sequence[str | Path] = (),
    check: bool = False,
    options: SourceOptions = SourceOptions(),
) -> dict[str, Any]:
    """Audit a source, read as `options` say: count, measure, compare and show; returns what `summary.json` holds.

    With `out`, writes `inspect.html`, a page that needs no other file, and what it is made of: `summary.json`,
    `problems.csv`, `duplicates.csv`, `classes.csv`, `classes.png`, `samples.png`, and with runs `label_errors.csv`.

    duplicates : look for copies of one picture, however turned, mirrored, cropped or brightened
    check : first compare every byte of a pack with its hashes
    run : runs (or predictions files) whose held-out predictions rank the labels by how likely they are wrong
    """
    if out:
        check_out(Path(out))
    opened = open_source(source, options, check=check)
    doubted = _label_errors(opened.catalog, run, source) if run else None  # a wrong run shows before any image is read
    read = _reader(opened)
    survey = survey_images(opened.catalog, read, fingerprints=duplicates)
    pairs = _duplicates(opened.catalog, survey) if duplicates else None
    problems = pd.concat([opened.problems, problems_frame(_problems(opened, survey, pairs, source))], ignore_index=True)
    counts = class_counts(opened.catalog)
    summary = _summary(opened.catalog, survey, problems, counts, pairs, doubted)
    if out:
        found = Inspection(Path(source), opened.catalog, survey, summary, counts, problems, pairs, doubted, read)
        write_inspection(Path(out), found)
    _tell(summary, counts, problems, Path(out) / "problems.csv" if out else None)
    if out:
        say_where("Inspection", Path(out) / "inspect.html")
    return summary


def _reader(opened: Opened) -> Reader:
    """How the image of a row of the catalog is opened."""
    pack = opened.pack

    def read(row: Row) -> Image:
        return Image(np.asarray(pack.images[row["row"]]), pack.bands, "pack") if pack else read_image(row["file"])

    return read


def _duplicates(catalog: pd.DataFrame, survey: Survey) -> pd.DataFrame:
    """The `duplicate_table` of the images that are of use."""
    pairs = find_duplicates(survey.fingerprints)
    rows = np.asarray(survey.fingerprinted, dtype=np.int64)
    for name in ("first", "second"):
        pairs[name] = rows[pairs[name].to_numpy(dtype=np.int64)]
    return duplicate_table(catalog, pairs)


def _problems(opened: Opened, survey: Survey, pairs: pd.DataFrame | None, source: str | Path) -> list[Any]:
    """What is wrong with the images: taken together, which is soon said and tells most, then one by one."""
    catalog, place = opened.catalog, str(Path(source).absolute())
    found: list[Any] = balance_problems(catalog, place)
    found += chirality_problems(catalog["label"].dropna().unique(), place)
    found += mixed_bands(survey.bands, place)
    found += mixture_problems([*map(Look, survey.sizes, survey.bands, survey.types)], place)
    found += survey.problems
    if pairs is not None:
        found += [*cluster_problems(pairs, len(catalog), place), *duplicate_problems(pairs)]
    found += odd_ones(catalog, survey.sizes, "size", "size")
    found += odd_ones(catalog, _band_counts(survey), "number of bands", "bands")
    return found + odd_ones(catalog, survey.types, "type of the pixels", "depth")


def _band_counts(survey: Survey) -> list[int | None]:
    return [None if bands is None else len(bands.split()) for bands in survey.bands]


def _label_errors(catalog: pd.DataFrame, runs: Sequence[str | Path], source: str | Path) -> pd.DataFrame:
    """The catalog's images of the runs' classes that were held out in some run, the most doubtful label first."""
    predicted = held_out({str(path): read_predictions(predictions_of(Path(path))) for path in runs})
    labelled = catalog.loc[catalog["label"].isin(predicted.classes), ["image_id", "file", "label"]]
    both = labelled.merge(predicted.frame.drop(columns="label"), on="image_id")
    if both.empty:
        what = "no image with a label that the runs know was held out in them"
        raise SkyclassError(what, where=source, fix="give the source that the runs were trained on")
    p = both[[f"p_{name}" for name in predicted.classes]].to_numpy()
    can_tell = _tell_held_out(both["label"], p, predicted.classes)
    ranked = rank_label_errors(both["label"], p, predicted.classes)
    if not can_tell:
        ranked["likely"] = None
    ranked.insert(0, "image_id", both["image_id"].to_numpy()[ranked["row"]])
    ranked.insert(1, "file", both["file"].to_numpy()[ranked["row"]])
    return ranked.drop(columns="row")


def _tell_held_out(labels: pd.Series, p: np.ndarray, classes: Sequence[str]) -> bool:
    """Say how far the networks can be believed: one that guesses doubts everything. Whether they can be at all."""
    known = ~np.isnan(p).any(axis=1)
    index = np.array([classes.index(label) for label in labels[known]])
    found = balanced_accuracy(index, p[known]) if known.any() else float("nan")
    say(
        f"{len(labels):,} labelled images with predictions by a network that was not trained on them, "
        f"whose balanced accuracy is {found:.3f}"
    )
    counts = {name: int((index == k).sum()) for k, name in enumerate(classes)}
    few = [f"{name} ({n})" for name, n in counts.items() if n < LEAST_IN_CLASS]
    if few:
        say(
            f"Too few to tell which labels are wrong: it takes {LEAST_IN_CLASS} images of each class, not {listed(few)}"
        )
        return False
    if not is_above_chance(index, p[known].argmax(axis=1)):
        say(
            "Too few right predictions to tell which labels are wrong: these networks are not surely better than chance"
        )
        return False
    if found < 0.5 + 0.5 / len(classes):  # nearer to chance than to perfection
        say("Warning: these networks hardly know the classes; train longer before you believe their doubts")
    return True


def class_counts(catalog: pd.DataFrame) -> pd.DataFrame:
    """Images of each class (index) in each split (columns; `all` where there are no splits)."""
    label = catalog["label"].fillna(UNLABELLED)
    if catalog["split"].isna().all():
        return label.value_counts(sort=False).sort_index().to_frame("all")
    counts = pd.crosstab(label, catalog["split"].fillna("none"))
    order = [name for name in (*SPLITS, "none") if name in counts]
    return counts[order]


def _summary(
    catalog: pd.DataFrame,
    survey: Survey,
    problems: pd.DataFrame,
    counts: pd.DataFrame,
    pairs: pd.DataFrame | None,
    doubted: pd.DataFrame | None,
) -> dict[str, Any]:
    return {
        "images": len(catalog),
        "readable": survey.readable,
        "classes": {str(name): int(n) for name, n in counts.sum(axis=1).items()},
        "splits": {str(name): int(n) for name, n in counts.sum(axis=0).items()},
        "sizes": counted(survey.sizes),
        "formats": counted(survey.formats),
        "bands": counted(survey.bands),
        "types": counted(survey.types),
        "values": {band: list(both) for band, both in survey.ranges.items()},
        "duplicates": None if pairs is None else _duplicate_counts(pairs),
        "label_errors": None if doubted is None else _doubt_counts(doubted),
        "errors": int((problems["severity"] == "error").sum()),
        "warnings": int((problems["severity"] == "warning").sum()),
    }


def _doubt_counts(doubted: pd.DataFrame) -> dict[str, int | None]:
    """How many labels are ranked, and how many likely wrong; None where that cannot be told."""
    can_tell = bool(doubted["likely"].notna().any())
    return {"ranked": len(doubted), "likely": int(doubted["likely"].sum()) if can_tell else None}


def _duplicate_counts(pairs: pd.DataFrame) -> dict[str, int]:
    """Of the copies, but for `maybe_pairs`."""
    copies = claimed(pairs)
    return {
        "images": len(set(copies["image_id"]) | set(copies["other_id"])),
        "clusters": copies["cluster"].nunique(),
        **{f"{kind}_pairs": int((pairs["kind"] == kind).sum()) for kind in ("exact", "sure", "maybe")},
        "pairs_across_splits": int(copies["across"].str.contains("splits").sum()),
        "pairs_across_labels": int(copies["across"].str.contains("labels").sum()),
    }


def _tell(summary: dict[str, Any], counts: pd.DataFrame, problems: pd.DataFrame, listed: Path | None) -> None:
    """Say it all at the terminal."""
    say(f"{quantity(summary['images'], 'image')}, {summary['readable']:,} readable")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("class", overflow="fold")
    for split in counts.columns:
        table.add_column("images" if split == "all" else str(split), justify="right")
    for name, row in counts.iterrows():
        table.add_row(str(name), *(f"{n:,}" for n in row))
    console.print(table)
    for name in ("sizes", "formats", "bands", "types"):
        shown = ", ".join(f"{value} ({n:,})" for value, n in list(summary[name].items())[:6])
        more = len(summary[name]) - 6
        say(f"{name}: {shown}" + (f" and {more:,} more" if more > 0 else ""))
    if summary["values"]:
        ranges = [f"{band} {low:g} to {high:g}" for band, (low, high) in summary["values"].items()]
        say(f"values: {', '.join(ranges)}")
    _tell_findings(summary)
    tell_problems(problems, listed, TOLD)


def _tell_findings(summary: dict[str, Any]) -> None:
    """Say what was found of duplicates and doubtful labels."""
    found = summary["duplicates"]
    if found:
        say(duplicates_found(found["images"], found["clusters"], found["maybe_pairs"]))
    if found and found["clusters"]:
        splits, labels = found["pairs_across_splits"], found["pairs_across_labels"]
        say(f"of the pairs of copies {splits:,} lie across splits and {labels:,} across labels")
    doubted = summary["label_errors"]
    if doubted:
        unknown = "ranked by their probability; which are wrong cannot be told"
        likely = unknown if doubted["likely"] is None else f"{doubted['likely']:,} are likely wrong"
        say(f"labels: of {doubted['ranked']:,} {likely}")
