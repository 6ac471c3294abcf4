"""Telescope effects: the point spread function, noise, and the scale of the image."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_VECTOR = 32  # float32 numbers in the two registers of a vectorised loop


def pixel_grid(
    size: tuple[int, int], scale: float, margin: int = 0, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Pixel centres relative to the centre of an image of this (height, width), in pixels times `scale`.

    Returns
    -------
    x of shape (1, W') and y of shape (H', 1), float32: `margin` pixels wider on every side, and then to the right up
    to a multiple of 32 columns. So every image fills whole vector registers, and its last bits do not depend on the
    images computed beside it.
    """
    height, width = size
    columns = _VECTOR * math.ceil((width + 2 * margin) / _VECTOR)
    x = (torch.arange(columns, dtype=torch.float64) - margin - (width - 1) / 2.0) * scale
    y = (torch.arange(height + 2 * margin, dtype=torch.float64) - margin - (height - 1) / 2.0) * scale
    return x.float()[None, :].to(device), y.float()[:, None].to(device)


def kernel_radius(fwhm: float) -> int:
    """Pixels from the centre to the end of `gaussian_kernel`."""
    return math.ceil(4.0 * fwhm / FWHM_PER_SIGMA)


def gaussian_kernel(fwhm: float) -> list[float]:
    """A Gaussian of this FWHM (pixels) collected by pixels: its integral over each, out to 4 sigma; the sum is 1."""
    root_two_sigma = math.sqrt(2.0) * fwhm / FWHM_PER_SIGMA
    radius = kernel_radius(fwhm)
    edges = [math.erf((i - 0.5) / root_two_sigma) for i in range(-radius, radius + 2)]
    weights = [high - low for low, high in itertools.pairwise(edges)]
    return [weight / sum(weights) for weight in weights]


def blur(images: Tensor, fwhm: float, size: tuple[int, int]) -> Tensor:
    """Convolve images with a Gaussian PSF of this FWHM in pixels.

    Parameters
    ----------
    images : (N, C, H', W') light on a `pixel_grid` of this `size` whose margin is `kernel_radius(fwhm)`

    Returns
    -------
    (N, C, H, W)
    """
    height, width = size
    kernel = gaussian_kernel(fwhm)
    rows = images[..., :height, :] * kernel[0]  # (N, C, H, W')
    for offset, weight in enumerate(kernel[1:], start=1):
        rows.add_(images[..., offset : offset + height, :], alpha=weight)
    blurred = rows[..., :width] * kernel[0]  # (N, C, H, W)
    for offset, weight in enumerate(kernel[1:], start=1):
        blurred.add_(rows[..., offset : offset + width], alpha=weight)
    return blurred


def generator(seed: int, index: int, stream: int) -> np.random.Generator:
    """The random numbers of image `index`: the same in any batch or process; `stream` parts shape and noise."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, index, stream))))


def add_noise(images: Tensor, normal: Tensor, exposure: Tensor, background: float) -> Tensor:
    """Add Gaussian noise of variance I / t + b^2, in place.

    Parameters
    ----------
    images : (N, C, H, W) flux I a pixel, 0 or more
    normal : (N, C, H, W) standard normal deviates; it is overwritten
    exposure : (N, 1, 1, 1) exposure time t
    background : standard deviation b of the background a pixel, in the unit of the flux
    """
    deviation = (images / exposure).add_(background * background).sqrt_()
    return images.add_(normal.mul_(deviation))


def min_max(images: Tensor) -> Tensor:
    """Scale each (C, H, W) image to [0, 1] by its own least and greatest pixel, in place; a flat image becomes 0."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return images.sub_(low).div_((high - low).clamp_(min=torch.finfo(images.dtype).tiny))


def lupton_rgb(images: Tensor, stretch: float, Q: float) -> Tensor:
    """Colour pictures with an asinh curve on the mean of the bands (Lupton et al. 2004, PASP 116, 133, eqs. 2 to 4).

    Parameters
    ----------
    images : (..., 3, H, W) flux in the bands shown as red, green and blue; the sky is at 0
    stretch : flux up to which the curve is linear
    Q : softening: the larger, the more the bright end is compressed

    Returns
    -------
    (..., 3, H, W) uint8. Where a band would pass 255, all three are scaled down together, so colours are kept.
    """
    intensity = images.mean(-3, keepdim=True).clamp_(min=1e-6)  # (..., 1, H, W)
    colour = images * (torch.asinh(intensity * (Q / stretch)) / (Q * intensity))
    colour /= colour.amax(-3, keepdim=True).clamp_(min=1.0)
    return colour.clamp_(min=0.0).mul_(255.0).add_(0.5).to(torch.uint8)
