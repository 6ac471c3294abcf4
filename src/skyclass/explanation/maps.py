"""Maps of the evidence for a class, over whole sets of images: what `Classifier.explain` and `Classifier.maps` draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from ..core.errors import SkyclassError
from ..core.html import facts, jpeg_uri, pictures
from ..core.text import listed, quantity
from ..images.formats.arrays import Image
from ..models.batchnorm import folded
from ..models.network import Network, check_names
from .figures import beside_overlay
from .gradcam import Half, Layer, heatmaps
from .methods import method_called

SHOWN = 6  # images of an explanation in a notebook, each about 20 kB
FOLDING_PAYS = 16  # images from which a network made faster repays the making

# Makes the context that a network is computed in: the precision of its classifier.
Precision = Callable[[], AbstractContextManager[object]]


class Explanation(NamedTuple):
    """Maps of the images that could be read."""

    heatmaps: np.ndarray
    """(N, H, W) float32 in [0, 1], at the size of the network's input."""
    images: np.ndarray
    """(N, C, H, W) stored pixels that the maps belong to."""
    classes: list[str]
    """N names of the class that each map explains."""
    predictions: pd.DataFrame
    """N rows, as `predict` gives them."""

    def __repr__(self) -> str:
        n, height, width = self.heatmaps.shape
        return f"Explanation({quantity(n, 'image')}, {height} x {width} pixels, of {listed(sorted(set(self.classes)))})"

    def _repr_html_(self) -> str:
        """For notebooks: the first `SHOWN` images beside their overlays."""
        uris, captions = [], []
        rows = self.predictions[["image_id", "predicted", "confidence"]].head(SHOWN).itertuples(index=False)
        for image, heatmap, name, row in zip(self.images, self.heatmaps, self.classes, rows, strict=False):
            uris.append(jpeg_uri(np.rint(255.0 * beside_overlay(image, heatmap)).astype(np.uint8), quality=80))
            captions.append(f"{row.image_id}: evidence for {name}; predicted {row.predicted} ({row.confidence:.3f})")
        more = f"<p>and {len(self.images) - SHOWN:,} more</p>" if len(self.images) > SHOWN else ""
        return facts(repr(self), {}) + pictures(uris, captions, width=260) + more


class Readable(NamedTuple):
    """Those of some images that can be explained: their names, their pixels, and the requested classes, if any."""

    names: list[str]
    decoded: list[Image]
    pixels: np.ndarray
    """(N, C, H, W)."""
    classes: list[str] | None


def readable(names: Iterable[str], decoded: Iterable[Image], classes: str | Sequence[str] | None) -> Readable:
    """The images that could be read.

    classes : one for all, or one an image, whether it could be read or not
    Errors: SkyclassError where no image could be read, and for another number of classes than of images.
    """
    rows = list(zip(names, decoded, strict=True))
    good = [index for index, (_, one) in enumerate(rows) if one.error is None]
    if not good:
        reason = rows[0][1].error if rows else "there is none"
        raise SkyclassError(f"no image can be explained: {reason}", where=rows[0][0] if rows else None)
    wanted = [classes] * len(rows) if isinstance(classes, str) else classes
    if wanted is not None and len(wanted) != len(rows):
        raise SkyclassError(f"{len(wanted)} classes for {len(rows)} images", fix="give one class an image")
    pixels = np.stack([rows[index][1].pixels for index in good])
    chosen = None if wanted is None else [wanted[index] for index in good]
    return Readable([rows[index][0] for index in good], [rows[index][1] for index in good], pixels, chosen)


def targets_among(classes: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The index of each class to explain. Errors: SkyclassError for a name that is not among the classes."""
    for name in wanted:
        if name not in classes:
            fix = f"the classes are {', '.join(classes)}"
            raise SkyclassError(f"no class is called {name!r}", where="class to explain", fix=fix)
    return [classes.index(name) for name in wanted]


def mean_heatmaps(
    networks: Sequence[Network],
    images: np.ndarray,
    targets: Tensor,
    *,
    to_input: Callable[[np.ndarray], Tensor],
    precision: Precision,
    batch_size: int,
    method: str,
    layer: str | None,
) -> np.ndarray:
    """(N, h, w) in [0, 1], the mean of the networks' heatmaps of images (N, C, h, w) for the classes `targets` (N,).

    to_input : (n, C, h, w) stored pixels -> the network's input on its device
    layer : the backbone's module whose output is mapped; None for its last feature map
    """
    if len(images) >= FOLDING_PAYS:
        keep = None if layer is None else f"backbone.{layer}"
        networks = [folded(network, to_input(images[:1]), keep) for network in networks]
    result = []
    for start in range(0, len(images), batch_size):
        chunk = slice(start, start + batch_size)
        batch, size = to_input(images[chunk]), (images.shape[2], images.shape[3])
        members = []
        for network in networks:
            maps = class_maps(network, batch, targets[chunk], precision, method, layer)
            members.append(heatmaps(maps, size).cpu().numpy())
        result.append(np.mean(members, axis=0))
    return np.concatenate(result)


def class_maps(
    network: Network, batch: Tensor, targets: Tensor | None, precision: Precision, method: str, layer: str | None
) -> Tensor:
    """A method's own maps of network input (n, C, h, w), for the predicted classes where `targets` is None."""
    place = None
    if layer is not None:
        check_names(network, [layer], "layer")
        place = Layer(layer, network.backbone.get_submodule(layer))
    features, classify = _within(precision, network.features), _within(precision, network.classify)
    return method_called(method, place)(features, classify, batch, targets).maps


def _within(precision: Precision, function: Half) -> Half:
    """The half of a network, computed in that precision; what is made of its results is not."""

    def computed(x: Tensor) -> Tensor:
        with precision():
            return function(x)

    return computed
