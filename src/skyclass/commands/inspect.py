"""`skyclass inspect`: the audit of a source, before a network learns it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from ..classifier.prediction_formats import read_predictions
from ..classifier.run import predictions_of
from ..core.arguments import check_out
from ..core.console import console, say, say_where, shown_messages
from ..core.errors import SkyclassError
from ..core.sample_sizes import LEAST_IN_CLASS
from ..core.text import listed, quantity
from ..data.audit.checks import (
    balance_problems,
    chirality_problems,
    cluster_problems,
    duplicate_problems,
    duplicate_table,
    duplicates_found,
    mixed_bands,
    odd_ones,
)
from ..data.audit.duplicates import claimed, find_duplicates
from ..data.audit.file_kinds import PixelFormat, mixture_problems
from ..data.audit.image_statistics import CatalogRow, ImageStatistics, Reader, counted, measure_images
from ..data.catalog import class_counts, problems_frame, say_problems
from ..data.open import Opened, open_source
from ..data.source_options import SourceOptions
from ..evaluation.caveats import is_above_chance
from ..evaluation.label_errors import held_out, rank_label_errors
from ..evaluation.metrics import balanced_accuracy
from ..images.formats.read import Image, read_image
from ..reports.audit_page import Inspection, write_inspection

SHOWN = 6  # kinds of problems named at the terminal


@shown_messages()
def inspect(
    source: str | Path,
    *,
    out: str | Path | None = None,
    duplicates: bool = True,
    run: Sequence[str | Path] = (),
    check: bool = False,
    options: SourceOptions = SourceOptions(),
) -> dict[str, Any]:
    """Audit a source: count, measure, compare and show.

    With `out`, writes `inspect.html`, a page that needs no other file, and what it is made of: `summary.json`,
    `problems.csv`, `duplicates.csv`, `classes.csv`, `classes.png`, `samples.png`, and with runs `label_errors.csv`.

    Parameters
    ----------
    source : str or Path
        As `pack` takes it.
    out : str or Path, optional
        The folder to write into.
    duplicates : bool
        Whether to find copies of one picture, however turned, mirrored, cropped or brightened.
    run : sequence of str or Path
        Runs (or predictions files) whose held-out predictions rank the labels by how likely they are wrong.
    check : bool
        Whether to compare every byte of a pack with its hashes first.
    options : SourceOptions
        How the source is read.

    Returns
    -------
    dict
        The content of `summary.json`.

    Raises
    ------
    SkyclassError
        For a source without an image, and predictions that are not of these images.
    """
    if out:
        check_out(Path(out))
    opened = open_source(source, options, check=check)
    label_errors = (
        _label_errors(opened.catalog, run, source) if run else None
    )  # a wrong run shows before any image is read
    read = _reader(opened)
    statistics = measure_images(opened.catalog, read, fingerprints=duplicates)
    pairs = _duplicates(opened.catalog, statistics) if duplicates else None
    problems = pd.concat(
        [opened.problems, problems_frame(_problems(opened, statistics, pairs, source))], ignore_index=True
    )
    counts = class_counts(opened.catalog)
    summary = _summary(opened.catalog, statistics, problems, counts, pairs, label_errors)
    if out:
        found = Inspection(
            Path(source), opened.catalog, statistics, summary, counts, problems, pairs, label_errors, read
        )
        write_inspection(Path(out), found)
    _say_summary(summary, counts, problems, Path(out) / "problems.csv" if out else None)
    if out:
        say_where("Inspection", Path(out) / "inspect.html")
    return summary


def _reader(opened: Opened) -> Reader:
    """How the image of a row of the catalog is opened."""
    pack = opened.pack

    def read(row: CatalogRow) -> Image:
        return Image(np.asarray(pack.images[row["row"]]), pack.bands, "pack") if pack else read_image(row["file"])

    return read


def _duplicates(catalog: pd.DataFrame, statistics: ImageStatistics) -> pd.DataFrame:
    """The `duplicate_table` of the images that are of use."""
    pairs = find_duplicates(statistics.fingerprints)
    rows = np.asarray(statistics.fingerprinted, dtype=np.int64)
    for name in ("first", "second"):
        pairs[name] = rows[pairs[name].to_numpy(dtype=np.int64)]
    return duplicate_table(catalog, pairs)


def _problems(opened: Opened, statistics: ImageStatistics, pairs: pd.DataFrame | None, source: str | Path) -> list[Any]:
    """Problems of the images: first of all of them together, then one by one."""
    catalog, place = opened.catalog, str(Path(source).absolute())
    found: list[Any] = balance_problems(catalog, place)
    found += chirality_problems(catalog["label"].dropna().unique(), place)
    found += mixed_bands(statistics.bands, place)
    found += mixture_problems([*map(PixelFormat, statistics.sizes, statistics.bands, statistics.types)], place)
    found += statistics.problems
    if pairs is not None:
        found += [*cluster_problems(pairs, len(catalog), place), *duplicate_problems(pairs)]
    found += odd_ones(catalog, statistics.sizes, "size", "size")
    found += odd_ones(catalog, _band_counts(statistics), "number of bands", "bands")
    return found + odd_ones(catalog, statistics.types, "type of the pixels", "depth")


def _band_counts(statistics: ImageStatistics) -> list[int | None]:
    return [None if bands is None else len(bands.split()) for bands in statistics.bands]


def _label_errors(catalog: pd.DataFrame, runs: Sequence[str | Path], source: str | Path) -> pd.DataFrame:
    """The catalog's images of the runs' classes that were held out in some run, the most doubtful label first."""
    predicted = held_out({str(path): read_predictions(predictions_of(Path(path))) for path in runs})
    labelled = catalog.loc[catalog["label"].isin(predicted.classes), ["image_id", "file", "label"]]
    both = labelled.merge(predicted.frame.drop(columns="label"), on="image_id")
    if both.empty:
        what = "no image with a label that the runs know was held out in them"
        raise SkyclassError(what, where=source, fix="give the source that the runs were trained on")
    p = both[[f"p_{name}" for name in predicted.classes]].to_numpy()
    is_reliable = _say_held_out_scores(both["label"], p, predicted.classes)
    ranked = rank_label_errors(both["label"], p, predicted.classes)
    if not is_reliable:
        ranked["likely"] = None
    ranked.insert(0, "image_id", both["image_id"].to_numpy()[ranked["row"]])
    ranked.insert(1, "file", both["file"].to_numpy()[ranked["row"]])
    return ranked.drop(columns="row")


def _say_held_out_scores(labels: pd.Series, p: np.ndarray, classes: Sequence[str]) -> bool:
    """Log how good the networks are on held-out images; returns whether they are good enough to find wrong labels."""
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
        say("Warning: these networks hardly know the classes; train longer before you believe what they find")
    return True


def _summary(
    catalog: pd.DataFrame,
    statistics: ImageStatistics,
    problems: pd.DataFrame,
    counts: pd.DataFrame,
    pairs: pd.DataFrame | None,
    label_errors: pd.DataFrame | None,
) -> dict[str, Any]:
    return {
        "images": len(catalog),
        "readable": statistics.readable,
        "classes": {str(name): int(n) for name, n in counts.sum(axis=1).items()},
        "splits": {str(name): int(n) for name, n in counts.sum(axis=0).items()},
        "sizes": counted(statistics.sizes),
        "formats": counted(statistics.formats),
        "bands": counted(statistics.bands),
        "types": counted(statistics.types),
        "values": {band: list(both) for band, both in statistics.ranges.items()},
        "duplicates": None if pairs is None else _duplicate_counts(pairs),
        "label_errors": None if label_errors is None else _label_error_counts(label_errors),
        "errors": int((problems["severity"] == "error").sum()),
        "warnings": int((problems["severity"] == "warning").sum()),
    }


def _label_error_counts(label_errors: pd.DataFrame) -> dict[str, int | None]:
    """How many labels are ranked, and how many likely wrong; None if that is unknown."""
    is_reliable = bool(label_errors["likely"].notna().any())
    return {"ranked": len(label_errors), "likely": int(label_errors["likely"].sum()) if is_reliable else None}


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


def _say_summary(summary: dict[str, Any], counts: pd.DataFrame, problems: pd.DataFrame, listed: Path | None) -> None:
    """Log the summary."""
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
    _say_findings(summary)
    say_problems(problems, listed, SHOWN)


def _say_findings(summary: dict[str, Any]) -> None:
    """Log the duplicates and the wrong labels."""
    found = summary["duplicates"]
    if found:
        say(duplicates_found(found["images"], found["clusters"], found["maybe_pairs"]))
    if found and found["clusters"]:
        splits, labels = found["pairs_across_splits"], found["pairs_across_labels"]
        say(f"of the pairs of copies {splits:,} lie across splits and {labels:,} across labels")
    label_errors = summary["label_errors"]
    if label_errors:
        unknown = "ranked by their probability; which are wrong cannot be told"
        likely = unknown if label_errors["likely"] is None else f"{label_errors['likely']:,} are likely wrong"
        say(f"labels: of {label_errors['ranked']:,} {likely}")
