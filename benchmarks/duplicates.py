"""Duplicates: recall a change, precision of each tier, splits, small sets, times, and how they grow.

    python benchmarks/duplicates.py

Copies of images are made, two of each, and searched for together with all originals. A pair of unrelated images counts
as false: the galaxies hold no pair of their own (the most similar reach 0.28, and by eye the twelve most similar pairs
are different galaxies), the radio images only some with equal pixels. Simulated disks (`disks.py`) are the hardest
strangers: a fifth of them are photographs of one and the same moon. The planets hold copies of their own, which were
told by eye (`planets_copies.csv`, with the pairs where the eye is in doubt: these count neither way).

The limits were set on every fifth galaxy, on the disks of seed 0 and the lenses of seed 0. The other galaxies, the
disks and lenses of other seeds, the radio images and the planets were not looked at before.

The times are for everything after decoding (fingerprints, search, verification), of the processor, for other jobs may
share the machine. The growth is measured on simulated galaxies, of which the first 3,000 are rendered and the others
are blends of two of them at random; a few blends are alike enough to be pairs.
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

from disks import disks
from skyclass.core.console import progress
from skyclass.core.parallel import in_order
from skyclass.data.audit.duplicates import claimed, cluster, find_duplicates
from skyclass.data.audit.fingerprints import Fingerprint, fingerprint
from skyclass.data.audit.neighbours import CROPS, described, discriminants
from skyclass.data.packs.split import assign_splits
from skyclass.data.simulation import galaxies, lensing
from skyclass.images.formats.read import read_image

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BY_EYE = Path(__file__).with_name("planets_copies.csv")
TIERS = ("exact", "sure", "maybe")
SPLITS = (0.7, 0.1, 0.2)
SEEDS = 40  # splits drawn of each set: one draw of a hundred images is off by more than what duplicates do
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
        same, kind = base[a] == base[b], pairs["kind"].to_numpy()
        self.right = {tier: int((same & (kind == tier)).sum()) for tier in TIERS}
        self.false = {tier: int((~same & (kind == tier)).sum()) for tier in TIERS}
        self.recall = {name: recall(a, b, same & np.isin(kind, of), truth) for name, of in TIERS_ASKED.items()}
        groups = cluster(len(truth), pairs)
        copies = np.flatnonzero(change != "")
        self.together = float(((groups[copies] >= 0) & (groups[copies] == groups[base[copies]])).mean())
        self.largest = int(np.bincount(groups[groups >= 0]).max(initial=0))
        self.splits = parted(groups)

    def precision(self, tier: str) -> float:
        """Share of the tier's pairs that are right; 1 where there is none."""
        found = self.right[tier] + self.false[tier]
        return self.right[tier] / found if found else 1.0


TIERS_ASKED = {"exact or sure": ("exact", "sure"), "maybe as well": TIERS}


def recall(a: np.ndarray, b: np.ndarray, right: np.ndarray, truth: pd.DataFrame) -> pd.Series:
    """Share of the copies that make a pair with their original, a change and over `all` of them."""
    change = truth["change"].to_numpy()
    found = set(b[right & (change[a] == "")].tolist())
    rows = pd.DataFrame({"change": change, "found": [i in found for i in range(len(truth))]})
    copies = rows[rows["change"] != ""]
    return pd.concat(
        [copies.groupby("change")["found"].mean().reindex(list(CHANGES)), pd.Series({"all": copies["found"].mean()})]
    )


def parted(groups: np.ndarray) -> float:
    """By how many points a split's share differs from that asked for, at most; the mean of SEEDS draws."""
    names = [None if number < 0 else f"c{number}" for number in groups]
    frame = pd.DataFrame({"image_id": [f"image-{i}" for i in range(len(groups))], "label": "a", "split": None})
    frame["duplicates"] = pd.Series(names, dtype=object)
    shares = [assign_splits(frame, SPLITS, seed)["split"].value_counts(normalize=True) for seed in range(SEEDS)]
    mean = pd.DataFrame(shares).mean()
    return max(abs(100.0 * (mean[name] - share)) for name, share in zip(("train", "val", "test"), SPLITS, strict=True))


