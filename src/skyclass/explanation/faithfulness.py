"""Checks of a map: do the pixels that it marks matter to the network, does it depend on what the
network has learned, and does it turn with the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch import nn

from ..images.dihedral import orient, orient_back, orientations_of
from ..images.resize import resize

STEPS = 20  # of the deletion and insertion curves
BLUR = 0.1  # deviation of the Gaussian that takes the detail out of an image, as a share of its shorter side
CELLS = 7  # along the shorter side of a random map: as smooth as the maps of most networks


def relevance_order(heatmap: np.ndarray, seed: int) -> np.ndarray:
    """(H W,) flat indices of the pixels of a map (H, W), the hottest first; pixels of one heat in random order."""
    shuffled = np.random.default_rng(seed).permutation(heatmap.size)
    order: np.ndarray = shuffled[np.argsort(-heatmap.ravel()[shuffled], kind="stable")]
    return order


def revealed(below: np.ndarray, above: np.ndarray, order: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """(steps + 1, C, H, W): `below`, and ever more of its pixels replaced by those of `above`, until all are.

    below, above : (C, H, W); order : (H W,) flat indices
    """
    rank = np.argsort(order).reshape(below.shape[1:])  # (H, W), the place of each pixel in the order
    counts = np.rint(np.linspace(0, len(order), steps + 1)).astype(int)
    return np.stack([np.where(rank < count, above, below) for count in counts])


def deletion(image: np.ndarray, order: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """(steps + 1, C, H, W): an image (C, H, W) float whose pixels are replaced in `order` by the median of their band.

    The deletion metric of Petsiuk et al. 2018 (BMVC, arXiv:1806.07421, section 3.3): the sooner the score falls, the
    better the order. In an astronomical image the median is the sky, so that what is deleted is the source; a constant
    as bright as the mean of all images, as in the paper, would put a source where there was none.
    """
    sky = np.broadcast_to(np.median(image, axis=(1, 2), keepdims=True), image.shape).astype(image.dtype)
    return revealed(image, sky, order, steps)


def insertion(image: np.ndarray, order: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """(steps + 1, C, H, W): the blurred image (C, H, W) float, whose pixels are made sharp in `order`.

    The insertion metric of Petsiuk et al. 2018: the sooner the score rises, the better the order.
    """
    sigma = BLUR * min(image.shape[1:])
    return revealed(gaussian_filter(image, (0.0, sigma, sigma), mode="nearest"), image, order, steps)


def area(curve: np.ndarray) -> np.ndarray:
    """Area under curves (..., S) over equal steps from 0 to 1, by trapezoids."""
    return (curve[..., 1:] + curve[..., :-1]).mean(axis=-1) / 2.0


def random_maps(n_maps: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """(n, H, W) float32 in [0, 1]: uniform noise on a grid of `CELLS` along the shorter side, enlarged linearly.

    The baseline of the curves and of the localisation: random maps that are as smooth as a network's. Pixels in
    an order of no smoothness would destroy an image at once, and make any map look bad at deletion.
    """
    shorter = min(size)
    grid = (max(1, round(CELLS * size[0] / shorter)), max(1, round(CELLS * size[1] / shorter)))
    noise = np.random.default_rng(seed).random((n_maps, *grid), dtype=np.float32)
    return resize(noise, size, "bilinear")


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) Spearman's rank correlation of maps (N, H, W) image by image; 0 where either is flat."""
    return correlation(_ranks(one), _ranks(other))


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) Pearson's correlation of maps (N, H, W) image by image; 0 where either is flat."""
    a, b = (_centred(maps) for maps in (one, other))
    length = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), length, out=np.zeros(len(a)), where=length > 0)


def weighted_layers(module: nn.Module) -> list[nn.Module]:
    """The modules with weights of their own that know how to draw them, in order."""
    return [
        one
        for one in module.modules()
        if hasattr(one, "reset_parameters") and next(one.parameters(recurse=False), None) is not None
    ]


def randomise(layers: Sequence[nn.Module], seed: int) -> None:
    """Give layers random weights again, in place: what a network has learned is lost, its architecture stays.

    The randomisation of Adebayo et al. 2018 (NeurIPS, arXiv:1810.03292, section 3): a map that stays as it was shows
    the image, not what the network has learnt. Normalisations get gain one, bias zero and statistics of their own.
    Random numbers of torch outside are left as they were.
    """
    places = {parameter.device for layer in layers for parameter in layer.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(places), torch.no_grad():
        torch.manual_seed(seed)
        for layer in layers:
            layer.reset_parameters()  # type: ignore[operator]


def stability(explain: Callable[[np.ndarray, bool], np.ndarray], images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """(N,) mean correlation of the maps of an image with those of its other orientations, turned back.

    explain : (images (N, C, H, W), whether they are in a mirror) -> maps (N, H, W)
    maps : (N, H, W) of the images as they are
    """
    height, width = images.shape[2:]
    found = []
    for orientation in orientations_of(height, width)[1:]:
        view = orient(torch.from_numpy(images), orientation).contiguous().numpy()
        back = orient_back(torch.from_numpy(explain(view, orientation.mirrored)), orientation).numpy()
        found.append(correlation(maps, back))
    return np.asarray(np.mean(found, axis=0))


def _centred(maps: np.ndarray) -> np.ndarray:
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    return flat - flat.mean(axis=1, keepdims=True)


def _ranks(maps: np.ndarray) -> np.ndarray:
    return np.asarray(rankdata(maps.reshape(len(maps), -1), axis=1)).reshape(maps.shape)


RANDOM = "random"  # the baseline: random maps
EVERY = "all"  # the classes together
