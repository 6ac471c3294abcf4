"""The parts of a galaxy in projection: spiral arms, star-forming clumps, an edge-on disk with its dust lane.

u runs along the galaxy's major axis and v across, relative to its centre and in the unit of R_e. On an image, whose
rows are counted downwards, an angle from +x towards +y runs clockwise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

WINDINGS = ("clockwise", "anticlockwise")
SCALE_LENGTHS_PER_RE = 1.678  # of an exponential disk


class Arms(NamedTuple):
    """Logarithmic arms, theta = start +- ln(r / R_e) / tan(pitch), in the plane of an inclined disk.

    `clockwise` is the sense in which the galaxy turns, as displayed, if its arms trail, as nearly all do (the Z-wise
    spirals of Galaxy Zoo): followed outwards, its arms turn anticlockwise.
    """

    number: int
    pitch: float  # between an arm and a circle, radians
    start: float  # angle of the first arm at R_e, radians
    winding: str  # one of WINDINGS
    R_e: float
    q: float  # axis ratio of the inclined disk

    @property
    def slope(self) -> float:
        """d theta / d ln r, with theta from +x towards +y."""
        return (-1.0 if self.winding == WINDINGS[0] else 1.0) / math.tan(self.pitch)


def spiral_arms(u: Tensor, v: Tensor, arms: Arms) -> Tensor:
    """Density of the arms at (u, v), 0 to 1, (H, W): they begin outside the bulge and fade outwards."""
    across = v / arms.q  # in its own plane the disk is round
    radius = torch.sqrt(u * u + across * across + 1e-6).div_(arms.R_e)
    azimuth = torch.atan2(across, u)
    phase = torch.log(radius).mul_(-arms.slope).add_(azimuth).sub_(arms.start).mul_(arms.number)
    ridge = torch.cos(phase).sub_(1.0).mul_(1.6).exp_()
    return ridge * torch.exp(-((radius / 2.6) ** 4)) * (1.0 - torch.exp(-((radius / 0.35) ** 3)))


def clump_positions(random: np.random.Generator, count: int, arms: Arms) -> tuple[np.ndarray, np.ndarray]:
    """(u, v) of `count` star-forming clumps, strewn along the arms between 0.5 and 2.2 R_e."""
    radius = random.uniform(0.5, 2.2, count)
    azimuth = arms.start + arms.slope * np.log(radius) + random.normal(0.0, 0.12, count)
    azimuth += 2.0 * math.pi / arms.number * random.integers(0, arms.number, count)
    return arms.R_e * radius * np.cos(azimuth), arms.q * arms.R_e * radius * np.sin(azimuth)


def blobs(x: Tensor, y: Tensor, x0: np.ndarray, y0: np.ndarray, sigma: np.ndarray, amplitude: np.ndarray) -> Tensor:
    """Sum of K round Gaussians on a grid x (1, W), y (H, 1): (H, W). Centres, widths and peaks have shape (K,)."""
    column_x, column_y, width, peak = (
        torch.from_numpy(values.astype(np.float32))[:, None] for values in (x0, y0, sigma, amplitude)
    )
    along_x = torch.exp(((x - column_x) / width).square_().mul_(-0.5))  # (K, W)
    along_y = torch.exp(((y.T - column_y) / width).square_().mul_(-0.5)).mul_(peak)  # (K, H)
    return along_y.T @ along_x


def edge_on_disk(u: Tensor, v: Tensor, R_e: float, q: float, warp: float) -> tuple[Tensor, Tensor]:
    """An exponential disk of sech^2 height, seen from its edge (van der Kruit & Searle 1981, eq. 1, without the cut).

    Parameters
    ----------
    u, v : positions of shape (H, W)
    q : scale height over scale length
    warp : how far the plane bends away at 2 R_e, as a share of that radius; an S shape

    Returns
    -------
    Brightness (H, W), 1 at R_e in the plane, and the height above the bent plane in scale heights (H, W).
    """
    length = R_e / SCALE_LENGTHS_PER_RE
    bend = warp * u * (u / (2.0 * R_e)).square().clamp_(max=2.0)
    height = (v - bend).div_(q * length)
    radial = torch.exp(SCALE_LENGTHS_PER_RE - u.abs() / length)
    return radial / torch.cosh(height).square_(), height


def dust_lane(u: Tensor, height: Tensor, R_e: float, depth: float, offset: float) -> Tensor:
    """Optical depth (H, W) of a lane of dust: `depth` at its middle, `offset` scale heights above the plane."""
    return depth * torch.exp(-(((height - offset) / 0.45) ** 2) - (u / (1.2 * R_e)) ** 2)
