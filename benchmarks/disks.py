"""Simulated photographs of planets and moons: bright disks on black, of which no two show the same.

A sphere with a texture (bands with waves in them, dark plains, bland) is lit by the Sun at some phase, darkened towards
the limb, encircled by rings now and then, placed on a dark sky with or without stars, and blurred. Moons of one `face`
share their texture and differ by libration, phase and exposure, as photographs of our Moon by different people do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

KINDS = ("banded", "maria", "bland", "ringed", "face")
_WAVES = 160  # plane waves of a texture
_FACE = 20261  # the seed of the texture that all images of the kind `face` show


class Scene(NamedTuple):
    """How a disk lies in its image: everything in units of the side, angles in radians."""

    radius: float
    centre: tuple[float, float]
    tilt: float
    phase: float
    limb: float


def disks(n: int, side: int = 200, seed: int = 0) -> list[np.ndarray]:
    """n different disks, of the kinds in turn: (H, W, 1) uint8, of `side` to `side` * 4 / 3 pixels."""
    return [disk(KINDS[i % len(KINDS)], np.random.default_rng([seed, i]), side) for i in range(n)]


def disk(kind: str, random: np.random.Generator, side: int) -> np.ndarray:
    """One disk of a kind, (H, W, 1) uint8."""
    width = int(side * random.choice((1.0, 1.0, 4 / 3)))
    scene = Scene(
        random.uniform(0.22, 0.47) * (0.6 if kind == "ringed" else 1.0),
        tuple(random.uniform(-0.03, 0.03, 2)),
        random.normal(0.0, 0.3),
        0.0 if random.random() < 0.5 else random.uniform(0.2, 1.8),
        random.uniform(0.2, 0.9),
    )
    y, x = np.mgrid[:side, :width].astype(np.float32)
    y = ((y - (side - 1) / 2) / side - scene.centre[0]) / scene.radius
    x = ((x - (width - 1) / 2) / side - scene.centre[1]) / scene.radius
    light = _sphere(kind, scene, y, x, random)
    if kind == "ringed":
        light = _with_rings(light, scene, y, x, random)
    light = ndimage.gaussian_filter(light, random.uniform(0.5, 1.2))
    light *= random.uniform(150.0, 250.0) / max(float(np.quantile(light, 0.999)), 1e-3)
    if random.random() < 0.4:
        light[random.integers(0, side, 40), random.integers(0, width, 40)] += random.uniform(20.0, 90.0, 40)
    light += random.uniform(0.0, 12.0) + random.normal(0.0, random.uniform(0.3, 2.0), light.shape)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)[:, :, None]


def _sphere(kind: str, scene: Scene, y: np.ndarray, x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Brightness of the lit, textured sphere; y, x in radii from its centre."""
    inside = y * y + x * x < 1.0
    z = np.sqrt(np.maximum(1.0 - y * y - x * x, 0.0))
    cos, sin = np.cos(scene.tilt), np.sin(scene.tilt)
    points = np.stack([x * cos + y * sin, y * cos - x * sin, z], axis=-1)
    texture = _texture(kind, points, random)
    azimuth = random.uniform(0.0, 2.0 * np.pi)
    sun = np.array([np.sin(scene.phase) * np.cos(azimuth), np.sin(scene.phase) * np.sin(azimuth), np.cos(scene.phase)])
    lit = np.maximum(x * sun[0] + y * sun[1] + z * sun[2], 0.0) ** 0.6
    return np.asarray(inside * lit * z ** (0.5 * scene.limb) * np.maximum(texture, 0.0), np.float32)


def _texture(kind: str, points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Reflectivity about 1 at points (..., 3) on the sphere, of which the second axis is that of rotation."""
    if kind == "face":
        libration = random.normal(0.0, 0.08, 3)
        pattern = _noise(_turned(points, libration), np.random.default_rng(_FACE), 2.5, 1.6)
        return 1.0 + 0.35 * np.tanh(2.0 * pattern)
    if kind == "maria":
        return 1.0 + random.uniform(0.15, 0.4) * np.tanh(2.0 * _noise(points, random, 2.5, 1.6))
    waves = _noise(points, random, 5.0, 1.4)
    latitude = points[..., 1] + random.uniform(0.01, 0.06) * waves
    bands = _noise(np.stack([0 * latitude, 4.0 * latitude, 0 * latitude], axis=-1), random, 2.0, 1.0)
    strength = random.uniform(0.01, 0.05) if kind == "bland" else random.uniform(0.1, 0.3)
    return 1.0 + strength * (bands + random.uniform(0.3, 1.0) * waves)


def _turned(points: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Points turned by small angles about the three axes."""
    return np.asarray(points + np.cross(angles, points))


def _noise(points: np.ndarray, random: np.random.Generator, lowest: float, slope: float) -> np.ndarray:
    """Gaussian noise of unit variance at points (..., 3): plane waves whose power falls with their frequency."""
    frequency = lowest * (1.0 - random.random(_WAVES)) ** (-1.0 / slope)
    frequency = np.minimum(frequency, 60.0)
    direction = random.normal(size=(_WAVES, 3))
    direction *= (frequency / np.linalg.norm(direction, axis=1))[:, None]
    phases = random.uniform(0.0, 2.0 * np.pi, _WAVES)
    total = np.zeros(points.shape[:-1], np.float32)
    for wave, phase in zip(direction.astype(np.float32), phases.astype(np.float32), strict=True):
        total += np.cos(points.astype(np.float32) @ wave + phase)
    return np.asarray(total * np.sqrt(2.0 / _WAVES))


def _with_rings(
    light: np.ndarray, scene: Scene, y: np.ndarray, x: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """The sphere with rings about its equator, the near half before it and the far half behind."""
    opening = random.uniform(0.08, 0.45)
    cos, sin = np.cos(scene.tilt), np.sin(scene.tilt)
    along, across = x * cos + y * sin, (y * cos - x * sin) / opening
    radius = np.hypot(along, across)
    inner, outer = random.uniform(1.2, 1.4), random.uniform(1.9, 2.4)
    profile = 0.4 + 0.3 * _noise(np.stack([radius, 0 * radius, 0 * radius], axis=-1), random, 4.0, 1.0)
    profile[np.abs(radius - random.uniform(1.6, 1.8)) < 0.05] = 0.05
    ring = np.where((radius > inner) & (radius < outer), np.clip(profile, 0.05, 0.9), 0.0)
    near = across > 0
    behind = (y * y + x * x < 1.0) & ~near
    return np.where(ring > 0, np.where(behind, light, np.where(near, ring, ring)), light).astype(np.float32)
