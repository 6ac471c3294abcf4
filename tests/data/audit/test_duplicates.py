"""Duplicates: every transform found, strangers left alone, and what is reported of the pair."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow
from scipy import ndimage

from helpers.paths import PROJECT
from skyclass.core.parallel import in_order
from skyclass.data.audit.duplicates import CLUSTER, claimed, cluster, find_duplicates
from skyclass.data.audit.fingerprints import Fingerprint, fingerprint
from skyclass.data.packs.split import assign_splits
from skyclass.data.simulation import galaxies, lensing

N = 24
SIZE = (120, 132)


@pytest.fixture(scope="module")
def sky() -> np.ndarray:
    """(24, 3, 120, 132) uint8: simulated galaxies of four classes."""
    labels = [galaxies.CLASSES[i % 4] for i in range(N)]
    return np.concatenate([images for images, _ in galaxies.simulate(labels, SIZE, seed=3, workers=1)])


@pytest.fixture(scope="module")
def prints(sky: np.ndarray) -> list[Fingerprint]:
    return [fingerprint(image) for image in sky]


def as_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def turned(image: np.ndarray, angle: float) -> np.ndarray:
    return np.asarray(ndimage.rotate(image, angle, axes=(2, 1), reshape=False, order=1))


def moved(image: np.ndarray, y: float, x: float) -> np.ndarray:
    return np.asarray(ndimage.shift(image, (0, y, x), order=1))


def noisy(image: np.ndarray) -> np.ndarray:
    return as_bytes(image + np.random.default_rng(1).normal(0.0, 2.55, image.shape))


def recompressed(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    pillow.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(stream, "JPEG", quality=60)
    return np.asarray(pillow.open(stream)).transpose(2, 0, 1)


TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "quarter turn": lambda image: np.rot90(image, axes=(1, 2)),
    "rotation": lambda image: turned(image, 37.0),
    "rotation beyond half a turn": lambda image: turned(image, 251.0),
    "mirror": lambda image: image[:, :, ::-1],
    "crop": lambda image: image[:, 2:110, 9:128],
    "shift": lambda image: moved(image, 5.0, -4.0),
    "brighter": lambda image: as_bytes(image * 1.2),
    "darker": lambda image: as_bytes(image * 0.8),
    "more contrast": lambda image: as_bytes((image - image.mean()) * 1.2 + image.mean()),
    "less contrast": lambda image: as_bytes((image - image.mean()) * 0.8 + image.mean()),
    "noise": noisy,
    "jpeg": recompressed,
    "turned, mirrored, cropped, darker, noisy": lambda image: noisy(
        as_bytes(turned(image, 100.0)[:, ::-1][:, 5:113, 8:127] * 0.85)
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transformed_copy_is_found_and_nothing_else(name: str, sky: np.ndarray, prints: list[Fingerprint]) -> None:
    chosen = (1, 6, 11)
    copies = [fingerprint(TRANSFORMS[name](sky[i])) for i in chosen]
    pairs = find_duplicates([*prints, *copies])
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == [(i, N + k) for k, i in enumerate(chosen)]
    assert set(pairs["kind"]) == {"sure"}
    assert pairs["similarity"].between(0.6, 1.0).all()


def test_copies_are_found_among_many_by_their_descriptors(sky: np.ndarray, prints: list[Fingerprint]) -> None:
    labels = [galaxies.CLASSES[i % 4] for i in range(60)]
    more = np.concatenate([images for images, _ in galaxies.simulate(labels, SIZE, seed=8, workers=1)])
    copies = [fingerprint(TRANSFORMS[name](sky[i])) for i, name in enumerate(TRANSFORMS)]
    pairs = find_duplicates([*prints, *copies, *(fingerprint(image) for image in more)])
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == [(i, N + i) for i in range(len(copies))]


def test_the_index_of_large_sets_finds_what_the_full_comparison_does(
    sky: np.ndarray, prints: list[Fingerprint], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [fingerprint(turned(moved(image, 4.0, 3.0), 15.0 * i)) for i, image in enumerate(sky)]
    noise = [fingerprint(np.random.default_rng(i).integers(0, 255, (1, 64, 70), np.uint8)) for i in range(20)]
    everything = [*prints, *copies, *noise]
    full = find_duplicates(everything)
    monkeypatch.setattr("skyclass.data.audit.neighbours._EXACT", 0)
    pd.testing.assert_frame_equal(find_duplicates(everything), full)
    assert list(zip(full["first"], full["second"], strict=True)) == [(i, N + i) for i in range(N)]


@pytest.mark.parametrize(("angle", "mirrored"), [(0.0, True), (30.0, False), (145.0, True), (290.0, False)])
def test_rotation_and_parity_are_told(angle: float, mirrored: bool, sky: np.ndarray) -> None:
    square = sky[6][:, :, 6:126]
    copy = turned(square[:, ::-1] if mirrored else square, angle)
    (pair,) = find_duplicates([fingerprint(square), fingerprint(copy)]).to_dict("records")
    assert pair["mirrored"] == mirrored
    assert abs((pair["rotation"] - angle + 180.0) % 360.0 - 180.0) < 2.0
    (swapped,) = find_duplicates([fingerprint(copy), fingerprint(square)]).to_dict("records")
    back = angle if mirrored else -angle  # a mirror image turns the other way
    assert swapped["mirrored"] == mirrored
    assert abs((swapped["rotation"] - back + 180.0) % 360.0 - 180.0) < 2.0


def test_exact_copies_are_paired_with_the_first_of_them(prints: list[Fingerprint], sky: np.ndarray) -> None:
    again = fingerprint(sky[2].copy())
    pairs = find_duplicates([*prints[:4], again, again])
    assert pairs[["first", "second", "kind"]].to_numpy().tolist() == [[2, 4, "exact"], [2, 5, "exact"]]
    assert pairs["similarity"].eq(1.0).all()


def test_another_type_or_shape_is_not_exact(sky: np.ndarray) -> None:
    image = sky[6]
    pairs = find_duplicates([fingerprint(image), fingerprint(image.astype(np.uint16))])
    assert pairs["kind"].tolist() == ["sure"]
    flat = np.zeros((1, 4, 9), np.uint8)
    assert find_duplicates([fingerprint(flat), fingerprint(flat.reshape(1, 9, 4))]).empty


def test_blank_images_are_only_exact_duplicates(prints: list[Fingerprint]) -> None:
    blanks = [np.zeros((3, 40, 50), np.uint8), np.full((3, 40, 50), 7, np.uint8), np.zeros((3, 40, 50), np.uint8)]
    nothing = np.full((1, 30, 20), np.nan, np.float32)
    pairs = find_duplicates([*(fingerprint(b) for b in blanks), fingerprint(nothing), *prints[:3]])
    assert pairs[["first", "second", "kind"]].to_numpy().tolist() == [[0, 2, "exact"]]


def test_missing_and_infinite_pixels_are_borne(sky: np.ndarray) -> None:
    image = sky[6].astype(np.float32)
    holed = image.copy()
    holed[:, 3:12, 70:90] = np.nan
    holed[0, 50, 3] = np.inf
    holed[1, 51, 4] = -np.inf
    (pair,) = find_duplicates([fingerprint(image), fingerprint(holed), fingerprint(sky[1])]).to_dict("records")
    assert (pair["first"], pair["second"], pair["kind"]) == (0, 1, "sure")


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images_have_no_duplicates(n: int, prints: list[Fingerprint]) -> None:
    pairs = find_duplicates(prints[:n])
    assert pairs.empty
    assert pairs.columns.tolist() == ["first", "second", "kind", "similarity", "rotation", "mirrored"]
    assert cluster(n, pairs).tolist() == [-1] * n


@pytest.mark.slow
@pytest.mark.parametrize(("n", "size"), [(120, (75, 80)), (24, (32, 32))])
def test_lenses_that_look_alike_are_not_duplicates(n: int, size: tuple[int, int]) -> None:
    labels = [lensing.CLASSES[i % 3] for i in range(n)]
    lenses = np.concatenate([images for images, _ in lensing.simulate(labels, size, seed=1, workers=1)])
    copies = [np.rot90(lenses[5], axes=(1, 2)), lenses[20][:, ::-1] * np.float32(1.1)]
    pairs = find_duplicates([fingerprint(image) for image in [*lenses, *copies]])
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == [(5, n), (20, n + 1)]


def test_pairs_of_points_are_not_duplicates() -> None:
    y, x = np.mgrid[:90, :100].astype(np.float32)
    doubles = []
    for gap in np.linspace(6.0, 24.0, 6):
        light = sum(np.exp(-((y - 45) ** 2 + (x - 50 - side * gap / 2) ** 2) / 8.0) for side in (-1, 1))
        doubles.append(fingerprint(as_bytes(250 * light[None])))
    assert find_duplicates(doubles).empty


@pytest.mark.slow
def test_the_answer_does_not_depend_on_threads(
    sky: np.ndarray, prints: list[Fingerprint], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [fingerprint(turned(image, 20.0 * i)) for i, image in enumerate(sky)]
    several = find_duplicates([*prints, *copies, *prints[:20]])
    monkeypatch.setattr("skyclass.data.audit.neighbours.available_cores", lambda: 1)
    monkeypatch.setattr("skyclass.data.audit.neighbours.in_order", lambda work, items: in_order(work, items, threads=1))
    monkeypatch.setattr("skyclass.data.audit.duplicates.in_order", lambda work, items: in_order(work, items, threads=1))
    pd.testing.assert_frame_equal(find_duplicates([*prints, *copies, *prints[:20]]), several)


@settings(max_examples=15, deadline=None)
@given(
    angle=st.sampled_from([0, 1, 2, 3]),
    mirror=st.booleans(),
    gain=st.floats(0.5, 100.0),
    level=st.floats(-1e3, 1e3),
    index=st.integers(0, N - 1),
)
def test_descriptor_is_invariant(
    sky: np.ndarray, angle: int, mirror: bool, gain: float, level: float, index: int
) -> None:
    image = sky[index].astype(np.float64)[:, :, 6:126]
    copy = np.rot90(image[:, ::-1] if mirror else image, angle, axes=(1, 2)) * gain + level
    plain, other = fingerprint(image), fingerprint(copy)
    assert np.abs(other.descriptor - plain.descriptor).max() < 0.05 * np.abs(plain.descriptor).max()
    assert not np.array_equal(fingerprint(image + 1.0).digest, plain.digest)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 90), st.integers(1, 70)),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "float64", ">f4"]),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_fingerprints_of_any_image(shape: tuple[int, int, int], dtype: str, scale: float) -> None:
    pixels = np.random.default_rng(0).uniform(0, 200, shape) * (scale if "f" in dtype else 1.0)
    one = fingerprint(pixels.astype(dtype))
    assert one.digest.shape == (16,)
    assert one.picture.shape == (64, 64)
    assert one.picture.dtype == np.uint8
    assert one.descriptor.dtype == np.float32
    assert np.isfinite(one.descriptor).all()


# Bright disks: planets and moons


@pytest.fixture(scope="module")
def planets() -> list[np.ndarray]:
    """30 simulated disks (1, 140, 140 or 186): banded, with plains, bland, ringed, and one moon again and again."""
    return [np.ascontiguousarray(image.transpose(2, 0, 1)) for image in DISKS.disks(30, side=140)]


@pytest.fixture(scope="module")
def planet_prints(planets: list[np.ndarray]) -> list[Fingerprint]:
    return list(in_order(fingerprint, planets))


def the_disks() -> ModuleType:
    file = PROJECT / "benchmarks" / "disks.py"
    spec = importlib.util.spec_from_file_location("disks", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DISKS = the_disks()


def test_different_planets_are_no_copies_of_one_another(planet_prints: list[Fingerprint]) -> None:
    pairs = find_duplicates(planet_prints)
    assert claimed(pairs).empty
    kinds = np.array(DISKS.KINDS)[np.arange(len(planet_prints)) % len(DISKS.KINDS)]
    assert (kinds[pairs["first"]] == "face").all()  # only the moon that all of these show is worth a look
    assert (kinds[pairs["second"]] == "face").all()
    assert cluster(len(planet_prints), pairs).max() == -1


def test_copies_of_planets_are_found(planets: list[np.ndarray], planet_prints: list[Fingerprint]) -> None:
    chosen = {0: "quarter turn", 1: "mirror", 3: "brighter", 4: "less contrast"}  # of each kind that tells something
    copies = [fingerprint(TRANSFORMS[name](planets[i])) for i, name in chosen.items()]
    sure = claimed(find_duplicates([*planet_prints, *copies]))
    expected = [(i, len(planets) + k) for k, i in enumerate(chosen)]
    assert list(zip(sure["first"], sure["second"], strict=True)) == expected


@pytest.mark.parametrize("n", [12, 19])
def test_in_small_sets_strangers_are_not_claimed_and_a_copy_is_found(
    n: int, planets: list[np.ndarray], planet_prints: list[Fingerprint]
) -> None:
    copy = fingerprint(turned(planets[5], 40.0))
    pairs = find_duplicates([*planet_prints[:n], copy])
    assert list(zip(claimed(pairs)["first"], claimed(pairs)["second"], strict=True)) in ([], [(5, n)])
    assert (5, n) in set(zip(pairs["first"], pairs["second"], strict=True))
    lenses = [images for images, _ in lensing.simulate([lensing.CLASSES[i % 3] for i in range(n)], 75, workers=1)]
    everything = [*np.concatenate(lenses), np.concatenate(lenses)[4][:, ::-1]]
    pairs = find_duplicates([fingerprint(image) for image in everything])
    assert list(zip(claimed(pairs)["first"], claimed(pairs)["second"], strict=True)) == [(4, n)]


def test_what_a_mirror_does_not_change_is_never_claimed() -> None:
    """Smooth disks with nothing on them: even the same one with other noise cannot be told from another planet."""
    y, x = np.mgrid[:120, :120] - 59.5
    smooth = [
        np.sqrt(np.maximum(1.0 - (y * y + x * x) / radius**2, 0.0)) * 200.0 for radius in (40.0, 40.0, 44.0, 50.0)
    ]
    noisy_ones = [
        as_bytes(disk + np.random.default_rng(k).normal(0.0, 1.0, disk.shape)) for k, disk in enumerate(smooth)
    ]
    assert claimed(find_duplicates([fingerprint(disk[None]) for disk in noisy_ones])).empty


# Clusters


def pairs_of(*rows: tuple[int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["first", "second", "similarity"]).assign(kind="sure")


def test_clusters_are_numbered_by_first_member() -> None:
    assert cluster(7, pairs_of((4, 5, 0.8), (1, 6, 0.9), (3, 6, 1.0))).tolist() == [-1, 0, -1, 0, 1, 1, 0]
    assert cluster(3, pairs_of()).dtype == np.int64


def test_a_chain_is_not_a_cluster() -> None:
    chain = [(i, i + 1, 0.95 + 0.001 * i) for i in range(9)]
    groups = cluster(10, pairs_of(*chain))
    assert np.bincount(groups[groups >= 0]).max() == 3


def test_pairs_to_look_at_join_nothing() -> None:
    assert cluster(3, pairs_of((0, 1, 0.99), (1, 2, 0.99)).assign(kind=["maybe", "sure"])).tolist() == [-1, 0, 0]


def test_a_cluster_has_a_largest_size_but_not_one_of_equal_files() -> None:
    many = [(0, i, 1.0 - 1e-4 * i) for i in range(1, 100)]
    groups = cluster(100, pairs_of(*many))
    assert np.bincount(groups[groups >= 0]).tolist() == [CLUSTER]
    assert (groups[:CLUSTER] == 0).all()
    assert (cluster(100, pairs_of(*many).assign(kind="exact")) == 0).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(2, 14))
def test_every_member_is_verified_against_the_medoid_whatever_the_order(data: st.DataObject, n: int) -> None:
    every = [(a, b) for a in range(n) for b in range(a + 1, n)]
    chosen = data.draw(st.lists(st.sampled_from(every), unique=True))
    strength = data.draw(st.permutations(range(len(chosen))))
    rows = [(a, b, 0.9 + 1e-3 * k) for (a, b), k in zip(chosen, strength, strict=True)]
    groups = cluster(n, pairs_of(*rows))
    linked = set(chosen) | {(b, a) for a, b in chosen}
    for number in range(groups.max() + 1):
        members = np.flatnonzero(groups == number).tolist()
        assert any(all((one, other) in linked for other in members if other != one) for one in members)
    order = np.array(data.draw(st.permutations(range(n))))
    moved_rows = [(*sorted((int(order[a]), int(order[b]))), similarity) for a, b, similarity in rows]
    again = cluster(n, pairs_of(*moved_rows))[order]
    same = groups[:, None] == groups[None, :]
    np.testing.assert_array_equal(same & (groups >= 0), (again[:, None] == again[None, :]) & (again >= 0))


def test_copies_leave_the_shares_of_the_splits_as_they_were_asked_for() -> None:
    """Clusters of two to CLUSTER images, over many draws: no split gains or loses two points."""
    sizes = np.random.default_rng(0).choice([1, 1, 1, 2, 2, 3, 5, CLUSTER], 600)
    names = [f"c{k}" if size > 1 else None for k, size in enumerate(sizes) for _ in range(size)]
    frame = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(names))], "label": "a", "split": None})
    frame["duplicates"] = pd.Series(names, dtype=object)
    shares = [assign_splits(frame, (0.7, 0.1, 0.2), seed)["split"].value_counts(normalize=True) for seed in range(30)]
    mean = pd.DataFrame(shares).mean()
    assert abs(mean["train"] - 0.7) < 0.02
    assert abs(mean["val"] - 0.1) < 0.02
    assert abs(mean["test"] - 0.2) < 0.02
