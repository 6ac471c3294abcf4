"""Duplicates: recall a transform, precision, false pairs among images that look alike, times, and how they grow.

    python benchmarks/duplicates.py

Copies of real galaxies are made, two of each image, and searched for together with all originals. A pair of unrelated
images counts as false: the galaxies hold no pair of their own (the most similar reach 0.28, and by eye the twelve most
similar pairs are different galaxies), the radio images only some with equal pixels. The times are for everything after
decoding (fingerprints, search, alignment); that of decoding is told beside them. The growth is measured on simulated
galaxies, of which the first 3,000 are rendered and the others are blends of two of them at random; a few blends are
alike enough to be pairs.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image as pillow
from scipy.spatial.distance import cdist

from skyclass.console import progress
from skyclass.data.duplicates import Fingerprint, cluster, find_duplicates, fingerprint
from skyclass.data.neighbours import CROPS, described, discriminants
from skyclass.images import read_image
from skyclass.simulation import galaxies, lensing
from skyclass.threads import in_order

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIDE_OF_COPIES = 0.9  # a crop keeps this share of each side
LARGEST_SHIFT = 0.05  # of the side
NOISE = 0.01  # of the range
QUALITY = 60

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # (H, W, C) uint8 -> (H', W', C) uint8


def as_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def rotation(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """By any angle about the centre; the corners become black."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), random.uniform(0.0, 360.0), 1.0)
    return kept_axes(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR))


