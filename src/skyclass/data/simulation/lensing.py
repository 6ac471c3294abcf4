"""Strong lenses with dark-matter substructure: none (`no`), subhalos (`sphere`) or a vortex line (`vort`).

A galaxy (singular isothermal ellipsoid) in an external shear bends the light of one background galaxy (Sersic) into a
ring or arcs. Two classes add mass: 25 point masses, or one uniform line. The priors follow the published simulations
of the same three classes, with the galaxy, shear and source varied so that total brightness alone cannot sort them.

The field of view is 7.5 arcsec across the shorter side, whatever the size: 0.05 arcsec a pixel at 150 pixels. The PSF
keeps its width in arcsec, and the background its level per unit of sky. The x axis runs along columns and y down
the rows, from the image centre; angles in the truth are in degrees from +x towards +y.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ...core.errors import SkyclassError
from . import deflection
from .batches import SimulatedBatch, check_request, in_batches, one_thread
from .light import sersic
from .telescope import add_noise, blur, generator, kernel_radius, min_max, pixel_grid

CLASSES = ("no", "sphere", "vort")

FIELD = 7.5  # arcsec across the shorter side
SUBHALOS = 25
EINSTEIN_RADIUS_1E12 = 1.2828  # arcsec, of 1e12 Msun in a lens at z = 0.5 and a source at z = 1.0
_AMPLITUDE = 20.0  # source brightness at its half-light radius, flux per arcsec^2
_BACKGROUND = 1.2e-3 / 0.05  # standard deviation of the background per arcsec: 1.2e-3 in a pixel of 0.05 arcsec
PSF_FWHM = 0.087  # arcsec
_TILE = 2**16  # pixels rendered together on a CPU: the working arrays then stay in the second-level cache

_UNIFORM = {  # column: (lowest, highest) of its uniform prior
    "theta_E": (1.0, 1.6),
    "sie_e": (0.0, 0.12),
    "sie_angle": (0.0, 6.3),
    "shear": (0.0, 0.2),
    "source_radius": (0.0, 0.45),
    "source_azimuth": (0.0, 360.0),
    "source_Re": (0.4, 0.55),
    "source_n": (1.0, 1.5),
    "source_e": (0.0, 0.17),
    "source_angle": (0.0, 180.0),
    "log_exposure": (3.0, 3.5),
}
_VORTEX_MASS = 3e10  # Msun
_VORTEX = ("vort_x", "vort_y", "vort_angle", "vort_half_length", "vort_mass")
_SUBHALO_LISTS = ("sub_x", "sub_y", "sub_mass")
SUBSTRUCTURE = (*_SUBHALO_LISTS, *_VORTEX)  # columns of the truth about it
_NUMBERS = (
    "theta_E",
    "sie_e",
    "sie_angle",
    "shear",
    "shear_angle",
    "source_x",
    "source_y",
    "source_Re",
    "source_n",
    "source_e",
    "source_angle",
    "exposure",
)


def draw_truth(index: int, label: str, seed: int, difficulty: float = 2.0) -> dict[str, object]:
    """Parameters of image `index`, from its own random numbers.

    The galaxy, source and exposure depend on (seed, index) alone, so the same index with another label, or another
    difficulty, is the same lens with another substructure.

    Parameters
    ----------
    difficulty : factor on every substructure mass; the lower, the harder. 1.0 is nearly invisible

    Returns
    -------
    index, label; theta_E, sie_e, sie_angle, shear, shear_angle; source_x, source_y, source_Re, source_n, source_e,
    source_angle; exposure, difficulty; lists sub_x, sub_y (arcsec), sub_mass (Msun, times difficulty), empty but for
    `sphere`; vort_x, vort_y, vort_angle, vort_half_length, vort_mass (Msun, times difficulty), NaN but for `vort`.
    Lengths in arcsec, angles in degrees.
    """
    random = generator(seed, index, 0)
    uniform = random.random(len(_UNIFORM)).tolist()
    drawn = {name: low + (high - low) * u for (name, (low, high)), u in zip(_UNIFORM.items(), uniform, strict=True)}
    radius, azimuth = drawn.pop("source_radius"), np.radians(drawn.pop("source_azimuth"))
    exposure = 10.0 ** drawn.pop("log_exposure")
    truth: dict[str, object] = {
        "index": index,
        "label": label,
        **drawn,
        "shear_angle": drawn["sie_angle"],
        "source_x": float(radius * np.cos(azimuth)),
        "source_y": float(radius * np.sin(azimuth)),
        "exposure": exposure,
        "difficulty": difficulty,
    }
    subhalos = _draw_subhalos(random, difficulty) if label == "sphere" else ([], [], [])
    line = _draw_vortex(random, difficulty) if label == "vort" else (np.nan,) * len(_VORTEX)
    return truth | dict(zip(_SUBHALO_LISTS, subhalos, strict=True)) | dict(zip(_VORTEX, line, strict=True))


def _draw_subhalos(random: np.random.Generator, difficulty: float) -> tuple[list[float], ...]:
    """x, y and mass of the subhalos: 1e6 to 1e10 Msun uniformly in M^0.1, which is dN/dM ~ M^-0.9."""
    low, high = 1e6**0.1, 1e10**0.1
    u = random.random((3, SUBHALOS))
    mass = difficulty * (low + (high - low) * u[0]) ** 10.0
    radius, azimuth = 0.25 + 1.75 * u[1], 2.0 * np.pi * u[2]
    return (radius * np.cos(azimuth)).tolist(), (radius * np.sin(azimuth)).tolist(), mass.tolist()


def _draw_vortex(random: np.random.Generator, difficulty: float) -> tuple[float, ...]:
    """x, y, angle, half-length and mass of the vortex."""
    x, y = (0.25 * random.standard_normal(2)).tolist()
    u, v = random.random(2).tolist()
    return x, y, 180.0 * u, 0.4 + 1.1 * v, difficulty * _VORTEX_MASS


def pixel_scale(size: tuple[int, int]) -> float:
    """Arcsec a pixel of an image of this (height, width)."""
    return FIELD / min(size)


@torch.inference_mode()
def render(truth: pd.DataFrame, size: tuple[int, int], *, seed: int | None, device: str = "cpu") -> Tensor:
    """Draw the lenses that `truth` describes.

    Parameters
    ----------
    truth : N rows with the columns of `draw_truth`; what a row draws follows from its lists and numbers, not its label
    size : (height, width), pixels
    seed : of the noise, drawn from (seed, index); None leaves the images without noise

    Returns
    -------
    (N, 1, H, W) float32 on `device`, each image scaled to [0, 1].
    """
    images = torch.empty((len(truth), 1, *size), device=device)
    p = {name: _parameter(truth[name], device) for name in (*_NUMBERS, *_VORTEX)}
    p |= {name: _padded(truth[name], device) for name in _SUBHALO_LISTS}
    has_subhalos, has_vortex = truth["sub_mass"].map(len).to_numpy() > 0, truth["vort_mass"].notna().to_numpy()
    index = truth["index"].to_numpy()
    tile = len(truth) if device != "cpu" else max(1, _TILE // (size[0] * size[1]))
    with one_thread():
        for subhalos, vortex in itertools.product((False, True), repeat=2):
            rows = np.flatnonzero((has_subhalos == subhalos) & (has_vortex == vortex))
            for part in np.split(rows, range(tile, len(rows), tile)) if len(rows) else ():
                chosen = torch.from_numpy(part).to(device)
                some = {name: values[chosen] for name, values in p.items()}
                flux = _flux(some, size, subhalos, vortex)
                if seed is not None:
                    noise = _normal(seed, index[part], size).to(device)
                    add_noise(flux, noise, some["exposure"][..., None], _BACKGROUND * pixel_scale(size))
                images[chosen] = min_max(flux)
    return images


def _flux(p: dict[str, Tensor], size: tuple[int, int], subhalos: bool, vortex: bool) -> Tensor:
    """(N, 1, H, W) flux a pixel, seen through the PSF, of rows that have the same kinds of substructure."""
    scale = pixel_scale(size)
    fwhm = PSF_FWHM / scale
    x, y = pixel_grid(size, scale, margin=kernel_radius(fwhm), device=p["theta_E"].device)
    # Of an odd size one pixel lies on the lens's very centre, where no deflection has a direction: read as zero, it
    # would show the source there, and a singular lens has no central image.
    x = torch.where(x == 0.0, 1e-3 * scale, x)
    beta_x, beta_y = _source_plane(p, x, y, subhalos, vortex)
    light = sersic(
        beta_x.sub_(p["source_x"]),
        beta_y.sub_(p["source_y"]),
        _AMPLITUDE * scale * scale,
        p["source_Re"],
        p["source_n"],
        (1.0 - p["source_e"]) / (1.0 + p["source_e"]),
        torch.deg2rad(p["source_angle"]),
    )
    return blur(light[:, None], fwhm, size)  # (N, H + 2 margin, W + 2 margin + ...) -> (N, 1, H, W)


def _source_plane(p: dict[str, Tensor], x: Tensor, y: Tensor, subhalos: bool, vortex: bool) -> tuple[Tensor, Tensor]:
    """Where the light of each pixel comes from: beta = theta - alpha, (N, H, W) each."""
    alpha_x, alpha_y = deflection.sie(x, y, p["theta_E"], p["sie_e"], torch.deg2rad(p["sie_angle"]))
    terms = [deflection.shear(x, y, p["shear"], torch.deg2rad(p["shear_angle"]))]
    if subhalos:
        strength = _einstein_squared(p["sub_mass"])
        terms.append(deflection.point_mass(x, y, strength, p["sub_x"], p["sub_y"]))
    if vortex:
        strength, angle = _einstein_squared(p["vort_mass"]), torch.deg2rad(p["vort_angle"])
        terms.append(deflection.vortex(x, y, strength, p["vort_x"], p["vort_y"], angle, p["vort_half_length"]))
    for term_x, term_y in terms:
        alpha_x.add_(term_x)
        alpha_y.add_(term_y)
    return torch.sub(x, alpha_x, out=alpha_x), torch.sub(y, alpha_y, out=alpha_y)


def _einstein_squared(mass: Tensor) -> Tensor:
    """Squared Einstein radius (arcsec^2) of a mass in Msun."""
    return EINSTEIN_RADIUS_1E12**2 * (mass / 1e12)


def _normal(seed: int, index: np.ndarray, size: tuple[int, int]) -> Tensor:
    """(N, 1, H, W) standard normal deviates, each image's from its own generator."""
    normal = np.empty((len(index), 1, *size), np.float32)
    for image, number in zip(normal, index, strict=True):
        generator(seed, int(number), 1).standard_normal(dtype=np.float32, out=image)
    return torch.from_numpy(normal)


