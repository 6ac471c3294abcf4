"""Networks that predict: from images, through the pixel settings, to probabilities and the table of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..core.devices import pick_device
from ..evaluation.calibration.conformal import PredictionSets
from ..evaluation.calibration.scaling import Calibration
from ..evaluation.predictions import in_rows, prediction_table
from ..images.decode import decode_named
from ..images.formats.arrays import Image
from ..images.formats.locations import image_ids_of
from ..images.preprocess import network_input, remaining_settings
from ..models.network import BATCH, Network
from ..recipes.data_settings import PixelSettings
from ..recipes.model_settings import ModelSettings
from .novelty import Novelty
from .sampling import ClassifierOutput, Samples, mean_output, sample_networks


@dataclass
class Predictor:
    """A network, or an ensemble of them, with its pixel settings, classes and bands.

    Parameters
    ----------
    networks : sequence of Network
        One, or the members of an ensemble, of which the mean is taken: of their probabilities, and of their maps.
    model : ModelSettings
        The backbone and the head.
    classes : list of str
        The K classes, in the order of the probabilities.
    bands : tuple of str
        The C bands, in the order of the images' first axis.
    pixels : list of PixelSettings
        The settings that preprocess a decoded image, the pack's and then the training's.
    mean, std : tuple of float
        Normalisation of the network's input, a number a band.
    precision : str
        What it was trained in and predicts in, float32 or bfloat16.
    made_from : dict
        Hashes of the pack and of the recipe.
    mirror_swaps : sequence of pairs of str
        Classes that turn into each other in a mirror.
    device : torch.device
        Where the networks are.
    calibration : Calibration
        The map from the networks' log-probabilities to those of `predict_proba`.
    prediction_sets : PredictionSets or None
        The thresholds of the prediction sets.
    novelty : Novelty or None
        What detects images unlike the training images.
    """

    networks: Sequence[Network] = field(repr=False)
    model: ModelSettings
    classes: list[str]
    bands: tuple[str, ...]
    pixels: list[PixelSettings] = field(repr=False)
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
        """Move the networks.

        Parameters
        ----------
        device : str
            auto, cpu, cuda, cuda:N or mps.

        Returns
        -------
        Predictor
            Itself.

        Raises
        ------
        SkyclassError
            For a device that is not there.
        """
        self.device = pick_device(device)
        for network in self.networks:
            network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return self

    def with_networks(self, networks: Sequence[Network]) -> Self:
        """The same classifier with other networks of the same architecture, such as untrained ones."""
        return replace(self, networks=networks)

    def predict_proba(self, images: np.ndarray | Tensor, orientations: bool = False) -> np.ndarray:
        """Calibrated class probabilities of preprocessed images.

        Parameters
        ----------
        images : ndarray or Tensor
            (n, C, h, w), as the classifier's pixel settings leave them.
        orientations : bool
            Whether to predict each image in all its orientations and to take the mean.

        Returns
        -------
        ndarray
            (n, K) float64, in the order of `classes`; each row sums to one.
        """
        return self.predict_proba_and_error(images, orientations)[0]

    def predict_log_proba(self, images: np.ndarray | Tensor, orientations: bool = False) -> np.ndarray:
        """The natural logarithm of `predict_proba`; `outputs` has it before the calibration.

        Parameters
        ----------
        images : ndarray or Tensor
            (n, C, h, w), as the classifier's pixel settings leave them.
        orientations : bool
            Whether to predict each image in all its orientations and to take the mean.

        Returns
        -------
        ndarray
            (n, K) float64.
        """
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(images, orientations)))

    def predict_proba_and_error(
        self, images: np.ndarray | Tensor, orientations: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As `predict_proba`, and the chance (n,) float64 in [0, 1] that the class with the highest probability is
        wrong; None without an uncertainty head.
        """
        output = self.outputs(images, orientations)
        return self.calibration.apply(output.log_p), output.error_probability

    def outputs(self, images: np.ndarray | Tensor, orientations: bool = False) -> ClassifierOutput:
        """The mean output of the networks for preprocessed images (n, C, h, w), before the calibration."""
        return mean_output(self.samples(images, orientations=orientations), self.novelty)

    def samples(
        self, images: np.ndarray | Tensor, *, orientations: bool = False, dropout: int = 0, seed: int = 0
    ) -> Samples:
        """The output of each of the networks for preprocessed images (n, C, h, w), one sample a network.

        orientations : whether to take a sample of each orientation of the images too. Classes that turn into each
            other in a mirror are swapped back
        dropout : samples of each network with its dropout in training mode; 0 takes the whole network
        Errors: SkyclassError for dropout samples of a network without dropout.
        """
        batch = self._input(images)
        swapped = self.mirrored_classes() if orientations else None
        with self._autocast():
            return sample_networks(self.networks, batch, swapped, dropout, seed)

    def predict(
        self,
        images: str | Path | Sequence[str | Path] | np.ndarray,
        batch_size: int = BATCH,
        orientations: bool = False,
    ) -> pd.DataFrame:
        """Predict images.

        Parameters
        ----------
        images : str, Path, sequence of them, or ndarray
            Paths; or decoded pixels (N, C, H, W) or (C, H, W) with the classifier's bands.
        batch_size : int
            Images computed at a time.
        orientations : bool
            Whether to predict each image in all its orientations and to take the mean.

        Returns
        -------
        DataFrame
            One row an image: `image_id`, `p_<class>` in [0, 1], `predicted`, `confidence`, `uncertainty`,
            `prediction_set`, `ambiguous`, `novelty`, `unlike`, `file`, `warning` and `error` (see `predictions`). A
            file that cannot be read has a row with its `error` and no prediction.

        Raises
        ------
        SkyclassError
            For an array of another shape or number of bands.
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
        """As `predict`, a table a batch; memory does not grow with the number of images.

        Parameters
        ----------
        images : str, Path, sequence of them, or ndarray
            Paths; or decoded pixels (N, C, H, W) or (C, H, W) with the classifier's bands.
        batch_size : int
            Images computed at a time, and rows of a table.
        orientations : bool
            As in `predict`.
        image_ids : sequence of str, optional
            One an image. By default made of the names of the files, all different (`image_ids_of`).

        Yields
        ------
        DataFrame
            The rows of a batch, in order.

        Raises
        ------
        SkyclassError
            As `predict`.
        """
        names, decoded = decode_named(images, self.bands, self.pixels)
        rows = zip(names, decoded, image_ids_of(names) if image_ids is None else image_ids, strict=True)
        while chunk := list(islice(rows, batch_size)):
            some, ones, ids = zip(*chunk, strict=True)
            yield self.frame(some, ones, orientations, ids)

    def frame(
        self,
        names: Sequence[str],
        decoded: Sequence[Image],
        orientations: bool = False,
        image_ids: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The predictions of some decoded images, good and bad, as a table (see `predict`).

        image_ids : as in `stream`
        """
        good = [row for row, one in enumerate(decoded) if one.error is None]
        p, error_probability, novelty = np.full((len(decoded), len(self.classes)), np.nan), None, None
        if good:
            output = self.outputs(np.stack([decoded[row].pixels for row in good]), orientations)
            p[good] = self.calibration.apply(output.log_p)
            error_probability = in_rows(good, output.error_probability, len(decoded))
            novelty = in_rows(good, output.novelty, len(decoded))
        table = self.table(image_ids_of(names) if image_ids is None else image_ids, p, error_probability, novelty)
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

        uncertainty : (n,) chance of being wrong, as `predict_proba_and_error` gives it; the normalised entropy of p
            where None
        novelty : (n,) as `outputs` gives it; unknown where None
        """
        return prediction_table(image_ids, p, self.classes, self.prediction_sets, uncertainty, novelty)

    def remaining_settings(self, packed: PixelSettings, where: Path) -> list[PixelSettings]:
        """The pixel settings still to be applied to the images of a pack made with the settings `packed`.

        Errors: SkyclassError where the pack's pixels were changed in another way than this classifier's.
        """
        return remaining_settings(self.pixels, packed, where)

    def _input(self, images: np.ndarray | Tensor) -> Tensor:
        """Stored pixels (n, C, h, w) -> the network's input on its device."""
        batch = torch.as_tensor(np.ascontiguousarray(images) if isinstance(images, np.ndarray) else images)
        batch = batch.to(self.device)
        mean, std = (torch.tensor(values, device=self.device) for values in (self.mean, self.std))
        return network_input(batch, mean, std, torch.float32).contiguous(memory_format=torch.channels_last)

    def mirrored_classes(self) -> np.ndarray:
        """(K,) the class that each class turns into in a mirror."""
        mirror = {one: other for pair in self.mirror_swaps for one, other in (pair, pair[::-1])}
        return np.array([self.classes.index(mirror.get(name, name)) for name in self.classes])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