def mirror(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return image[:, ::-1]


def crop(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """90 % of each side, anywhere."""
    height, width = (round(n * SIDE_OF_COPIES) for n in image.shape[:2])
    top, left = (random.integers(0, n - m + 1) for n, m in zip(image.shape[:2], (height, width), strict=True))
    return image[top : top + height, left : left + width]


def shift(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    x, y = random.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 2) * (width, height)
    return kept_axes(cv2.warpAffine(image, np.float32([[1, 0, x], [0, 1, y]]), (width, height)))


def kept_axes(image: np.ndarray) -> np.ndarray:
    """OpenCV drops the axis of a single band."""
    return image if image.ndim == 3 else image[:, :, None]


def brightness(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return as_bytes(image * np.float32(random.uniform(0.8, 1.2)))


def contrast(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    mean = image.mean(dtype=np.float32)
    return as_bytes((image - mean) * np.float32(random.uniform(0.8, 1.2)) + mean)


def noise(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return as_bytes(image + random.normal(0.0, 255 * NOISE, image.shape).astype(np.float32))


def jpeg(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    stream = io.BytesIO()
    pillow.fromarray(image.squeeze()).save(stream, "JPEG", quality=QUALITY)
    return kept_axes(np.asarray(pillow.open(stream)))


def combined(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Each of them with even odds, two at least, in the order in which they would happen to a picture."""
    alone = list(CHANGES.values())[:-2]
    chosen = random.random(len(alone)) < 0.5
    chosen[random.choice(len(alone), 2, replace=False)] = True
    return chained([change for change, on in zip(alone, chosen, strict=True) if on], image, random)


def all_at_once(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return chained(list(CHANGES.values())[:-2], image, random)


def chained(changes: Sequence[Change], image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    for change in changes:
        image = np.ascontiguousarray(change(image, random))
    return image


CHANGES: dict[str, Change] = {
    "rotation": rotation,
    "mirror": mirror,
    "crop": crop,
    "shift": shift,
    "brightness": brightness,
    "contrast": contrast,
    "noise": noise,
    "jpeg": jpeg,
    "combined": combined,
    "all at once": all_at_once,
}


def bands_last(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


def with_copies(images: Sequence[np.ndarray], copies: int) -> tuple[list[np.ndarray], pd.DataFrame]:
    """(H, W, C) originals, then their copies, as (C, H, W); and of each its `base` and `change`, "" of originals.

    Copy k of image i is made by change (i + 3 k) modulo their number: each image has at most `copies` of them.
    """
    names = list(CHANGES)
    jobs = [(i, names[(i + 3 * k) % len(names)]) for k in range(copies) for i in range(len(images))]
    changed = in_order(lambda job: CHANGES[job[1]](images[job[0]], np.random.default_rng([job[0]])), jobs)
    pixels = [np.ascontiguousarray(np.moveaxis(image, -1, 0)) for image in [*images, *changed]]
    rows = [(i, "") for i in range(len(images))] + jobs
    return pixels, pd.DataFrame(rows, columns=["base", "change"])


def fingerprints_of(images: Sequence[np.ndarray]) -> list[Fingerprint]:
    with progress("Fingerprints", len(images)) as advance:
        prints = []
        for one in in_order(fingerprint, images):
            prints.append(one)
            advance(1)
    return prints


class Counts:
    """What was found of what was there."""

    def __init__(self, pairs: pd.DataFrame, truth: pd.DataFrame) -> None:
        base, change = truth["base"].to_numpy(), truth["change"].to_numpy()
        a, b = pairs["first"].to_numpy(), pairs["second"].to_numpy()
        same = base[a] == base[b]
        near = pairs["kind"].eq("near").to_numpy()
        self.false = pairs[~same & near]
        self.exact_among_originals = int((~same & ~near).sum())
        self.precision = float((same | ~near).mean()) if len(pairs) else 1.0
        found = set(b[same & (change[a] == "")].tolist())
        rows = pd.DataFrame({"change": change, "found": [i in found for i in range(len(truth))]})
        self.recall = rows[rows["change"] != ""].groupby("change")["found"].mean().reindex(list(CHANGES))
        groups = cluster(len(truth), pairs)
        copies = np.flatnonzero(change != "")
        together = (groups[copies] >= 0) & (groups[copies] == groups[base[copies]])
        self.together = float(together.mean())
        self.largest = int(np.bincount(groups[groups >= 0]).max(initial=0))


def read_galaxies() -> tuple[list[np.ndarray], float]:
    files = sorted((SHARED / "galaxies" / "images").glob("*.jpeg"))
    start = time.perf_counter()
    images = [bands_last(image.pixels) for image in in_order(read_image, files)]
    return images, time.perf_counter() - start


def read_radio() -> list[np.ndarray]:
    files = sorted((SHARED / "radio" / "png").glob("*.png"))
    return [bands_last(read_image(file).pixels) for file in files]


def simulated_lenses(n: int) -> list[np.ndarray]:
    labels = [lensing.CLASSES[i % 3] for i in range(n)]
    chunks = [images for images, _ in lensing.simulate(labels, 150, workers=1)]
    return [bands_last(as_bytes(255.0 * image)) for image in np.concatenate(chunks)]


def many(n: int) -> list[Fingerprint]:
    """Fingerprints of n different images: simulated galaxies, then blends of two of them, turned and mirrored."""
    labels = [galaxies.CLASSES[i % 4] for i in range(min(n, 3000))]
    seen = np.concatenate([images for images, _ in galaxies.simulate(labels, 64, seed=5, workers=1)])
    grey = seen.mean(axis=1, keepdims=True, dtype=np.float32)

    def one(i: int) -> Fingerprint:
        if i < len(grey):
            return fingerprint(grey[i])
        random = np.random.default_rng([5, i])
        a, b = grey[random.integers(0, len(grey), 2)]
        y, x = random.integers(-20, 21, 2)
        other = np.roll(np.rot90(b, int(random.integers(4)), axes=(1, 2)), (y, x), axis=(1, 2))
        return fingerprint(a * np.float32(random.uniform(0.3, 1.0)) + other)

    return list(in_order(one, range(n)))


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """(63,) bits: the lowest cosine components of a 32x32 picture above their median or not, as in pHash."""
    small = cv2.resize(image.mean(axis=2, dtype=np.float32), (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[:8, :8].ravel()[1:]
    return low > np.median(low)


def nearest_share(distance: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """How often the original is the nearest, and among the ten nearest; distance (copies, originals)."""
    own = distance[np.arange(len(truth)), truth]
    rank = (distance < own[:, None]).sum(axis=1)
    return float((rank < 1).mean()), float((rank < 10).mean())


def descriptors_compared(images: Sequence[np.ndarray]) -> dict[str, tuple[float, float]]:
    """Which descriptor has the original of a copy, changed in all ways at once, among the nearest."""
    chosen = np.arange(0, len(images), 10)
    copies = [all_at_once(images[i], np.random.default_rng([i])) for i in chosen]
    bits = np.stack([perceptual_hash(image) for image in images])
    turns = [[np.rot90(side, k) for k in range(4) for side in (image, image[:, ::-1])] for image in copies]
    hashed = [min_over([(bits != perceptual_hash(turn)).sum(axis=1) for turn in eight]) for eight in turns]
    both = fingerprints_of([np.ascontiguousarray(np.moveaxis(image, -1, 0)) for image in [*images, *copies]])
    pictures, plain = np.stack([one.picture for one in both]), np.stack([one.descriptor for one in both])
    base, asked = plain[: len(images)], plain[len(images) :]
    spread = base.std(axis=0)
    centre, matrix = discriminants(pictures[: len(images)], base)
    scales = [(described(pictures[: len(images)], crop) - centre) @ matrix for crop in CROPS]
    turned = (asked - centre) @ matrix
    return {
        "perceptual hash, 8 orientations": nearest_share(np.stack(hashed), chosen),
        "descriptor, standardised": nearest_share(cdist(asked / spread, base / spread), chosen),
        "with discriminants": nearest_share(cdist(turned, scales[0]), chosen),
        "with discriminants, at three scales": nearest_share(min_over([cdist(turned, s) for s in scales]), chosen),
    }


def min_over(distances: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.min(distances, axis=0))


def search(images: Sequence[np.ndarray], copies: int) -> tuple[Counts, pd.DataFrame, dict[str, float]]:
    pixels, truth = with_copies(images, copies)
    start = time.perf_counter()
    prints = fingerprints_of(pixels)
    middle = time.perf_counter()
    pairs = find_duplicates(prints)
    end = time.perf_counter()
    times = {"images": len(prints), "fingerprints": middle - start, "search": end - middle}
    return Counts(pairs, truth), pairs, times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lenses", type=int, default=1500, help="simulated lenses (default 1500)")
    parser.add_argument(
        "--growth",
        type=int,
        nargs="*",
        default=[3000, 10000, 30000],
        help="sizes of the sets timed; 100000 takes 10 minutes",
    )
    arguments = parser.parse_args()
    if not (SHARED / "galaxies").is_dir():
        sys.exit(f"skipped: the images for development are not there ({SHARED})")

    images, decoding = read_galaxies()
    results = {"galaxies": search(images, 2)}
    decoding *= results["galaxies"][2]["images"] / len(images)
    compared = descriptors_compared(images)
    del images
    results["radio"] = search(read_radio(), 1)
    results["simulated lenses"] = search(simulated_lenses(arguments.lenses), 1)

    print("| | " + " | ".join(results) + " |\n|---|" + "---:|" * len(results))
    for change in CHANGES:
        print(f"| recall, {change} | " + " | ".join(f"{c.recall[change]:.3f}" for c, _, _ in results.values()) + " |")
    lines: dict[str, Callable[[Counts, pd.DataFrame, dict[str, float]], str]] = {
        "copies in the cluster of their original": lambda c, p, t: f"{c.together:.3f}",
        "precision of all pairs": lambda c, p, t: f"{c.precision:.4f}",
        "near pairs": lambda c, p, t: f"{p['kind'].eq('near').sum():,}",
        "false near pairs": lambda c, p, t: f"{len(c.false):,}",
        "equal files among the originals": lambda c, p, t: f"{c.exact_among_originals:,}",
        "largest cluster": lambda c, p, t: f"{c.largest:,}",
        "images": lambda c, p, t: f"{t['images']:,.0f}",
        "fingerprints, s": lambda c, p, t: f"{t['fingerprints']:.1f}",
        "search and alignment, s": lambda c, p, t: f"{t['search']:.1f}",
        "10,000 images, s": lambda c, p, t: f"{(t['fingerprints'] + t['search']) / t['images'] * 1e4:.0f}",
    }
    for name, value in lines.items():
        print(f"| {name} | " + " | ".join(value(*result) for result in results.values()) + " |")
    per_10k = decoding / results["galaxies"][2]["images"] * 1e4
    print(f"\nDecoding 10,000 such galaxies takes {per_10k:.0f} s more.\n", flush=True)

    print("| descriptor of a copy changed in all ways | original is nearest | among the ten nearest |\n|---|---:|---:|")
    for name, (nearest, ten) in compared.items():
        print(f"| {name} | {nearest:.3f} | {ten:.3f} |")
    print("\n| descriptors | search and alignment, s | per image, ms | near pairs |\n|---:|---:|---:|---:|")
    everything = many(max(arguments.growth, default=0)) if arguments.growth else []
    for n in arguments.growth:
        start = time.perf_counter()
        pairs = find_duplicates(everything[:n])
        seconds = time.perf_counter() - start
        print(f"| {n:,} | {seconds:.1f} | {seconds / n * 1e3:.2f} | {len(pairs):,} |", flush=True)


if __name__ == "__main__":
    main()