def planets() -> None:
    """The planets against the copies told by eye."""
    root = SHARED / "planets"
    files = sorted(root.glob("*/*"))
    names = [str(file.relative_to(root)) for file in files]
    pairs = find_duplicates([fingerprint(read_image(file).pixels) for file in files])
    told = pd.read_csv(BY_EYE)
    one_picture = cluster_of(told[told["verdict"] == "copy"])
    doubtful = {frozenset(pair) for pair in told.loc[told["verdict"] == "doubtful", ["first", "second"]].to_numpy()}
    print("| planets | copies | in doubt | false |\n|---|---:|---:|---:|")
    for tier in TIERS:
        found = [(names[a], names[b]) for a, b in pairs.loc[pairs["kind"] == tier, ["first", "second"]].to_numpy()]
        copies = sum(one_picture.get(a, a) == one_picture.get(b, b) for a, b in found)
        doubt = sum(frozenset(pair) in doubtful for pair in found)
        print(f"| {tier} | {copies} | {doubt} | {len(found) - copies - doubt} |")
    groups = cluster(len(files), pairs)
    together = {(names[a], names[b]) for a, b in claimed(pairs)[["first", "second"]].to_numpy()}
    joined = cluster_of(pd.DataFrame(sorted(together), columns=["first", "second"]))
    number = len(set(one_picture)) - len(set(one_picture.values()))
    clusters = by_value(one_picture)
    found = sum(len(members) - len({joined.get(one, one) for one in members}) for members in clusters)
    print(f"\nOf {number} images that copy another one, {found} were found (exact or sure).")
    largest = np.bincount(groups[groups >= 0]).max(initial=0)
    print(f"Largest cluster {largest}; splits off by {parted(groups):.2f} points\n", flush=True)


def cluster_of(pairs: pd.DataFrame) -> dict[str, str]:
    """Name -> one name for all that the pairs join."""
    root: dict[str, str] = {}
    for a, b in pairs[["first", "second"]].to_numpy():
        old, new = root.setdefault(b, b), root.setdefault(a, a)
        root = {name: new if where == old else where for name, where in root.items()}
    return root


def by_value(root: dict[str, str]) -> list[list[str]]:
    return [[name for name, where in root.items() if where == value] for value in sorted(set(root.values()))]


def small_sets() -> None:
    """Sets of 12 and 19 different images: no pair; with one copy: found."""
    print("| small sets, 10 of each | false sure | false maybe | copy sure | copy maybe |\n|---|---:|---:|---:|---:|")
    disk, lens = disks(190, seed=7), simulated_lenses(190, seed=7)
    for name, images in (("disks", disk), ("lenses", lens)):
        for n in (12, 19):
            false, right = {"sure": 0, "maybe": 0}, {"sure": 0, "maybe": 0}
            for k in range(10):
                chosen = images[19 * k : 19 * k + n]
                change = list(CHANGES)[k % len(CHANGES)]
                copy = CHANGES[change](chosen[k], np.random.default_rng(k))
                pairs = find_duplicates(
                    fingerprints_of([np.ascontiguousarray(np.moveaxis(image, -1, 0)) for image in [*chosen, copy]])
                )
                for a, b, kind in zip(pairs["first"], pairs["second"], pairs["kind"], strict=True):
                    if kind in false:
                        (right if (a, b) == (k, n) else false)[kind] += 1
            print(
                f"| {n} {name} | {false['sure']} | {false['maybe']} | {right['sure']} | {right['maybe']} |", flush=True
            )


def read_galaxies() -> list[np.ndarray]:
    files = sorted((SHARED / "galaxies" / "images").glob("*.jpeg"))
    return [bands_last(image.pixels) for image in in_order(read_image, files)]


def read_radio() -> list[np.ndarray]:
    files = sorted((SHARED / "radio" / "png").glob("*.png"))
    return [bands_last(read_image(file).pixels) for file in files]


