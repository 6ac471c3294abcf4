"""The classifier: load, predict, explain, save.

>>> classifier = Classifier.load("run")
>>> classifier.predict(["a.fits", "b.jpg"])       # a DataFrame, one row an image
>>> classifier.explain(["a.fits"]).heatmaps[0]    # (H, W) in [0, 1]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..core.files.atomic_files import write_json
from ..core.files.json_documents import sealed
from ..core.html import facts
from ..core.text import listed, quantity
from ..core.version import __version__
from ..evaluation.calibration.conformal import PredictionSets
from ..evaluation.calibration.scaling import Calibration
from ..explanation.maps import Explanation, class_maps, mean_heatmaps, readable, targets_among
from ..images.decode import decode_named
from ..images.formats.locations import image_ids_of
from ..models.network import BATCH, architecture_of, build_network
from .files import (
    META,
    classifier_contents,
    classifier_folder,
    read_classifier,
    read_novelty,
    read_weights,
    write_novelty,
    write_weights,
)
from .predicting import Predictor


@dataclass(repr=False)
class Classifier(Predictor):
    """A `Predictor` that is kept in a folder, and explains its predictions."""

    def __repr__(self) -> str:
        parts = {
            "backbone": self.model.backbone,
            "classes": self.classes,
            "bands": self.bands,
            "size": self.size,
            "members": len(self.networks),
            "calibration": str(self.calibration),
            "device": str(self.device),
        }
        return f"Classifier({', '.join(f'{name}={value!r}' for name, value in parts.items())})"

    def _repr_html_(self) -> str:
        """For notebooks."""
        size, sets = self.size, self.prediction_sets
        made = ", ".join(f"{name} {str(value)[:12]}" for name, value in self.made_from.items() if name != "members")
        of_each = " of each class" if sets and sets.class_conditional else ""
        rows = {
            "classes": listed(self.classes, 20),
            "bands": ", ".join(self.bands),
            "input": f"{size[0]} x {size[1]} pixels (height x width)" if size else "images as they are",
            "backbone": f"{self.model.backbone}, {self.model.head} head",
            "members": len(self.networks),
            "precision": self.precision,
            "device": self.device,
            "calibration": f"{self.calibration}, of {quantity(self.calibration.n, 'image')}",
            "prediction sets": f"{sets.score}, {sets.coverage:.0%}{of_each} hold the true class" if sets else "none",
            "novelty": f"from {quantity(self.novelty.n_train, 'training image')}" if self.novelty else "not detected",
            "made from": made,
        }
        return facts("Classifier", rows)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels that images are brought to; None where they keep their own."""
        return next((settings.size for settings in reversed(self.pixels) if settings.size), None)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Classifier:
        """Read a classifier.

        Parameters
        ----------
        path : str or Path
            Its folder, or that of a run that has ended.
        device : str
            auto, cpu, cuda, cuda:N or mps.

        Returns
        -------
        Classifier
            With its networks on the device, in eval mode.

        Raises
        ------
        SkyclassError
            For a folder that is neither, and for weights that are damaged or not its own.
        """
        folder = classifier_folder(Path(path))
        _, document = read_classifier(folder)
        size = (len(document.bands), len(document.classes))
        networks = [build_network(document.model, *size, document.architecture) for _ in range(document.members)]
        read_weights(folder, document.weights_sha256, networks)
        return cls(
            networks=networks,
            model=document.model,
            classes=document.classes,
            bands=tuple(document.bands),
            pixels=document.pixels,
            mean=tuple(document.mean),
            std=tuple(document.std),
            precision=document.precision,
            made_from={**document.made_from, "weights_sha256": document.weights_sha256},
            mirror_swaps=[(one, other) for one, other in document.mirror_swaps],
            calibration=Calibration.from_json(document.calibration, folder / META),
            prediction_sets=PredictionSets.from_json(document.prediction_sets, folder / META),
            novelty=read_novelty(folder, document.novelty),
        ).to(device)

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors`, `novelty.safetensors` and `classifier.json`; nothing is pickled.

        A classifier that lies in the folder stays until this one is whole; so do files of other names.

        Parameters
        ----------
        folder : str or Path
            Made where it does not exist.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        MachineError
            For a full disk and the like.
        """
        with classifier_contents(Path(folder)) as new:
            write_json(new / META, sealed(self._content(new)))
        return Path(folder)

    def _content(self, folder: Path) -> dict[str, Any]:
        """What classifier.json holds, once the binary files that it names are written into the folder."""
        return {
            "skyclass": __version__,
            "classes": self.classes,
            "bands": list(self.bands),
            "model": self.model.model_dump(mode="json"),
            "architecture": architecture_of(self.networks[0], self.model),
            "members": len(self.networks),
            "pixels": [settings.model_dump(mode="json") for settings in self.pixels],
            "mean": list(self.mean),
            "std": list(self.std),
            "precision": self.precision,
            "mirror_swaps": [list(pair) for pair in self.mirror_swaps],
            "made_from": self.made_from,
            "calibration": self.calibration.to_json(),
            "prediction_sets": self.prediction_sets.to_json() if self.prediction_sets else None,
            "novelty": write_novelty(folder, self.novelty),
            "weights_sha256": write_weights(folder, self.networks),
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """The provenance that a predictions file stores: hashes, calibration, and how the sets were made."""
        sets = self.prediction_sets.to_json() if self.prediction_sets else None
        return {**self.made_from, "calibration": self.calibration.to_json(), "prediction_sets": sets}

    def explain(
        self,
        images: str | Path | Sequence[str | Path] | np.ndarray,
        classes: str | Sequence[str] | None = None,
        batch_size: int = BATCH,
        method: str = "gradcam",
        layer: str | None = None,
    ) -> Explanation:
        """Map the evidence for a class; images that cannot be read are left out.

        Parameters
        ----------
        images : str, Path, sequence of them, or ndarray
            Paths; or decoded pixels (N, C, H, W) or (C, H, W) with the classifier's bands.
        classes : str or sequence of str, optional
            The class to explain, one for all or one an image. By default the predicted ones.
        batch_size : int
            Images computed at a time.
        method : str
            gradcam, gradcam++, layercam or integrated-gradients.
        layer : str, optional
            Name of the backbone's module whose output is mapped, such as layer3. By default its last feature map.
            Earlier ones have more cells, and depend less on the classes. Integrated gradients have no use for one.

        Returns
        -------
        Explanation
            Heatmaps (N, h, w) in [0, 1], images (N, C, h, w), the classes explained, and the predictions.

        Raises
        ------
        SkyclassError
            For an unknown class, method or layer, a backbone or a layer without a feature map (integrated gradients
            need none), or where no image is readable.
        """
        good = readable(*decode_named(images, self.bands, self.pixels), classes)
        chunks = [slice(start, start + batch_size) for start in range(0, len(good.names), batch_size)]
        ids = image_ids_of(good.names)
        frames = [self.frame(good.names[chunk], good.decoded[chunk], image_ids=ids[chunk]) for chunk in chunks]
        frame = pd.concat(frames, ignore_index=True)
        chosen = list(frame["predicted"]) if good.classes is None else good.classes
        heatmaps = self.maps(good.pixels, chosen, batch_size, method, layer)
        return Explanation(heatmaps, good.pixels, chosen, frame)

    def maps(
        self,
        images: np.ndarray,
        classes: Sequence[str],
        batch_size: int = BATCH,
        method: str = "gradcam",
        layer: str | None = None,
    ) -> np.ndarray:
        """Heatmaps of preprocessed images.

        Those of an ensemble are the mean of its members' heatmaps: their peak is below 1 where these disagree.

        Parameters
        ----------
        images : ndarray
            (N, C, h, w), as the classifier's pixel settings leave them.
        classes : sequence of str
            N classes to explain.
        batch_size, method, layer : int, str, str
            As in `explain`.

        Returns
        -------
        ndarray
            (N, h, w) float32 in [0, 1].

        Raises
        ------
        SkyclassError
            As `explain`.
        """
        return mean_heatmaps(
            self.networks,
            images,
            torch.tensor(targets_among(self.classes, classes), device=self.device),
            to_input=self._input,
            precision=self._autocast,
            batch_size=batch_size,
            method=method,
            layer=layer,
        )

    def map_size(self, images: np.ndarray, method: str, layer: str | None = None) -> tuple[int, int]:
        """The size of a method's own maps, before they are enlarged.

        Parameters
        ----------
        images : ndarray
            (N, C, h, w), of which the first is computed.
        method, layer : str
            As in `explain`.

        Returns
        -------
        height, width : int
            In cells.

        Raises
        ------
        SkyclassError
            As `explain`.
        """
        batch = self._input(images[:1])
        _, height, width = class_maps(self.networks[0], batch, None, self._autocast, method, layer).shape
        return height, width