def _parameter(column: pd.Series, device: str) -> Tensor:
    """A column as float32 (N, 1, 1)."""
    return torch.from_numpy(column.to_numpy(np.float32, copy=True)).to(device)[:, None, None]


def _padded(lists: pd.Series, device: str) -> Tensor:
    """A column of lists as float32 (N, K), short ones filled up with zeros: masses of zero bend nothing."""
    table = np.zeros((len(lists), max(map(len, lists), default=0)), np.float32)
    for row, values in enumerate(lists):
        table[row, : len(values)] = values
    return torch.from_numpy(table).to(device)


def _make(
    labels: Sequence[str], first_index: int, *, size: tuple[int, int], difficulty: float, seed: int, device: str
) -> SimulatedBatch:
    truth = pd.DataFrame([draw_truth(first_index + i, label, seed, difficulty) for i, label in enumerate(labels)])
    truth["pixel_scale"] = pixel_scale(size)
    return render(truth, size, seed=seed, device=device).cpu().numpy(), truth


def simulate(
    labels: Sequence[str],
    size: int | tuple[int, int] = 150,
    *,
    difficulty: float = 2.0,
    seed: int = 0,
    first_index: int = 0,
    batch_size: int = 256,
    workers: int | None = None,
    device: str = "cpu",
) -> Iterator[SimulatedBatch]:
    """Lenses with these labels, and the truth about each, in chunks of `batch_size` and in order.

    Image i has the global index first_index + i and is drawn from (seed, index): it does not depend on the batch, the
    number of processes or the images before it.

    Parameters
    ----------
    labels : N names of `CLASSES`
    size : (height, width) in pixels, or one number for a square
    difficulty : factor on every substructure mass, above 0
    workers : processes; None takes the cores available if the job is worth it, 1 stays in this process, and so does
        every job on a `device` other than cpu

    Yields
    ------
    (n, 1, H, W) float32 images in [0, 1], and n rows with the columns of `draw_truth` and `pixel_scale` (arcsec).

    Errors: SkyclassError for an unknown label, a size below 8 pixels, a difficulty not above 0, a negative seed.
    """
    shape = check_request(labels, CLASSES, size, seed, first_index)
    if not difficulty > 0.0:
        raise SkyclassError(f"{difficulty} is no factor on a mass", where="difficulty", fix="give a number above 0")
    make = partial(_make, size=shape, difficulty=difficulty, seed=seed, device=device)
    return in_batches(make, labels, first_index, batch_size, workers if device == "cpu" else 1)