def simulated_lenses(n: int, seed: int) -> list[np.ndarray]:
    labels = [lensing.CLASSES[i % 3] for i in range(n)]
    chunks = [images for images, _ in lensing.simulate(labels, 150, seed=seed, workers=1)]
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
    start = time.process_time()
    prints = fingerprints_of(pixels)
    middle = time.process_time()
    pairs = find_duplicates(prints)
    end = time.process_time()
    times = {"images": len(prints), "fingerprints": middle - start, "search": end - middle}
    return Counts(pairs, truth), pairs, times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lenses", type=int, default=600, help="simulated lenses (default 600)")
    parser.add_argument("--disks", type=int, default=600, help="simulated disks (default 600)")
    parser.add_argument("--galaxies", type=int, help="galaxies at most of each part (default all)")
    parser.add_argument("--only", nargs="*", help="names of the parts to run")
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
    parts: dict[str, Callable[[], None]] = {
        "planets": planets,
        "small sets": small_sets,
        "disks": lambda: searched("disks (seed 1)", disks(arguments.disks, seed=1), 2),
        "lenses": lambda: searched("lenses (seed 1)", simulated_lenses(arguments.lenses, 1), 1),
        "radio": lambda: searched("radio", read_radio(), 1),
        "galaxies": lambda: searched("galaxies (four fifths)", without_fifth(read_galaxies())[: arguments.galaxies], 2),
        "tuned on": lambda: tuned_on(arguments.disks, arguments.lenses),
        "descriptors": lambda: descriptors(read_galaxies()),
        "growth": lambda: growth(arguments.growth),
    }
    for name, part in parts.items():
        if arguments.only is None or name in arguments.only:
            part()


def without_fifth(images: list[np.ndarray]) -> list[np.ndarray]:
    return [image for number, image in enumerate(images) if number % 5]


def tuned_on(n_disks: int, n_lenses: int) -> None:
    searched("galaxies (every fifth)", read_galaxies()[::5], 2)
    searched("disks (seed 0)", disks(n_disks, seed=0), 2)
    searched("lenses (seed 0)", simulated_lenses(n_lenses, 0), 1)


def searched(name: str, images: Sequence[np.ndarray], copies: int) -> None:
    """Print what is found of the copies of a set's images."""
    counts, _, times = search(images, copies)
    print(f"| {name} | exact or sure | maybe as well |\n|---|---:|---:|")
    for change in counts.recall["maybe as well"].index:
        print(
            f"| recall, {change} | " + " | ".join(f"{recall[change]:.3f}" for recall in counts.recall.values()) + " |"
        )
    for tier in TIERS:
        found = f"{counts.right[tier]:,}, {counts.false[tier]:,} | {counts.precision(tier):.4f}"
        print(f"| {tier}: right, false, precision | {found} |")
    print(f"| copies in the cluster of their original | {counts.together:.3f} | |")
    print(f"| largest cluster | {counts.largest} | |")
    print(f"| splits off by, points | {counts.splits:.2f} | |")
    spent = f"{times['images']:,.0f} | {times['fingerprints']:.0f} + {times['search']:.0f}"
    print(f"| images, fingerprints and search in CPU s | {spent} |\n", flush=True)


def descriptors(images: Sequence[np.ndarray]) -> None:
    print("| descriptor of a copy changed in all ways | original is nearest | among the ten nearest |\n|---|---:|---:|")
    for name, (nearest, ten) in descriptors_compared(images).items():
        print(f"| {name} | {nearest:.3f} | {ten:.3f} |")


def growth(sizes: Sequence[int]) -> None:
    print("\n| descriptors | search and verification, CPU s | per image, ms | pairs |\n|---:|---:|---:|---:|")
    everything = many(max(sizes, default=0)) if sizes else []
    for n in sizes:
        start = time.process_time()
        pairs = find_duplicates(everything[:n])
        seconds = time.process_time() - start
        print(f"| {n:,} | {seconds:.1f} | {seconds / n * 1e3:.2f} | {len(pairs):,} |", flush=True)


if __name__ == "__main__":
    main()
