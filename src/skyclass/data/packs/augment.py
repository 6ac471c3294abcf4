"""Random changes of a whole batch, on the device it lies on.

Every number drawn for an image depends on (seed, epoch, row of the pack) alone, so a run can be resumed in mid-epoch
and the composition of the batches does not matter, except for the noise of pixels (see `_noise`). All geometry is one
affine matrix and one interpolation; brightness and contrast are one multiply-add.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...core.errors import SkyclassError, did_you_mean
from ...images.preprocess import unit_scale
from ...recipes.data_settings import AugmentSettings

Size = tuple[int, int]

# Each setting owns its columns of the uniform numbers, so that switching one on leaves the others as they were.
_COLUMNS = 11


@dataclass(frozen=True)
class Draws:
    """What is done to each of n images; angles count anticlockwise as displayed with the first row on top."""

    flip_horizontal: NDArray[np.bool_]  # (n,) left and right are exchanged
    flip_vertical: NDArray[np.bool_]  # (n,) top and bottom are exchanged
    angle: NDArray[np.float64]  # (n,) degrees
    scale: NDArray[np.float64]  # (n,) magnification
    shift: NDArray[np.float64]  # (n, 2) down and right, shares of the height and of the width
    brightness: NDArray[np.float64]  # (n,) factor
    contrast: NDArray[np.float64]  # (n,) factor
    saturation: NDArray[np.float64]  # (n,) factor
    crop: NDArray[np.float64]  # (n, 2) place of the window in [0, 1): 0 is the first row or column, 1 past the last

    @property
    def mirrored(self) -> NDArray[np.bool_]:
        """(n,) images whose handedness is reversed; both flips together are a rotation by 180 degrees."""
        return self.flip_horizontal ^ self.flip_vertical


def uniforms(seed: int, epoch: int, rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(n, count) uniform numbers in [0, 1) that depend on (seed, epoch, row, column) alone.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA, "Fast splittable pseudorandom number generators";
    constants of Vigna's reference code) hashes seed, epoch, row and column in turn. `rows` (n,) are rows of the pack.
    """
    state = _mix(np.array([seed % 2**64], dtype=np.uint64))
    state = _mix(state ^ np.array([epoch % 2**64], dtype=np.uint64))
    state = _mix(state ^ np.asarray(rows, dtype=np.int64).view(np.uint64))  # (n,)
    hashed = _mix(state[:, None] ^ np.arange(count, dtype=np.uint64))  # (n, count)
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def draw(settings: AugmentSettings, seed: int, epoch: int, rows: NDArray[np.int64]) -> Draws:
    """The changes of the images at `rows` (n,) of the pack in this epoch, uniform over the recipe's ranges."""
    u = uniforms(seed, epoch, rows, _COLUMNS)
    either_way = 2.0 * u - 1.0  # [-1, 1)
    low, high = settings.scale
    return Draws(
        flip_horizontal=u[:, 0] < settings.flip_horizontal,
        flip_vertical=u[:, 1] < settings.flip_vertical,
        angle=settings.rotation * either_way[:, 2],
        scale=low + (high - low) * u[:, 3],
        shift=settings.shift * either_way[:, 4:6],
        brightness=1.0 + settings.brightness * either_way[:, 6],
        contrast=1.0 + settings.contrast * either_way[:, 7],
        saturation=1.0 + settings.saturation * either_way[:, 8],
        crop=u[:, 9:11],
    )


def has_geometry(settings: AugmentSettings) -> bool:
    """Whether the settings move pixels at all."""
    return bool(
        settings.flip_horizontal
        or settings.flip_vertical
        or settings.rotation
        or settings.scale != (1.0, 1.0)
        or settings.shift
        or settings.crop
    )


def check_augmentation(settings: AugmentSettings, channels: int, in_size: Size, out_size: Size) -> None:
    """Refuse a recipe that does not suit images of `channels` bands and (height, width) `in_size`.

    Errors: SkyclassError where saturation meets anything but three bands, or the sizes do not agree with augment.crop.
    """
    if settings.saturation > 0 and channels != 3:
        raise SkyclassError(
            f"saturation needs three bands, and the images have {channels}",
            where="augment.saturation",
            fix="set augment.saturation to 0",
        )
    before_crop = settings.crop or out_size
    if in_size != before_crop:
        raise SkyclassError(
            f"the images are {in_size[0]} x {in_size[1]} (height x width) where the recipe wants "
            f"{before_crop[0]} x {before_crop[1]}",
            where="augment.crop" if settings.crop else "pixels.size",
            fix="resize them to that before augmentation",
        )
    if in_size[0] < out_size[0] or in_size[1] < out_size[1]:
        raise SkyclassError(
            f"a window of {out_size[0]} x {out_size[1]} (height x width) does not fit into {in_size[0]} x {in_size[1]}",
            where="augment.crop",
            fix="make augment.crop at least as large as pixels.size",
        )


