"""The output folder of `skyclass explain`: its files, sheets and list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits

from ..core.files.artefact_tables import read_own_csv
from ..core.files.csv_files import write_csv
from ..core.plotting import save_figure
from ..images.formats.fits.wcs import sky_header, write_map
from ..images.formats.locations import files_of, parse_address
from ..images.formats.read import read_image
from ..images.geometry import placement, put_back
from ..recipes.data_settings import PixelSettings
from .figures import class_sheet, explanation_figure

LIST = "explanations.csv"
"""The images explained, one row each, with the files that were made of them."""
MISTAKES = "mistakes.png"
"""The sheet of the surest mistakes, which the list does not name."""
GRADES = ("grades.csv", "grades.json", "grades-curves.png", "grades-sanity.png", "grades-localisation.png")
"""The table of grades, by which a reader knows that there are any, and what else `--grade` leaves."""
FEW_CELLS = 4
"""Cells along a side; a map of fewer shows hardly more than the side of an image where the evidence is."""


def listed_files(folder: Path) -> list[str]:
    """The names of the files that the folder's list names, and of the list, which is the last; others are not ours."""
    listed = folder / LIST
    if not listed.is_file():
        return []
    named = read_own_csv(listed, "list of explanations", "remove the folder", dtype=str)
    named = named.filter(["picture", "map", "sheet"])
    names = {*named.to_numpy().ravel(), MISTAKES}
    return [*sorted(Path(name).name for name in names if isinstance(name, str)), LIST]  # NaN: no map was asked for


def remove_listed(folder: Path) -> None:
    """Remove what the folder's list names, then the list."""
    for name in listed_files(folder):
        (folder / name).unlink(missing_ok=True)


COLUMNS = (
    *("image_id", "file", "label", "predicted", "confidence", "explained", "method", "layer", "cells"),
    *("picture", "map", "sheet"),
)
ON_SHEET = 24  # images on a sheet at most: more would be too small to see, and have to be held in memory


class SourceImage(NamedTuple):
    """The original image of a network's input, on whose pixels its map is written."""

    size: tuple[int, int]
    pixel_settings: Sequence[PixelSettings]
    """How it was preprocessed."""
    sky: fits.Header | None = None
    """Its sky coordinates, where it has any."""


@dataclass
class Sheet:
    """Images of one class, with their maps and captions."""

    images: list[np.ndarray] = field(default_factory=list)
    heatmaps: list[np.ndarray] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)

    def add(self, image: np.ndarray, heatmap: np.ndarray, caption: str) -> None:
        """Put a pair on the sheet, unless it is full."""
        if len(self.images) < ON_SHEET:
            self.images.append(image)
            self.heatmaps.append(heatmap)
            self.captions.append(caption)


@dataclass
class ExplanationFolder:
    """The output folder, filled a batch at a time.

    key : label or predicted, the column whose classes have a sheet each
    """

    path: Path
    key: str
    rows: list[dict[Any, Any]] = field(default_factory=list)
    sheets: dict[str, Sheet] = field(default_factory=dict)

    def add(
        self, images: np.ndarray, heatmaps: np.ndarray, table: pd.DataFrame, sources: Sequence[SourceImage] | None
    ) -> None:
        """Draw images (n, C, h, w) and maps (n, h, w) with their rows of `COLUMNS` up to `cells`.

        sources : of the images, for FITS maps; None for no such maps
        """
        for number, row in enumerate(table.to_dict("records")):
            image, heatmap = images[number], heatmaps[number]
            words, stem = caption(row), f"{len(self.rows) + 1:03d}-{safe(row['image_id'])}"
            row["picture"], row["map"] = f"{stem}.png", None
            save_figure(explanation_figure(image, heatmap, f"{row['image_id']}\n{words}"), self.path / row["picture"])
            if sources is not None:
                row["map"] = f"{stem}.fits"
                _write_map(self.path / row["map"], heatmap, row, sources[number])
            self.sheets.setdefault(str(row[self.key]), Sheet()).add(image, heatmap, words)
            self.rows.append(row)

    def finish(self, mistakes: Sheet) -> pd.DataFrame:
        """Write the sheets and the list; returns it."""
        table = pd.DataFrame(self.rows)
        used: set[str] = set()
        for name, sheet in self.sheets.items():
            file = f"class-{safe(name)}.png"
            if file in used:  # of a class whose name differs in signs that file names lack
                file = f"class-{safe(name)}-{len(used)}.png"
            used.add(file)
            title = f"{'Class' if self.key == 'label' else 'Predicted'} {name}"
            save_figure(class_sheet(sheet.images, sheet.heatmaps, sheet.captions, title=title), self.path / file)
            table.loc[table[self.key].astype(str) == name, "sheet"] = file
        if mistakes.images:
            title = "Most confident mistakes, and what spoke for the class predicted"
            figure = class_sheet(mistakes.images, mistakes.heatmaps, mistakes.captions, title=title)
            save_figure(figure, self.path / MISTAKES)
        write_csv(table[list(COLUMNS)], self.path / LIST)
        return table


def caption(row: Mapping[Any, Any]) -> str:
    """True class where known, prediction, and the class explained where it is another."""
    parts = [f"true {row['label']}"] if pd.notna(row["label"]) else []
    parts.append(f"predicted {row['predicted']} {row['confidence']:.0%}")
    if row["explained"] != row["predicted"]:
        parts.append(f"map for {row['explained']}")
    return "\n".join(parts)


def safe(name: str) -> str:
    """A file name from any id."""
    return re.sub(r"[^\w.+-]+", "_", name)[-80:]


def source_image(file: str, pixel_settings: Sequence[PixelSettings]) -> SourceImage | None:
    """The original image of a catalog's file; None if there is no such file."""
    address = parse_address(file)
    if not all(path.is_file() for path in files_of(address)):
        return None
    height, width = read_image(address).pixels.shape[1:]
    return SourceImage((height, width), pixel_settings, sky_header(address))


def _write_map(path: Path, heatmap: np.ndarray, row: Mapping[Any, Any], source: SourceImage) -> None:
    """A map (h, w) of the network's input as one of the image it was made of."""
    cards = {
        "OBJECT": (row["image_id"][-60:], "image"),
        "METHOD": (row["method"], "of the explanation"),
        "EXPLAINS": (row["explained"], "class that the map is evidence for"),
        "PREDICTD": (row["predicted"], "class predicted"),
    }
    if row["layer"] is not None:
        cards["LAYER"] = (row["layer"], "of the network, which is mapped")
    write_map(path, put_back(heatmap, placement(source.size, source.pixel_settings), source.size), source.sky, cards)
