"""Intensity stretch: an interval is mapped to [0, 1] through a curve, or three bands to a colour picture (Lupton)."""

from __future__ import annotations

import math

import numpy as np
from astropy import visualization
from astropy.stats import sigma_clipped_stats

from ..core.errors import SkyclassError
from ..recipes.data_settings import PixelSettings

LEVELS = {"uint8": 255, "uint16": 65535}  # the value of 1 in each stored type; in floats it is 1 itself
NOISE_UNITS = 10.0  # times the noise is the linear stretch of lupton: noise stays just visible, at about 0.1
MEASURED = 20_000  # pixels of a band that its background and noise are measured on, evenly spaced


def stretch(pixels: np.ndarray, settings: PixelSettings) -> np.ndarray:
    """Map the interval to [0, 1], clip, and bend by the transfer curve: finite (C, H, W) -> float32 (C, H, W).

    Intervals and curves are those of astropy.visualization. Without an interval the curve acts on unit-scaled values;
    with the linear curve as well the pixels come back untouched. An empty interval maps what is above it to 1, the rest
    to 0. `lupton` has a rule of its own (see there).
    """
    if settings.interval == "none" and settings.stretch == "linear":
        return pixels
    if settings.stretch == "lupton":
        return lupton(pixels, settings)
    curve = _curve(settings.stretch, settings.softening)
    groups = list(pixels[:, None]) if settings.per_band else [pixels]
    stretched = []
    for group in groups:
        low, high = _limits(group, settings)
        if group.dtype.kind == "u":  # few levels: bend each level once, then look it up
            levels = np.arange(LEVELS[group.dtype.name] + 1)
            stretched.append(curve(_to_unit(levels, low, high)).astype(np.float32)[group])
        else:
            stretched.append(curve(_to_unit(group, low, high)).astype(np.float32))
    return np.concatenate(stretched)


def lupton(pixels: np.ndarray, settings: PixelSettings) -> np.ndarray:
    """A colour picture of three bands, red first: finite (3, H, W) -> float32 (3, H, W) in [0, 1].

    Lupton et al. 2004 (PASP 116, 133), sect. 2, by astropy's make_lupton_rgb: the bands x of a pixel become x f(I) / I,
    where I is their mean, so that colours do not depend on brightness; where one passes 1, all three are divided by it.

    With an interval, x is the value on it and f(I) = asinh(Q I) / asinh(Q). Without one, x is the value above the
    band's background in units of NOISE_UNITS times the noise of I, and f(I) = 0.1 asinh(Q I) / asinh(0.1 Q), as in
    astropy. Background and noise are the median and deviation clipped at 3 sigma, so the values may have any unit.
    Q is `softening` (8). With `per_band` each band has an interval, or a noise, of its own.

    Errors: SkyclassError for another number of bands.
    """
    if len(pixels) != 3:
        raise SkyclassError(
            f"lupton makes a colour picture of three bands, not of {len(pixels)}",
            where="pixels.stretch",
            fix="choose them by pixels.bands, red first, as in [i, r, g]",
        )
    q = 8.0 if settings.softening is None else settings.softening
    curve: visualization.BaseStretch = visualization.LuptonAsinhStretch(stretch=1.0, Q=q)
    if settings.interval == "none":
        values = _in_noise_units(pixels.astype(np.float64), settings.per_band)
    else:
        # Of two stretches added up, astropy does the second one first: this scales what the curve has made.
        curve = visualization.LinearStretch(slope=1.0 / float(curve(np.ones(1))[0])) + curve
        groups = list(pixels[:, None]) if settings.per_band else [pixels]
        values = np.concatenate([_on_interval(group, settings) for group in groups])
    with np.errstate(all="ignore"):  # astropy divides 0 by 0 where there is no light, and then puts 0 there
        picture = visualization.make_lupton_rgb(
            *values, interval=visualization.ManualInterval(0.0, 1.0), stretch_object=curve, output_dtype=float
        )
    return np.moveaxis(picture, -1, 0).astype(np.float32)  # (H, W, 3) -> (3, H, W)


def _in_noise_units(values: np.ndarray, per_band: bool) -> np.ndarray:
    """(3, H, W) float64: the values above their bands' backgrounds over NOISE_UNITS times the noise of the mean."""
    step = math.ceil(math.sqrt(values[0].size / MEASURED))
    background = [sigma_clipped_stats(band[::step, ::step])[1] for band in values]
    signal = values - np.array(background)[:, None, None]
    measured = signal[:, ::step, ::step] if per_band else signal[:, ::step, ::step].mean(0, keepdims=True)
    # More than half of the pixels may be equal, as in a masked image: no noise is left after clipping.
    noise = np.array([float(sigma_clipped_stats(band)[2]) or float(band.std()) or 1.0 for band in measured])
    return np.asarray(signal / (NOISE_UNITS * noise)[:, None, None])


def _on_interval(group: np.ndarray, settings: PixelSettings) -> np.ndarray:
    """Values with the interval's limits at 0 and 1, float64; an empty interval is as wide as their deviation."""
    low, high = _limits(group, settings)
    values = group.astype(np.float64)
    width = high - low if high > low else float(values.std()) or 1.0
    return (values - low) / width


def _limits(values: np.ndarray, settings: PixelSettings) -> tuple[float, float]:
    if settings.interval == "none":
        return 0.0, float(LEVELS.get(values.dtype.name, 1))
    if settings.interval == "minmax":
        return float(values.min()), float(values.max())
    interval = {
        "percentile": lambda: visualization.PercentileInterval(settings.percentile),
        "zscale": visualization.ZScaleInterval,
    }[settings.interval]()
    low, high = interval.get_limits(values.astype(np.float64))
    return float(low), float(high)


def _to_unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] to [0, 1] in float64, clipped; float32 could overflow in the difference."""
    if high <= low:
        return (values > max(low, high)).astype(np.float64)  # zscale's rounding can put high below low
    return np.clip((values.astype(np.float64) - low) / (high - low), 0.0, 1.0)


def _curve(name: str, softening: float | None) -> visualization.BaseStretch:
    curve = {
        "linear": visualization.LinearStretch,
        "sqrt": visualization.SqrtStretch,
        "log": lambda: visualization.LogStretch(1000.0 if softening is None else softening),
        "asinh": lambda: visualization.AsinhStretch(0.1 if softening is None else softening),
    }[name]()
    with np.errstate(all="ignore"):  # a softening near zero divides zero or infinity by itself
        usable = np.allclose(curve(np.array([0.0, 1.0])), [0.0, 1.0])
    if not usable:
        raise SkyclassError(
            f"the {name} stretch cannot use a softening of {softening}",
            where="pixels.softening",
            fix="leave it out, or take 0.001 or more",
        )
    return curve