def affine_matrices(parameters: Draws, in_size: Size, out_size: Size) -> NDArray[np.float64]:
    """(n, 2, 3) matrices that take an output pixel (x, y, 1) to the input pixel (x, y) it is read from.

    Pixel coordinates count from 0 at the centre of the first pixel, so a rotation of a non-square image does not shear.
    The image is flipped, rotated, magnified about its centre and shifted, in this order, on a canvas of `in_size`
    (height, width); the output is the window of `out_size` at a whole-pixel place of that canvas.
    """
    height, width = in_size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    room = np.array([width - out_size[1], height - out_size[0]])
    corner = np.floor(parameters.crop[:, ::-1] * (room + 1))  # (n, 2) (x, y), every whole place equally likely
    moved = parameters.shift[:, ::-1] * np.array([width, height])  # (n, 2) (x, y) pixels

    # The inverse of an anticlockwise turn, with y pointing down: (x', y') -> (x' cos - y' sin, x' sin + y' cos).
    angle = np.deg2rad(parameters.angle)
    cosine, sine = np.cos(angle) / parameters.scale, np.sin(angle) / parameters.scale
    linear = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], 1)  # (n, 2, 2)
    flips = np.stack([parameters.flip_horizontal, parameters.flip_vertical], -1)  # (n, 2) (x, y)
    linear = np.where(flips, -1.0, 1.0)[:, :, None] * linear
    offset = np.einsum("nij,nj->ni", linear, corner - centre - moved) + centre  # (n, 2)
    return np.concatenate([linear, offset[:, :, None]], -1)


def resample(batch: torch.Tensor, matrices: NDArray[np.float64], out_size: Size, fill: str) -> torch.Tensor:
    """Read a float batch (n, C, H, W) at the places `matrices` (n, 2, 3) give, bilinearly -> (n, C, h, w).

    `fill` is zeros, border or reflection, for places outside the image.
    """
    (height, width), (rows, columns) = batch.shape[-2:], out_size
    # grid_sample counts from -1 to 1 between the outer edges of the pixels: x -> (2 x + 1) / width - 1.
    extent = np.array([width, height])[:, None]
    normalised = 2.0 * matrices / extent
    normalised[:, :, 2] += (1.0 / extent - 1.0)[:, 0]
    theta = torch.from_numpy(normalised).to(batch.device, torch.float32)[:, None, None]  # (n, 1, 1, 2, 3)
    x = torch.arange(columns, device=batch.device, dtype=torch.float32)[:, None]  # (w, 1)
    y = torch.arange(rows, device=batch.device, dtype=torch.float32)[:, None, None]  # (h, 1, 1)
    # Broadcasting is five times faster here than affine_grid, which multiplies full matrices.
    grid = theta[..., 0] * x + (theta[..., 1] * y + theta[..., 2])  # (n, h, w, 2)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode=fill, align_corners=False)


def to_unit(batch: torch.Tensor) -> torch.Tensor:
    """Stored pixels as float32: integers over their full range become [0, 1], floats keep their values."""
    scale = unit_scale(batch.dtype)
    pixels = batch.to(torch.float32)
    return pixels if scale == 1.0 else pixels * scale


