"""`skyclass inspect`: what is in a source, before a network learns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from .. import __version__
from ..console import console, progress, say, say_where
from ..data.catalog import SPLITS, problems_frame, shortened, write_problems
from ..data.opening import open_source
from ..decoding import judge
from ..drawing import figure_picture, page, picture_grid, save_figure, thumbnail, thumbnail_picture
from ..errors import SkyclassError, one_line
from ..evaluation.figures import class_balance_figure
from ..files import write_json, write_text
from ..images import Image, read_image
from ..threads import in_order

SAMPLES = 8  # images a class on the sample sheet
TOLD = 20  # problems named at the terminal
LISTED = 200  # problems named on the page
UNLABELLED = "unlabelled"
FACTS = {"size (height x width)": "sizes", "format": "formats", "bands": "bands", "type of the pixels": "types"}

Row = Mapping[Any, Any]


class Seen(NamedTuple):
    """What one image looks like, or why it cannot be read (`error` and nothing else)."""

    error: str | None
    warning: str | None = None
    size: str = ""
    format: str = ""
    bands: str = ""
    type: str = ""
    values: tuple[float, float] | None = None
    sample: np.ndarray | None = None


@dataclass
class Survey:
    """What was seen of the images: counts of their shapes, formats and types, samples and problems."""

    sizes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    bands: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    low: float = np.inf
    high: float = -np.inf
    samples: dict[str, list[tuple[str, np.ndarray]]] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)

    def wants(self, row: Row) -> bool:
        """Whether the class of the row has too few samples so far."""
        return len(self.samples.get(_class_of(row), ())) < SAMPLES

    def add(self, row: Row, seen: Seen) -> None:
        """Count one image."""
        for severity, text in (("error", seen.error), ("warning", seen.warning)):
            if text:
                entry = {"image_id": row["image_id"], "file": row["file"], "problem": text}
                self.problems.append({**entry, "severity": severity})
        if not seen.size:
            return
        self.sizes[seen.size] += 1
        self.formats[seen.format] += 1
        self.bands[seen.bands] += 1
        self.types[seen.type] += 1
        if seen.values:
            self.low, self.high = min(self.low, seen.values[0]), max(self.high, seen.values[1])
        if seen.sample is not None and self.wants(row):
            self.samples.setdefault(_class_of(row), []).append((row["image_id"], seen.sample))


def inspect(
    source: str | Path,
    *,
    out: str | Path | None = None,
    image_root: str | Path | None = None,
    id_column: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> dict[str, Any]:
    """Count, measure and show the images of a source; returns what `summary.json` holds.

    With `out`, writes `inspect.html`, a page that needs no other file, and what it is made of: `summary.json`,
    `problems.csv`, `classes.csv`, `classes.png` and `samples.png`.
    """
    opened = open_source(
        source,
        image_root=image_root,
        id_column=id_column,
        file_column=file_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
    )
    catalog, pack = opened.catalog, opened.pack

    def read(row: Row) -> Image:
        return Image(np.asarray(pack.images[row["row"]]), pack.bands, "pack") if pack else read_image(row["file"])

    survey = _survey(catalog, read)
    problems = pd.concat([opened.problems, problems_frame(survey.problems)], ignore_index=True)
    counts = class_counts(catalog)
    summary = _summary(catalog, survey, problems, counts)
    _tell(summary, counts, problems)
    if out:
        _write(Path(out), Path(source), summary, counts, problems, survey)
        say_where("Inspection", Path(out) / "inspect.html")
    return summary


def _survey(catalog: pd.DataFrame, read: Callable[[Row], Image]) -> Survey:
    """Look at every image, in threads; the survey does not depend on which ends first.

    Memory does not grow with the number of images: a thread hands back counts, and a small copy where one is wanted.
    """
    survey = Survey()

    def look(row: Row) -> tuple[Row, Seen]:
        # Samples only grow, so whoever is still wanted when its turn comes was wanted here too.
        return row, _look(row, read, survey.wants(row))

    with progress("Inspecting", len(catalog)) as advance:
        for row, seen in in_order(look, _rows(catalog)):
            survey.add(row, seen)
            advance(1)
    return survey


def _rows(catalog: pd.DataFrame) -> Iterator[Row]:
    """What the survey needs of each row, and its number in the catalog as `row`."""
    columns = (catalog[name] for name in ("image_id", "file", "label"))
    for number, (image_id, file, label) in enumerate(zip(*columns, strict=True)):
        yield {"row": number, "image_id": image_id, "file": file, "label": label}


def _look(row: Row, read: Callable[[Row], Image], wanted: bool) -> Seen:
    """Read and measure one image; a bad one is a finding, never an exception."""
    try:
        image = read(row)
        error, warning = judge(image, [])
        _, height, width = image.pixels.shape
        finite = image.pixels[np.isfinite(image.pixels)]
        return Seen(
            error,
            warning,
            size=f"{height}x{width}",
            format=image.format,
            bands=" ".join(image.bands),
            type=str(image.pixels.dtype),
            values=(float(finite.min()), float(finite.max())) if finite.size else None,
            sample=thumbnail(image.pixels) if wanted and not error else None,
        )
    except SkyclassError as refusal:
        return Seen(f"{refusal.what}; {refusal.fix}" if refusal.fix else refusal.what)
    except Exception as error:  # a decoder's own bug must not cost the rest
        return Seen(f"cannot be decoded: {one_line(error)}")


def _class_of(row: Row) -> str:
    return UNLABELLED if pd.isna(row["label"]) else str(row["label"])


def class_counts(catalog: pd.DataFrame) -> pd.DataFrame:
    """Images of each class (index) in each split (columns; `all` where there are no splits)."""
    label = catalog["label"].fillna(UNLABELLED)
    if catalog["split"].isna().all():
        return label.value_counts(sort=False).sort_index().to_frame("all")
    counts = pd.crosstab(label, catalog["split"].fillna("none"))
    order = [name for name in (*SPLITS, "none") if name in counts]
    return counts[order]


def _summary(catalog: pd.DataFrame, survey: Survey, problems: pd.DataFrame, counts: pd.DataFrame) -> dict[str, Any]:
    return {
        "images": len(catalog),
        "readable": sum(survey.sizes.values()),
        "classes": {str(name): int(n) for name, n in counts.sum(axis=1).items()},
        "splits": {str(name): int(n) for name, n in counts.sum(axis=0).items()},
        "sizes": dict(survey.sizes.most_common()),
        "formats": dict(survey.formats.most_common()),
        "bands": dict(survey.bands.most_common()),
        "types": dict(survey.types.most_common()),
        "values": [survey.low, survey.high] if np.isfinite(survey.low) else None,
        "errors": int((problems["severity"] == "error").sum()),
        "warnings": int((problems["severity"] == "warning").sum()),
    }


def _tell(summary: dict[str, Any], counts: pd.DataFrame, problems: pd.DataFrame) -> None:
    """Say it all at the terminal."""
    say(f"{summary['images']:,} images, {summary['readable']:,} readable")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("class", overflow="fold")
    for split in counts.columns:
        table.add_column("images" if split == "all" else str(split), justify="right")
    for name, row in counts.iterrows():
        table.add_row(str(name), *(f"{n:,}" for n in row))
    console.print(table)
    for name in FACTS.values():
        shown = ", ".join(f"{value} ({n:,})" for value, n in list(summary[name].items())[:6])
        more = len(summary[name]) - 6
        say(f"{name}: {shown}" + (f" and {more:,} more" if more > 0 else ""))
    if summary["values"]:
        say("values: {:g} to {:g}".format(*summary["values"]))
    say(f"{_counted(summary['errors'], 'error')}, {_counted(summary['warnings'], 'warning')}")
    folder, names = shortened(problems["file"].head(TOLD).tolist())
    if folder:
        say(f"  in {folder}:")
    for name, problem in zip(names, problems.head(TOLD).to_dict("records"), strict=True):
        say(f"  {problem['severity']}: {name}: {problem['problem']}")
    if len(problems) > TOLD:
        say(f"  and {len(problems) - TOLD:,} more; --out writes all of them into problems.csv")


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _write(
    out: Path, source: Path, summary: dict[str, Any], counts: pd.DataFrame, problems: pd.DataFrame, survey: Survey
) -> None:
    """Write the tables, the figures and the page."""
    write_json(out / "summary.json", summary)
    write_problems(problems, out / "problems.csv")
    counts.to_csv(out / "classes.csv")
    balance = class_balance_figure(counts)
    save_figure(balance, out / "classes.png")
    samples = {name: survey.samples[name] for name in sorted(survey.samples)}
    pictures = [pixels / np.float32(255.0) for shown in samples.values() for _, pixels in shown]
    captions = [name for name, shown in samples.items() for _ in shown]
    if pictures:
        save_figure(picture_grid(pictures, captions, SAMPLES, "Samples of every class"), out / "samples.png")
    content = {
        "name": source.absolute().name,
        "path": source.absolute(),
        "summary": summary,
        "counts": counts,
        "balance": figure_picture(balance, "images of each class"),
        "samples": {
            name: [thumbnail_picture(pixels, f"{name}: {image_id}") for image_id, pixels in shown]
            for name, shown in samples.items()
        },
        "facts": {what: list(summary[key].items())[:TOLD] for what, key in FACTS.items()},
        **_listed(problems),
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d at %H:%M UTC"),
    }
    write_text(out / "inspect.html", page("inspect.html.j2", content))


def _listed(problems: pd.DataFrame) -> dict[str, Any]:
    """The problems that the page names."""
    shown = problems.head(LISTED).to_dict("records")
    folder, names = shortened([row["file"] for row in shown])
    return {
        "folder": folder,
        "problems": [{**row, "file": name} for row, name in zip(shown, names, strict=True)],
        "problems_left_out": len(problems) - len(shown),
    }
