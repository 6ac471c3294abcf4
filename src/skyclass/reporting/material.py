"""What the sections of a report are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..classifier_files import read_classifier
from ..data.leaks import pack_of_run
from ..data.pack import Pack
from ..drawing import Picture, file_picture, thumbnail, thumbnail_picture
from ..prediction_formats import read_predictions
from ..recipe import Recipe
from ..run import Run


@dataclass(frozen=True, eq=False)
class Material:
    """A run that has been evaluated; its files are read once.

    metrics : what `evaluate` wrote
    """

    run: Run
    metrics: dict[str, Any]

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.run.recipe()

    @cached_property
    def pack(self) -> Pack | None:
        """The pack of the training; a report is owed without it too."""
        return pack_of_run(self.run)

    @cached_property
    def classifier(self) -> dict[str, Any]:
        """What classifier.json holds."""
        return read_classifier(self.run.classifier)[0]

    @cached_property
    def judged(self) -> pd.DataFrame:
        """The predictions that the evaluation judged: of its split, predicted, with a label among the classes."""
        frame, classes, _ = read_predictions(self.run.predictions_file)
        frame = frame[frame["label"].isin(classes) & frame["predicted"].notna()]
        return frame if self.metrics["split"] == "all" else frame[frame["split"] == self.metrics["split"]]

    @cached_property
    def _place(self) -> dict[str, int]:
        """The row of each image of the pack."""
        return {name: row for row, name in enumerate(self.pack.catalog["image_id"])} if self.pack else {}

    def picture(self, image_id: str, text: str) -> Picture | None:
        """A thumbnail of an image of the pack; None where the pack is gone."""
        row = self._place.get(image_id)
        if self.pack is None or row is None:
            return None
        return thumbnail_picture(thumbnail(np.asarray(self.pack.images[row])), text)

    def figure(self, name: str, text: str) -> Picture | None:
        """A figure that `evaluate` drew; None where it has not."""
        return picture_of(self.run.evaluation / name, text)


def picture_of(path: Path, text: str) -> Picture | None:
    """A figure inside the page; None where there is no such file."""
    return file_picture(path, text) if path.is_file() else None
