"""`skyclass inspect`: what is in a source, before a network learns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..console import progress, say, say_where
from ..data.catalog import SPLITS, problems_frame, write_problems
from ..data.pack import Pack, is_pack
from ..data.sources import read_source
from ..decoding import judge
from ..errors import SkyclassError
from ..evaluation.figures import class_balance_figure, sample_sheet
from ..files import write_json
from ..images import Image, read_image

SAMPLES = 6  # images a class on the sample sheet


@dataclass
class Survey:
    """What was seen of the images: counts of their shapes, formats and types, samples and problems."""

    sizes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    bands: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    low: float = np.inf
    high: float = -np.inf
    samples: dict[str, list[np.ndarray]] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)

    def add(self, row: Mapping[Any, Any], image: Image) -> None:
        """Count one image."""
        error, warning = judge(image, [])
        for severity, text in (("error", error), ("warning", warning)):
            if text:
                self.refuse(row, text, severity)
        _, height, width = image.pixels.shape
        self.sizes[f"{height}x{width}"] += 1
        self.formats[image.format] += 1
        self.bands[" ".join(image.bands)] += 1
        self.types[str(image.pixels.dtype)] += 1
        finite = image.pixels[np.isfinite(image.pixels)]
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        shown = self.samples.setdefault(row["label"] or "unlabelled", [])
        if len(shown) < SAMPLES and not error:
            shown.append(image.pixels)

    def refuse(self, row: Mapping[Any, Any], problem: str, severity: str = "error") -> None:
        """Record what is wrong with an image."""
        entry = {"image_id": row["image_id"], "file": row["file"], "problem": problem}
        self.problems.append({**entry, "severity": severity})


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

    With `out`, writes `summary.json`, `problems.csv`, `classes.csv`, `classes.png` and `samples.png` there.
    """
    if is_pack(Path(source)):
        pack = Pack.open(Path(source))
        catalog, problems = pack.catalog, problems_frame([])
        survey = _survey_pack(pack)
    else:
        found = read_source(
            source,
            image_root=image_root,
            id_column=id_column,
            file_column=file_column,
            label_column=label_column,
            split_column=split_column,
            group_column=group_column,
        )
        catalog, problems = found.catalog, found.problems
        survey = _survey_files(catalog)
    problems = pd.concat([problems, problems_frame(survey.problems)], ignore_index=True)
    counts = class_counts(catalog)
    summary = _summary(catalog, survey, problems, counts)
    _tell(summary, counts, problems)
    if out:
        _write(Path(out), summary, counts, problems, survey)
        say_where("Inspection", out)
    return summary


def _survey_files(catalog: pd.DataFrame) -> Survey:
    survey = Survey()
    with progress("Inspecting", len(catalog)) as advance:
        for row in catalog.to_dict("records"):
            try:
                survey.add(row, read_image(row["file"]))
            except SkyclassError as error:
                survey.refuse(row, f"{error.what}; {error.fix}" if error.fix else error.what)
            advance(1)
    return survey


def _survey_pack(pack: Pack) -> Survey:
    survey = Survey()
    with progress("Inspecting", len(pack.images)) as advance:
        for row, pixels in zip(pack.catalog.to_dict("records"), pack.images, strict=True):
            survey.add(row, Image(np.asarray(pixels), pack.bands, "pack"))
            advance(1)
    return survey


def class_counts(catalog: pd.DataFrame) -> pd.DataFrame:
    """Images of each class (index) in each split (columns; `all` where there are no splits)."""
    label = catalog["label"].fillna("unlabelled")
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
    say(f"{summary['images']:,} images, {summary['readable']:,} readable")
    say(counts.to_string())
    for name in ("sizes", "formats", "bands", "types"):
        shown = ", ".join(f"{value} ({n:,})" for value, n in list(summary[name].items())[:6])
        more = len(summary[name]) - 6
        say(f"{name}: {shown}" + (f" and {more} more" if more > 0 else ""))
    if summary["values"]:
        say("values: {:g} to {:g}".format(*summary["values"]))
    say(f"{summary['errors']} errors, {summary['warnings']} warnings")
    for row in problems.head(20).itertuples():
        say(f"  {row.severity}: {row.file}: {row.problem}")
    if len(problems) > 20:
        say(f"  and {len(problems) - 20} more in problems.csv")


def _write(out: Path, summary: dict[str, Any], counts: pd.DataFrame, problems: pd.DataFrame, survey: Survey) -> None:
    write_json(out / "summary.json", summary)
    write_problems(problems, out / "problems.csv")
    counts.to_csv(out / "classes.csv")
    class_balance_figure(counts).savefig(out / "classes.png")
    images = [pixels for name in sorted(survey.samples) for pixels in survey.samples[name]]
    captions = [name for name in sorted(survey.samples) for _ in survey.samples[name]]
    if images:
        sample_sheet(images, captions, columns=SAMPLES, title="Samples of every class").savefig(out / "samples.png")
