"""Galaxies in colour: the four classes of GalaxyMNIST, with the handedness of the spirals as a second labelling.

Sersic bulges and disks, logarithmic arms with clumps, edge-on disks with a dust lane; neighbours, a Gaussian PSF,
noise, and an asinh picture. A galaxy takes the same share of the image whatever the size: lengths are drawn in 64ths
of the shorter side and stand in the truth in pixels. Angles are in degrees, from +x (columns) towards +y (rows).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .batches import SimulatedBatch, check_request, in_batches, one_thread
from .galaxy_parts import (
    SCALE_LENGTHS_PER_RE,
    WINDINGS,
    Arms,
    blobs,
    clump_positions,
    dust_lane,
    edge_on_disk,
    spiral_arms,
)
from .light import sersic
from .telescope import add_noise, blur, generator, kernel_radius, lupton_rgb, pixel_grid

CLASSES = ("smooth_round", "smooth_cigar", "edge_on_disk", "unbarred_spiral")

# Uniform priors. R_e in 64ths of the shorter side; brightness in decades above the noise of the sky, at R_e;
# colour from 0 (blue, young) to 1 (red, old).
_SHAPE = {
    "smooth_round": {
        "R_e": (3.5, 8.0),
        "n": (1.5, 4.5),
        "q": (0.78, 1.0),
        "brightness": (0.7, 1.4),
        "colour": (0.6, 1),
    },
    "smooth_cigar": {"R_e": (4.5, 8.0), "n": (1.2, 3.0), "q": (0.3, 0.5), "brightness": (0.7, 1.4), "colour": (0.5, 1)},
    "edge_on_disk": {"R_e": (8.0, 13.0), "n": (1, 1), "q": (0.1, 0.2), "brightness": (0.9, 1.4), "colour": (0.3, 0.8)},
    "unbarred_spiral": {"R_e": (8.0, 12.5), "n": (1, 1), "q": (0.5, 1), "brightness": (0.7, 1.2), "colour": (0.1, 0.5)},
}
_DISK = {"bulge": (0.1, 0.3), "bulge_q": (0.65, 0.95)}
_EDGE_ON = {"warp": (-0.03, 0.03), "dust": (0.4, 1.8), "dust_offset": (-0.5, 0.5)}
_SPIRAL = {"pitch": (14.0, 26.0), "contrast": (1.2, 3.0)}
_PLACE = {"x": (-1.5, 1.5), "y": (-1.5, 1.5), "angle": (0.0, 180.0), "psf_fwhm": (1.6, 2.4)}
_ARMS, _ARMS_SHARE = (2, 3, 4), (0.7, 0.2, 0.1)
_LENGTHS = ("x", "y", "R_e", "psf_fwhm")
_OLD, _YOUNG = np.array([1.3, 1.0, 0.55]), np.array([0.8, 1.0, 1.15])  # flux in red, green, blue
_DUST_BANDS = (0.75, 1.0, 1.35)  # extinction in red, green, blue over that in green
_CLUMPS = 24
_STRETCH, _Q = 12.0, 8.0  # of the asinh picture, in units of the noise of the sky


def draw_truth(index: int, label: str, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    """Parameters of galaxy `index`, from its own random numbers.

    Returns
    -------
    index, label; x, y (centre, pixels from the middle of the image), R_e (pixels), n, q (of an edge-on disk: scale
    height over scale length), angle; brightness (at R_e, over the noise of the sky), colour (0 blue to 1 red);
    psf_fwhm (pixels), neighbours (how many). Disks: bulge (its share of the disk's R_e), bulge_q. Edge-on disks: warp
    (bend at 2 R_e over that radius), dust (optical depth), dust_offset (scale heights). Spirals: arms, pitch
    (degrees), contrast, arm_angle (degrees, of the first arm at R_e, in the disk's own plane), winding. What a class
    lacks is NaN, or None for `winding`.
    """
    random = generator(seed, index, 0)
    priors = {**_PLACE, **_SHAPE[label], **_DISK, **_EDGE_ON, **_SPIRAL, "arm_angle": (0.0, 360.0)}
    uniform = random.random(len(priors)).tolist()
    drawn = {name: low + (high - low) * u for (name, (low, high)), u in zip(priors.items(), uniform, strict=True)}
    drawn["brightness"] = 10.0 ** drawn["brightness"]
    for name in _LENGTHS:
        drawn[name] *= min(size) / 64.0
    neighbours, arms = int(random.poisson(1.0)), float(random.choice(_ARMS, p=_ARMS_SHARE))
    winding = WINDINGS[int(random.integers(2))]
    spiral, edge_on = label == "unbarred_spiral", label == "edge_on_disk"
    lacking = [*(() if spiral or edge_on else _DISK), *(() if edge_on else _EDGE_ON)]
    lacking += () if spiral else [*_SPIRAL, "arm_angle", "arms"]
    truth = {"index": index, "label": label, **drawn, "neighbours": neighbours, "arms": arms}
    return truth | dict.fromkeys(lacking, math.nan) | {"winding": winding if spiral else None}


@torch.inference_mode()
def render(truth: Mapping[str, Any], size: tuple[int, int], *, seed: int, noise: bool = True) -> Tensor:
    """Draw one galaxy.

    Parameters
    ----------
    truth : the parameters of `draw_truth`
    size : (height, width), pixels
    seed : of the clumps, neighbours and noise, which are drawn from (seed, index)
    noise : without it the picture shows the light alone

    Returns
    -------
    (3, H, W) uint8: red, green, blue.
    """
    index = truth["index"]
    with one_thread():
        flux = blur(_light(truth, size, generator(seed, index, 2))[None], truth["psf_fwhm"], size)
        if noise:
            normal = generator(seed, index, 1).standard_normal((1, 3, *size), dtype=np.float32)
            flux = add_noise(flux, torch.from_numpy(normal), torch.tensor(10.0), 1.0)
        return lupton_rgb(flux[0], _STRETCH, _Q)


def _light(truth: Mapping[str, Any], size: tuple[int, int], random: np.random.Generator) -> Tensor:
    """(3, H', W') flux of the galaxy and its neighbours, on a grid that leaves room for the PSF."""
    x, y = pixel_grid(size, 1.0, margin=kernel_radius(truth["psf_fwhm"]))
    angle = math.radians(truth["angle"])
    from_x, from_y = x - truth["x"], y - truth["y"]
    u = math.cos(angle) * from_x + math.sin(angle) * from_y  # (H', W')
    v = math.cos(angle) * from_y - math.sin(angle) * from_x
    match truth["label"]:
        case "edge_on_disk":
            light = _edge_on(truth, u, v)
        case "unbarred_spiral":
            light = _spiral(truth, u, v)
            light += _in_bands(_clumps(truth, from_x, from_y, random), colour=0.0)
        case _:
            light = _in_bands(_profile(truth, u, v, truth["R_e"], truth["n"], truth["q"]), truth["colour"])
    return light.add_(_neighbours(truth, x, y, size, random))


def _in_bands(light: Tensor, colour: float) -> Tensor:
    """(H, W) light of a colour from 0 (blue) to 1 (red), in three bands: (3, H, W)."""
    weights = (1.0 - colour) * _YOUNG + colour * _OLD
    return torch.from_numpy(weights.astype(np.float32))[:, None, None] * light


def _profile(truth: Mapping[str, Any], u: Tensor, v: Tensor, R_e: float, n: float, q: float) -> Tensor:
    """(H, W) Sersic light along the galaxy's axes, as bright at its R_e as the truth says."""
    return sersic(u, v, truth["brightness"], *torch.tensor([R_e, n, q, 0.0]))


def _edge_on(truth: Mapping[str, Any], u: Tensor, v: Tensor) -> Tensor:
    """(3, H, W): a disk seen from its edge and a small old bulge, both behind the dust lane."""
    disk, height = edge_on_disk(u, v, truth["R_e"], truth["q"], truth["warp"])
    bulge = _profile(truth, u, v, truth["bulge"] * truth["R_e"], 1.5, truth["bulge_q"])
    depth = dust_lane(u, height, truth["R_e"], truth["dust"], truth["dust_offset"])
    light = _in_bands(disk * truth["brightness"], truth["colour"]) + _in_bands(2.0 * bulge, colour=1.0)
    return light * torch.exp(-torch.tensor(_DUST_BANDS)[:, None, None] * depth)


def _arms(truth: Mapping[str, Any]) -> Arms:
    pitch, start = math.radians(truth["pitch"]), math.radians(truth["arm_angle"])
    return Arms(int(truth["arms"]), pitch, start, truth["winding"], truth["R_e"], truth["q"])


def _spiral(truth: Mapping[str, Any], u: Tensor, v: Tensor) -> Tensor:
    """(3, H, W): an old disk and bulge, and young arms."""
    disk = _profile(truth, u, v, truth["R_e"], truth["n"], truth["q"])
    arms = disk * spiral_arms(u, v, _arms(truth)) * truth["contrast"]
    bulge = _profile(truth, u, v, truth["bulge"] * truth["R_e"], 2.0, max(truth["q"], truth["bulge_q"]))
    return _in_bands(0.6 * disk, truth["colour"]) + _in_bands(arms, colour=0.0) + _in_bands(3.0 * bulge, colour=1.0)


def _clumps(truth: Mapping[str, Any], x: Tensor, y: Tensor, random: np.random.Generator) -> Tensor:
    """(H, W): star-forming regions on the arms; `x` and `y` are relative to the galaxy's centre."""
    u, v = clump_positions(random, _CLUMPS, _arms(truth))
    angle, unit = math.radians(truth["angle"]), truth["R_e"]
    x0, y0 = math.cos(angle) * u - math.sin(angle) * v, math.sin(angle) * u + math.cos(angle) * v
    fading = np.exp(-SCALE_LENGTHS_PER_RE * (np.hypot(u, v / truth["q"]) / unit - 1.0))
    peak = truth["brightness"] * truth["contrast"] * fading * random.uniform(0.2, 0.8, _CLUMPS)
    return blobs(x, y, x0, y0, unit * random.uniform(0.06, 0.12, _CLUMPS), peak)


def _neighbours(
    truth: Mapping[str, Any], x: Tensor, y: Tensor, size: tuple[int, int], random: np.random.Generator
) -> Tensor:
    """(3, H, W): small round neighbours of any colour, away from the middle of the image."""
    unit, count = min(size) / 64.0, truth["neighbours"]
    light = torch.zeros(3, y.shape[0], x.shape[1])
    for _ in range(count):
        x0, y0 = random.uniform(-0.5, 0.5, 2) * (size[1], size[0])
        distance = max(math.hypot(x0, y0), 1e-6)
        # One drawn nearer than 20 units is moved out to there: it must not pass for a part of the galaxy.
        push = max(1.0, 20.0 * unit / distance)
        width, peak = unit * random.uniform(0.5, 1.8, 1), 10.0 ** random.uniform(0.7, 1.8, 1)
        blob = blobs(x, y, np.array([x0 * push]), np.array([y0 * push]), width, peak)
        light += _in_bands(blob, random.uniform(0.0, 1.0))
    return light


def _make(labels: Sequence[str], first_index: int, *, size: tuple[int, int], seed: int) -> SimulatedBatch:
    rows = [draw_truth(first_index + i, label, seed, size) for i, label in enumerate(labels)]
    images = np.stack([render(row, size, seed=seed).numpy() for row in rows])
    truth = pd.DataFrame(rows)
    # One type for all chunks: pandas would make strings with NaN of some, and objects of those without a spiral.
    truth["winding"] = pd.Series([row["winding"] for row in rows], dtype=object)
    return images, truth


def simulate(
    labels: Sequence[str],
    size: int | tuple[int, int] = 64,
    *,
    seed: int = 0,
    first_index: int = 0,
    batch_size: int = 512,
    workers: int | None = None,
) -> Iterator[SimulatedBatch]:
    """Galaxies with these labels, and the truth about each, in chunks of `batch_size` and in order.

    Image i has the global index first_index + i and is drawn from (seed, index): it does not depend on the batch, the
    number of processes or the images before it.

    Parameters
    ----------
    labels : N names of `CLASSES`
    size : (height, width) in pixels, or one number for a square
    workers : processes; None takes the cores available if the job is worth it, 1 stays in this process

    Yields
    ------
    (n, 3, H, W) uint8 images (red, green, blue), and n rows with the columns of `draw_truth`.

    Errors: SkyclassError for an unknown label, a size below 8 pixels or a negative seed.
    """
    make = partial(_make, size=check_request(labels, CLASSES, size, seed, first_index), seed=seed)
    return in_batches(make, labels, first_index, batch_size, workers)
