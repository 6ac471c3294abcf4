"""How certain a score is: 95 % intervals."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

LEVEL = 0.95


def wilson_interval(hits: np.ndarray, n: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a share from `hits` among `n`, in which it lies with probability `level`.

    Wilson 1927, Journal of the American Statistical Association 22, 209: it holds for few images and for shares of 0
    and 1, where the normal approximation has no width. hits, n : numbers or arrays, 0 <= hits <= n.
    Returns (low, high) in [0, 1]; nan where n is 0.
    """
    hits, n = np.asarray(hits, np.float64), np.asarray(n, np.float64)
    n = np.where(n > 0, n, np.nan)
    z2 = float(norm.ppf(0.5 + level / 2.0)) ** 2
    centre = (hits + z2 / 2.0) / (n + z2)
    half = np.sqrt(z2 * (hits * (n - hits) / n + z2 / 4.0)) / (n + z2)
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)
