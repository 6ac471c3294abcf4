"""The page, the tables and the figures of an audit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..core.files.atomic_files import write_json, write_text
from ..core.files.csv_files import write_csv
from ..core.files.replacing import new_contents
from ..core.plotting import picture_grid, save_figure, thumbnail
from ..core.version import __version__
from ..data.audit.image_statistics import SAMPLES, ImageStatistics, Reader
from ..data.catalog import shortened, write_problems
from ..data.problem_kinds import group_problems
from .class_balance import class_balance_figure
from .pages import figure_picture, page, thumbnail_picture

LISTED = 40  # faults of a kind named on the page
VALUES = 20  # sizes, formats and the like named on the page
CLUSTERS = 24  # clusters of duplicates shown, and as many pairs that may be duplicates
MEMBERS = 6  # images shown of a cluster
SHOWN_ERRORS = 48  # labels shown that are likely wrong
MAYBE = ("duplicates.csv", "label_errors.csv", "samples.png")  # which a later inspection may not have
FACTS = {"size (height x width)": "sizes", "format": "formats", "bands": "bands", "type of the pixels": "types"}


class Inspection(NamedTuple):
    """All that was found.

    counts : images of each class (index) in each split (columns)
    duplicates : `checks.duplicate_table`, None if they were not computed
    label_errors : image_id, file, label, suggested, p_label, p_suggested, likely; the label that is most likely wrong
        first
    read : opens the image of a row, as for `image_statistics.measure_images`
    """

    source: Path
    catalog: pd.DataFrame
    statistics: ImageStatistics
    summary: dict[str, Any]
    counts: pd.DataFrame
    problems: pd.DataFrame
    duplicates: pd.DataFrame | None
    label_errors: pd.DataFrame | None
    read: Reader


def write_inspection(out: Path, found: Inspection) -> None:
    """Write `inspect.html` and what it is made of into the folder `out`, in place of an earlier inspection."""
    with new_contents(out, "summary.json", lambda: MAYBE if (out / "summary.json").is_file() else ()) as new:
        _write(new, found)


def _write(out: Path, found: Inspection) -> None:
    write_json(out / "summary.json", found.summary)
    write_problems(found.problems, out / "problems.csv")
    write_csv(found.counts, out / "classes.csv", index=True)
    for table, name in ((found.duplicates, "duplicates.csv"), (found.label_errors, "label_errors.csv")):
        if table is not None:
            write_csv(table, out / name)
    balance = class_balance_figure(found.counts)
    save_figure(balance, out / "classes.png")
    samples = {name: found.statistics.samples[name] for name in sorted(found.statistics.samples)}
    pictures = [pixels / np.float32(255.0) for shown in samples.values() for _, pixels in shown]
    captions = [name for name, shown in samples.items() for _ in shown]
    if pictures:
        save_figure(picture_grid(pictures, captions, SAMPLES, "Samples of every class"), out / "samples.png")
    content = {
        "name": found.source.absolute().name,
        "path": found.source.absolute(),
        "summary": found.summary,
        "counts": found.counts,
        "balance": figure_picture(balance, "images of each class"),
        "samples": {
            name: [thumbnail_picture(pixels, f"{name}: {image_id}") for image_id, pixels in shown]
            for name, shown in samples.items()
        },
        "facts": {what: list(found.summary[key].items())[:VALUES] for what, key in FACTS.items()},
        "clusters": _clusters(found),
        "maybe": _maybe(found),
        "label_errors": _label_errors(found),
        **_listed(found.problems),
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d at %H:%M UTC"),
    }
    write_text(out / "inspect.html", page("inspect.html.j2", content))


def _listed(problems: pd.DataFrame) -> dict[str, Any]:
    """The problems by kind, the gravest first, and of each kind the first `LISTED` faults with their files."""
    folder, names = shortened(problems["file"].tolist())
    groups = [
        {
            "title": group.title,
            "severity": group.severity,
            "n": len(group.rows),
            "faults": [(problem, files) for problem, files in group.faults.items()][:LISTED],
            "left_out": max(len(group.faults) - LISTED, 0),
        }
        for group in group_problems(problems, names)
    ]
    return {"folder": folder, "groups": groups}


def _clusters(found: Inspection) -> list[dict[str, Any]]:
    """The clusters of duplicates that the page shows, in the order of the table: leaks first."""
    if found.duplicates is None:
        return []
    names = found.duplicates["cluster"].dropna().drop_duplicates().head(CLUSTERS)
    return [_side_by_side(found, found.duplicates[found.duplicates["cluster"] == name]) for name in names]


def _maybe(found: Inspection) -> list[dict[str, Any]]:
    """The pairs that may be duplicates, as many as the page shows, the most similar ones of each kind of harm first."""
    if found.duplicates is None:
        return []
    pairs = found.duplicates[found.duplicates["kind"] == "maybe"].head(CLUSTERS)
    return [_side_by_side(found, pairs.iloc[k : k + 1]) for k in range(len(pairs))]


def _side_by_side(found: Inspection, pairs: pd.DataFrame) -> dict[str, Any]:
    """The pictures of the pairs, and their captions."""
    place = _places(found.catalog)
    members = list(dict.fromkeys([*pairs["image_id"], *pairs["other_id"]]))
    across = [word for word in ("splits", "labels") if pairs["across"].str.contains(word).any()]
    return {
        "across": " and ".join(across),
        "kind": _relation(pairs),
        "pictures": [_shown(found, place[member]) for member in members[:MEMBERS]],
        "more": max(0, len(members) - MEMBERS),
    }


def _relation(pairs: pd.DataFrame) -> str:
    """How the images of a cluster are alike."""
    if (pairs["kind"] == "exact").all():
        return "identical"
    text = f"correlation {pairs['similarity'].min():.2f}"
    if len(pairs) > 1:
        return text
    (pair,) = pairs.to_dict("records")
    turned = f", turned by {pair['rotation']:.0f}°" if round(pair["rotation"]) % 360 else ""
    return text + turned + (", mirrored" if pair["mirrored"] else "")


def _label_errors(found: Inspection) -> list[dict[str, Any]]:
    """The labels that the page shows as likely wrong, with their pictures; a file may be missing since the run."""
    if found.label_errors is None:
        return []
    place = _places(found.catalog)
    readable = found.catalog["image_id"][[size is not None for size in found.statistics.sizes]]
    likely = found.label_errors["likely"].eq(True)  # empty where it is unknown
    shown = found.label_errors[likely & found.label_errors["image_id"].isin(readable)].head(SHOWN_ERRORS)
    pictures = [_shown(found, place[image_id])["picture"] for image_id in shown["image_id"]]
    rows = shown.to_dict("records")
    return [
        {"picture": picture, **{str(key): value for key, value in row.items()}}
        for row, picture in zip(rows, pictures, strict=True)
    ]


def _places(catalog: pd.DataFrame) -> Mapping[str, int]:
    return {image_id: row for row, image_id in enumerate(catalog["image_id"])}


def _shown(found: Inspection, number: int) -> dict[str, Any]:
    """The picture of an image, and its caption from the catalog."""
    row = found.catalog.iloc[number]
    about = [str(row[name]) for name in ("label", "split") if pd.notna(row[name])]
    image = found.read({"row": number, **{name: row[name] for name in ("image_id", "file", "label")}})
    picture = thumbnail_picture(thumbnail(image.pixels), f"{row['image_id']}: {', '.join(about)}")
    return {"picture": picture, "image_id": row["image_id"], "about": about}
