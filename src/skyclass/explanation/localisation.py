"""Whether maps of simulated lenses mark the substructure: heat near subhalos or a vortex line, against chance.

Positions are in arcsec from the image centre, x along columns and y down the rows, as in the truth of the simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Near(NamedTuple):
    """How much of a map lies near the substructure."""

    heat: float
    """Share of the heat, in [0, 1]; 0 of a map without any."""
    peak: float
    """Share of the map's maxima (one, but of a flat top several pixels), in [0, 1]; 0 of a map without heat."""


def substructure_mask(truth: Mapping[str, Any], size: tuple[int, int], scale: float, reach: float) -> np.ndarray | None:
    """(H, W) whether each pixel centre lies within `reach` arcsec of a subhalo or of the vortex line.

    truth : a row with the columns of `simulation.lensing.draw_truth`; scale : arcsec a pixel.
    None where the lens has no substructure.
    """
    x, y = _grid(size, scale)
    subhalos = np.asarray(truth["sub_x"], float), np.asarray(truth["sub_y"], float)
    distances = [np.hypot(x - x0, y - y0) for x0, y0 in zip(*subhalos, strict=True)]
    if np.isfinite(truth["vort_mass"]):
        angle = np.radians(truth["vort_angle"])
        dx, dy = x - truth["vort_x"], y - truth["vort_y"]
        half = truth["vort_half_length"]
        along = np.clip(dx * np.cos(angle) + dy * np.sin(angle), -half, half)
        distances.append(np.hypot(dx - along * np.cos(angle), dy - along * np.sin(angle)))
    return np.asarray(np.min(distances, axis=0) <= reach) if distances else None


def ring_map(truth: Mapping[str, Any], size: tuple[int, int], scale: float, width: float) -> np.ndarray:
    """(H, W) float32: heat on the Einstein ring alone, a Gaussian of deviation `width` arcsec about theta_E.

    The map of a method that finds the light of the ring, but not the substructure.
    """
    radius = np.hypot(*_grid(size, scale))
    return np.exp(-0.5 * ((radius - truth["theta_E"]) / width) ** 2).astype(np.float32)


def near(heatmap: np.ndarray, mask: np.ndarray) -> Near:
    """Shares of a map (H, W) >= 0 within a mask; NaN pixels, which the network never saw, have no heat."""
    heat = np.nan_to_num(heatmap)
    total = float(heat.sum())
    if total <= 0.0:
        return Near(0.0, 0.0)
    return Near(float(heat[mask].sum()) / total, float(mask[heat == heat.max()].mean()))


def beyond_chance(share: float | np.ndarray, chance: float | np.ndarray) -> float | np.ndarray:
    """(share - chance) / (1 - chance): 1 for all of it, 0 for what chance gives, negative below (as Cohen's kappa)."""
    return (share - chance) / (1.0 - chance)


def _grid(size: tuple[int, int], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """x (1, W) and y (H, 1) of the pixel centres."""
    rows, columns = ((np.arange(n) - (n - 1) / 2.0) * scale for n in size)
    return columns[None, :], rows[:, None]
