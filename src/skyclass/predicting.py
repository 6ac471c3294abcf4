"""Networks that predict: from images, through the pixel path, to probabilities and the table of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .addresses import image_ids_of
from .decoding import Decoded, decode_named
from .evaluation.calibration import Calibration
from .evaluation.novelty import Novelty
from .evaluation.prediction_sets import PredictionSets
from .models.hardware import pick_device, pick_precision
from .models.network import Network
from .models.sampling import Look, Samples, ask, pooled_answers
from .pixels import network_input, recipes_left
from .prediction_table import in_rows, prediction_table
from .recipe import ModelRecipe, PixelRecipe

BATCH = 64
"""Images computed at a time, unless told otherwise."""


@dataclass
class Predictor:
    """A network, or an ensemble of them, with its pixel path, classes and bands.

    networks : one, or the members of an ensemble, of which the mean is taken: of their probabilities, and of their maps
    pixels : the recipes that a decoded file goes through, the pack's and then the training's
    mean, std : normalisation of the network's input, a number a band
    precision : what it was trained in and predicts in, float32 or bfloat16
    made_from : hashes of the pack and of the recipe
    mirror_swaps : pairs of classes that turn into each other in a mirror
    calibration : the map from the network's log-probabilities to those that are given out
    prediction_sets : what makes sets of classes of them, or None
    novelty : what tells images unlike all that the networks were trained on, or None
    """

    networks: Sequence[Network] = field(repr=False)
    model: ModelRecipe
    classes: list[str]
    bands: tuple[str, ...]
    pixels: list[PixelRecipe] = field(repr=False)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str = "float32"
    made_from: dict[str, Any] = field(default_factory=dict, repr=False)
    mirror_swaps: Sequence[tuple[str, str]] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    calibration: Calibration = field(default_factory=Calibration, repr=False)
    prediction_sets: PredictionSets | None = field(default=None, repr=False)
    novelty: Novelty | None = field(default=None, repr=False)

    def to(self, device: str) -> Self:
        """Move to `auto`, `cpu`, `cuda`, ...; returns itself."""
        self.device = pick_device(device)
        for network in self.networks:
            network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return self

    def judge(self, images: np.ndarray | Tensor, orientations: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Calibrated class probabilities (n, K) float64 of images (n, C, h, w) that have been through the pixel path.

        With them, where the network has an uncertainty head, the chance (n,) float64 in [0, 1] that the class with the
        highest one is wrong; else None.

        orientations : whether to look at each image in all its orientations and to take the mean
        """
        seen = self.look(images, orientations)
        return self.calibration.apply(seen.log_p), seen.doubt

    def log_probabilities(
        self, images: np.ndarray | Tensor, orientations: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """ln p (n, K) float64 as the networks themselves give it, and the chance of being wrong that `judge` gives."""
        return self.look(images, orientations)[:2]

    def look(self, images: np.ndarray | Tensor, orientations: bool = False) -> Look:
        """All that the networks themselves tell of images (n, C, h, w), before the calibration."""
        return pooled_answers(self.samples(images, orientations=orientations), self.novelty)

    def samples(
        self, images: np.ndarray | Tensor, *, orientations: bool = False, dropout: int = 0, seed: int = 0
    ) -> Samples:
        """What each of the networks says about images (n, C, h, w), one sample a network.

        orientations : whether to take a sample of each orientation of the images too. Classes that turn into each
            other in a mirror are swapped back
        dropout : samples of each network with its dropout at work; 0 takes the whole network
        Errors: SkyclassError for dropout samples of a network without dropout.
        """
        batch = self._input(images)
        swapped = self.swapped() if orientations else None
        with self._autocast():
            return ask(self.networks, batch, swapped, dropout, seed)

    def probabilities(self, images: np.ndarray | Tensor) -> np.ndarray:
        """Class probabilities (n, K) float64 alone, as `judge` gives them."""
        return self.judge(images)[0]

    def predict(
        self,
        images: str | Path | Sequence[str | Path] | np.ndarray,
        batch_size: int = BATCH,
        orientations: bool = False,
    ) -> pd.DataFrame:
        """One row an image: `image_id`, `p_<class>`, `predicted`, `confidence`, `uncertainty`,
        `prediction_set`, `ambiguous`, `novelty`, `unlike`, `file`, `warning` and `error` (see `predictions`).

        images : paths, or an array (N, C, H, W) or (C, H, W) of decoded pixels with the classifier's bands. A file
            that cannot be read has a row with its `error` and no prediction.
        orientations : whether to look at each image in all its orientations and to take the mean
        """
        frames = list(self.stream(images, batch_size, orientations))
        return pd.concat(frames, ignore_index=True) if frames else self.frame([], [])

    def stream(
        self,
        images: str | Path | Sequence[str | Path] | np.ndarray,
        batch_size: int = BATCH,
        orientations: bool = False,
        image_ids: Sequence[str] | None = None,
    ) -> Iterator[pd.DataFrame]:
        """As `predict`, a frame a batch, in order; memory does not grow with the number of images.

        image_ids : one an image; made of the names of the files where None, all different (`image_ids_of`)
        """
        names, decoded = decode_named(images, self.bands, self.pixels)
        rows = zip(names, decoded, image_ids_of(names) if image_ids is None else image_ids, strict=True)
        while chunk := list(islice(rows, batch_size)):
            some, ones, ids = zip(*chunk, strict=True)
            yield self.frame(some, ones, orientations, ids)

    def frame(
        self,
        names: Sequence[str],
        decoded: Sequence[Decoded],
        orientations: bool = False,
        image_ids: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The predictions of some decoded images, good and bad, as a table (see `predict`).

        image_ids : as in `stream`
        """
        good = [row for row, one in enumerate(decoded) if one.pixels is not None]
        p, doubt, novelty = np.full((len(decoded), len(self.classes)), np.nan), None, None
        if good:
            seen = self.look(np.stack([one.pixels for one in decoded if one.pixels is not None]), orientations)
            p[good] = self.calibration.apply(seen.log_p)
            doubt, novelty = (in_rows(good, values, len(decoded)) for values in (seen.doubt, seen.novelty))
        table = self.table(image_ids_of(names) if image_ids is None else image_ids, p, doubt, novelty)
        table["file"] = list(names)
        table["warning"] = [one.warning for one in decoded]
        table["error"] = [one.error or lost for one, lost in zip(decoded, table.pop("error"), strict=True)]
        return table

    def table(
        self,
        image_ids: Iterable[str],
        p: np.ndarray,
        uncertainty: np.ndarray | None = None,
        novelty: np.ndarray | None = None,
    ) -> pd.DataFrame:
        """Probabilities (n, K), rows of NaN where there is no prediction, as a table.

        uncertainty : (n,) chance of being wrong, as `judge` gives it; the normalised entropy of p where None
        novelty : (n,) as `look` gives it; unknown where None
        """
        return prediction_table(image_ids, p, self.classes, self.prediction_sets, uncertainty, novelty)

    def recipes_for(self, packed: PixelRecipe, where: Path) -> list[PixelRecipe]:
        """The recipes still to apply to the images of a pack made with the recipe `packed`.

        Errors: SkyclassError where the pack's pixels were changed in another way than this classifier's.
        """
        return recipes_left(self.pixels, packed, where)

    def _input(self, images: np.ndarray | Tensor) -> Tensor:
        """Stored pixels (n, C, h, w) -> the network's input on its device."""
        batch = torch.as_tensor(np.ascontiguousarray(images) if isinstance(images, np.ndarray) else images)
        batch = batch.to(self.device)
        mean, std = (torch.tensor(values, device=self.device) for values in (self.mean, self.std))
        return network_input(batch, mean, std, torch.float32).contiguous(memory_format=torch.channels_last)

    def swapped(self) -> np.ndarray:
        """(K,) the class that each class turns into in a mirror."""
        mirror = {one: other for pair in self.mirror_swaps for one, other in (pair, pair[::-1])}
        return np.array([self.classes.index(mirror.get(name, name)) for name in self.classes])

    def _autocast(self) -> torch.autocast:
        half = pick_precision(self.precision, self.device) == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)