def augment(
    batch: torch.Tensor, settings: AugmentSettings, out_size: Size, seed: int, epoch: int, rows: NDArray[np.int64]
) -> torch.Tensor:
    """Stored pixels (n, C, H, W) of the images at `rows` (n,) of the pack -> changed pixels (n, C, h, w), float32.

    The batch is uint8, uint16 or floating point and has the size `settings.crop` where that is set, else `out_size`.
    Integers become [0, 1] and are clipped to it again in the end; floats keep their scale and are never clipped.
    In order: geometry, brightness and contrast, saturation, noise.

    Errors: SkyclassError where `check_augmentation` finds a misfit.
    """
    in_size = (int(batch.shape[-2]), int(batch.shape[-1]))
    check_augmentation(settings, batch.shape[1], in_size, out_size)
    parameters = draw(settings, seed, epoch, rows)
    pixels = to_unit(batch)
    if has_geometry(settings):
        pixels = resample(pixels, affine_matrices(parameters, in_size, out_size), out_size, settings.fill)
    if settings.brightness or settings.contrast:
        pixels = change_light(pixels, parameters.brightness, parameters.contrast)
    if settings.saturation:
        pixels = change_saturation(pixels, parameters.saturation)
    if settings.noise:
        pixels = pixels + settings.noise * _noise(pixels, seed, epoch, rows)
    changed = settings.brightness or settings.contrast or settings.saturation or settings.noise
    return pixels.clamp(0.0, 1.0) if changed and not batch.is_floating_point() else pixels


def change_light(pixels: torch.Tensor, brightness: NDArray[np.float64], contrast: NDArray[np.float64]) -> torch.Tensor:
    """Brightness b and contrast c of each image: x -> c (b x - b m) + b m, with m its mean over all bands and pixels.

    pixels (n, C, H, W); brightness, contrast (n,) factors, 1 changes nothing.
    """
    gain = _a_number_an_image(brightness * contrast, pixels)  # (n, 1, 1, 1)
    pull = _a_number_an_image(brightness * (1.0 - contrast), pixels)
    return torch.addcmul(pull * pixels.mean(dim=(1, 2, 3), keepdim=True), gain, pixels)


def change_saturation(pixels: torch.Tensor, saturation: NDArray[np.float64]) -> torch.Tensor:
    """Colour s of each image (n, 3, H, W): x -> g + s (x - g), with g the mean of its three bands at each pixel.

    The plain mean, not the luminance of human vision: bands are filters of a telescope as often as red, green and blue.
    """
    return torch.lerp(pixels.mean(dim=1, keepdim=True), pixels, _a_number_an_image(saturation, pixels))


def _a_number_an_image(values: NDArray[np.float64], pixels: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values).to(pixels.device, torch.float32)[:, None, None, None]  # (n,) -> (n, 1, 1, 1)


def _noise(pixels: torch.Tensor, seed: int, epoch: int, rows: NDArray[np.int64]) -> torch.Tensor:
    """Standard normal numbers, the same for the same rows in the same order on the same kind of device."""
    key = hashlib.blake2b(np.asarray(rows, dtype=np.int64).tobytes(), digest_size=7)
    key.update(f"{seed} {epoch}".encode())
    generator = torch.Generator(pixels.device).manual_seed(int.from_bytes(key.digest(), "little"))
    return torch.randn(pixels.shape, generator=generator, device=pixels.device)


def mirror_pairs(settings: AugmentSettings, classes: Sequence[str]) -> NDArray[np.int64]:
    """(K,) index of the class that each class turns into in a mirror, itself where `mirror_swaps` does not name it.

    Errors: SkyclassError for an unknown class, or one that occurs twice.
    """
    partner = np.arange(len(classes), dtype=np.int64)
    seen: set[str] = set()
    for pair in settings.mirror_swaps:
        for name in pair:
            if name not in classes:
                near = did_you_mean(name, classes) or f"the classes are {', '.join(classes)}"
                fix = f"if a mirror changes no label, add --set augment.mirror_swaps=[]; if one does, {near}"
                raise SkyclassError(f"no class is called {name!r}", where="augment.mirror_swaps", fix=fix)
            if name in seen:
                raise SkyclassError(
                    f"class {name!r} stands twice", where="augment.mirror_swaps", fix="name each class in one pair only"
                )
            seen.add(name)
        first, second = (list(classes).index(name) for name in pair)
        partner[[first, second]] = second, first
    return partner


def swap_labels(labels: torch.Tensor, mirrored: NDArray[np.bool_], partner: NDArray[np.int64]) -> torch.Tensor:
    """Labels (n,) of the augmented images: `partner[label]` (of `mirror_pairs`) where `mirrored` (n,)."""
    flags = torch.from_numpy(mirrored).to(labels.device)
    swapped = torch.from_numpy(partner).to(labels.device, labels.dtype)[labels]
    return torch.where(flags, swapped, labels)
