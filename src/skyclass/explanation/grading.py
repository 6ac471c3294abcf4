"""Grades of the maps of a classifier: how reliable each method of explanation is, class by class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import pandas as pd

from ..core.files.atomic_files import write_json
from ..core.files.csv_files import write_csv
from ..core.files.replacing import new_contents
from ..core.plotting import save_figure
from ..core.sample_sizes import LEAST_GRADED
from ..data.simulation.lensing import FIELD, PSF_FWHM, SUBSTRUCTURE
from ..evaluation.caveats import caveat_of_maps, caveat_of_network
from ..images.geometry import placement, put_back
from ..images.preprocess import unit_scale
from ..models.network import BATCH, Network
from ..recipes.data_settings import PixelSettings
from . import faithfulness as faith
from .faithfulness import EVERY, RANDOM
from .grade_figures import deletion_insertion_figure, localisation_figure, sanity_figure
from .grade_text import grades_in_words
from .localisation import beyond_chance, near, ring_map, substructure_mask
from .methods import METHODS, layer_for, resolution
from .output import GRADES

CURVES = ("deletion", "insertion")
DEPTHS = ("head", "network")  # what is given random weights
SEEDS = 3  # random networks a depth
CHANGES = 0.5  # rank correlation with the maps of random networks below which a map depends on what was learned
STAYS = 0.5  # correlation with the maps of the other orientations from which a map is stable
ERRORS = 1.96  # standard errors by which a mean is above chance
CHECKS = ("deletion", "insertion", "randomisation", "stability", "localisation")

Truth = Mapping[Any, Any]


class GradedModel(Protocol):
    """What is graded, such as a `Classifier`: networks that predict classes, and maps of them."""

    networks: Sequence[Network]
    classes: list[str]
    pixels: list[PixelSettings]

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """(n, C, h, w) -> (n, K) class probabilities."""

    def maps(
        self, images: np.ndarray, classes: Sequence[str], *, method: str = ..., layer: str | None = ...
    ) -> np.ndarray:
        """(n, C, h, w) -> (n, h, w) heatmaps in [0, 1] of a class an image."""

    def map_size(self, images: np.ndarray, method: str, layer: str | None = ...) -> tuple[int, int]:
        """Height and width of a method's own maps, before they are enlarged."""

    def mirrored_classes(self) -> np.ndarray:
        """(K,) the class that each class turns into in a mirror."""

    def with_networks(self, networks: Sequence[Network]) -> Self:
        """The same with other networks of the same kind."""


class MapSettings(NamedTuple):
    """The method and the layer of maps."""

    method: str
    layer: str | None
    """The backbone's module; None for its last feature map, and for a method that maps no layers."""

    def maps(self, model: GradedModel, images: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """As `GradedModel.maps`."""
        return model.maps(images, classes, method=self.method, layer=self.layer)

    def cells(self, model: GradedModel, images: np.ndarray) -> tuple[int, int]:
        """As `GradedModel.map_size`."""
        return model.map_size(images, self.method, self.layer)


class Grades(NamedTuple):
    """The grades of all methods."""

    images: pd.DataFrame
    """A row an image and a method, `random` among them, with every measure that it has."""
    curves: dict[str, dict[str, np.ndarray]]
    """deletion and insertion -> method -> (N, S) probability of the class explained."""
    table: pd.DataFrame
    """A row a method and a class, and one for all classes: means over the images, and the checks passed and failed.

    `layer` is the one whose maps were graded, and None where none was named."""


def has_substructure(row: Truth) -> bool:
    """Whether a catalog row holds the truth of a simulated lens with subhalos or a vortex line."""
    if not all(name in row for name in SUBSTRUCTURE):
        return False
    return (np.ndim(row["sub_x"]) == 1 and len(row["sub_x"]) > 0) or bool(np.isfinite(row["vort_mass"]))


def grade(
    model: GradedModel,
    images: np.ndarray,
    classes: Sequence[str],
    truth: Sequence[Truth | None],
    advance: Callable[[int], None] = lambda _: None,
    layer: str | None = None,
    labels: Sequence[str | None] = (),
) -> Grades:
    """Grade every method on preprocessed images (N, C, h, w).

    classes : N names of the class explained
    truth : N rows of a simulation's catalog; None for an image that is no lens with substructure, or whose map explains
        another class than the true one
    advance : called with the number of images done, `len(METHODS)` times N in all
    layer : of the backbone, whose class activation maps are graded; its last where None. Integrated gradients have none
    labels : the N true classes, None where unknown, to test whether the network is better than chance
    """
    pixels = images.astype(np.float32) * np.float32(unit_scale(images.dtype))
    noise = faith.random_maps(len(images), (images.shape[2], images.shape[3]), seed=0)
    curves: dict[str, dict[str, np.ndarray]] = {name: {} for name in CURVES}
    frames = []
    for method in (*METHODS, RANDOM):
        how = MapSettings(method, layer_for(method, layer))
        frame = pd.DataFrame({"method": method, "class": list(classes)})
        maps = noise if method == RANDOM else how.maps(model, pixels, classes)
        for curve, scores in _curves(model, pixels, classes, maps).items():
            curves[curve][method] = scores
            frame[curve] = faith.area(scores)
        if method != RANDOM:
            frame["stability"] = _stability(model, pixels, classes, maps, how)
            for depth in DEPTHS:
                frame[f"randomised_{depth}"] = _randomised(model, pixels, classes, maps, how, depth)
            frame = pd.concat([frame, _localised(model, pixels, maps, truth, how)], axis=1)
            advance(len(images))
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    graded = grade_table(table, _caveat_of_network(model, pixels, labels))
    graded.insert(1, "layer", [layer_for(method, layer) for method in graded["method"]])
    return Grades(table, curves, graded)


def _caveat_of_network(model: GradedModel, pixels: np.ndarray, labels: Sequence[str | None]) -> str:
    """As `caveat_of_network`, of the images with a label."""
    rows = [row for row, name in enumerate(labels) if name in model.classes]
    parts = [model.predict_proba(pixels[rows[start : start + BATCH]]) for start in range(0, len(rows), BATCH)]
    truth = np.array([model.classes.index(str(labels[row])) for row in rows])
    return caveat_of_network(truth, np.concatenate(parts).argmax(axis=1)) if rows else ""


def grade_table(images: pd.DataFrame, caveat: str = "") -> pd.DataFrame:
    """The table of `Grades` from its rows of images.

    A method passes `deletion` and `insertion` where its area is better than that of random maps on the same images,
    and `localisation` where more of its heat lies near the substructure than of a map of the Einstein ring alone, each
    by more than `ERRORS` standard errors; `randomisation` where its maps and those of a random network have a rank
    correlation below `CHANGES`; `stability` where the correlation over orientations is `STAYS` or more. The means are
    given in any case; where `cannot_tell` gives a reason, no check counts as passed or failed.
    """
    random = images[images["method"] == RANDOM]
    rows = []
    for method, own in images[images["method"] != RANDOM].groupby("method", sort=False):
        for name in (*dict.fromkeys(own["class"]), EVERY):
            chosen = np.ones(len(own), bool) if name == EVERY else own["class"].to_numpy() == name
            grades = _grades_of(own[chosen], random[chosen])
            reason = caveat_of_maps(grades["n"], caveat)
            if reason:
                grades |= {"passed": None, "failed": ""}
            rows.append({"method": method, "class": name, **grades, "cannot_tell": reason})
    return pd.DataFrame(rows)


def write_grades(grades: Grades, folder: Path) -> list[str]:
    """Write `grades.csv` (the table), `grades.json` (with the curves and the thresholds of the checks) and the figures.

    They take the places of old ones together, once all are whole. Returns lines that tell the grades.
    """
    table = grades.table
    rows = [{key: None if value != value else value for key, value in row.items()} for row in table.to_dict("records")]
    curves = {name: {key: one.mean(axis=0).tolist() for key, one in of.items()} for name, of in grades.curves.items()}
    asked = {"rank_correlation_below": CHANGES, "orientation_correlation_from": STAYS, "standard_errors": ERRORS}
    checks = {"names": CHECKS, **asked, "least_images": LEAST_GRADED}
    n_images = int((grades.images["method"] == RANDOM).sum())
    with new_contents(folder, GRADES[0], lambda: GRADES) as new:
        write_csv(table, new / "grades.csv", float_format="%.4f")
        write_json(new / "grades.json", {"grades": rows, "curves": curves, "checks": checks})
        save_figure(deletion_insertion_figure(grades.curves, n_images), new / "grades-curves.png")
        save_figure(sanity_figure(table, STAYS, CHANGES), new / "grades-sanity.png")
        if table["n_localised"].any():
            save_figure(localisation_figure(table), new / "grades-localisation.png")
    return grades_in_words(table)


def _grades_of(own: pd.DataFrame, random: pd.DataFrame) -> dict[str, Any]:
    """The means over some images of one method, and its checks."""
    found: dict[str, Any] = {"n": len(own), "n_localised": int(own["heat_near"].notna().sum())}
    for curve in CURVES:
        found[curve], found[f"{curve}_random"] = own[curve].mean(), random[curve].mean()
    for name in ("randomised_head", "randomised_network", "stability", "heat_near", "peak_near", "ring_near"):
        found[name] = own[name].mean()
    found["area_near"] = own["area_near"].mean()
    for name in ("heat", "peak"):
        for chance in ("ring", "area"):
            found[f"{name}_beyond_{chance}"] = beyond_chance(found[f"{name}_near"], found[f"{chance}_near"])
    passed = {
        "deletion": _is_above(random["deletion"].to_numpy() - own["deletion"].to_numpy()),
        "insertion": _is_above(own["insertion"].to_numpy() - random["insertion"].to_numpy()),
        "randomisation": bool(found["randomised_network"] < CHANGES),
        "stability": bool(found["stability"] >= STAYS),
    }
    if found["n_localised"]:
        passed["localisation"] = _is_above((own["heat_near"] - own["ring_near"]).dropna().to_numpy())
    failed = [name for name, good in passed.items() if not good]
    return {**found, "passed": len(passed) - len(failed), "checks": len(passed), "failed": " ".join(failed)}


def _is_above(differences: np.ndarray) -> bool:
    """Whether a mean is above zero by more than `ERRORS` standard errors."""
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return bool(differences.mean() > ERRORS * error)


def _curves(model: GradedModel, pixels: np.ndarray, classes: Sequence[str], maps: np.ndarray) -> dict[str, np.ndarray]:
    """Curve -> (N, S) probability of the class explained, as pixels are deleted and inserted in the order of a map."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in CURVES}
    for row, (image, heatmap) in enumerate(zip(pixels, maps, strict=True)):
        order = faith.relevance_order(heatmap, seed=row)
        both = np.concatenate([faith.deletion(image, order), faith.insertion(image, order)])
        parts = [model.predict_proba(both[start : start + BATCH]) for start in range(0, len(both), BATCH)]
        scores = np.concatenate(parts)[:, model.classes.index(classes[row])]
        for name, part in zip(CURVES, np.split(scores, 2), strict=True):
            found[name].append(part)
    return {name: np.stack(scores) for name, scores in found.items()}


def _stability(
    model: GradedModel, pixels: np.ndarray, classes: Sequence[str], maps: np.ndarray, how: MapSettings
) -> np.ndarray:
    mirrored = [model.classes[model.mirrored_classes()[model.classes.index(name)]] for name in classes]

    def explain(view: np.ndarray, is_mirrored: bool) -> np.ndarray:
        return how.maps(model, view, mirrored if is_mirrored else classes)

    return faith.stability(explain, pixels, maps)


def _randomised(
    model: GradedModel, pixels: np.ndarray, classes: Sequence[str], maps: np.ndarray, how: MapSettings, depth: str
) -> np.ndarray:
    """(N,) mean rank correlation of the maps with those of networks whose head, or all, has random weights."""
    found = []
    for seed in range(SEEDS):
        networks = copy.deepcopy(list(model.networks))
        for member, network in enumerate(networks):
            layers = faith.weighted_layers(network.head)
            layers += faith.weighted_layers(network.backbone) if depth == "network" else []
            faith.randomise(layers, seed=SEEDS * member + seed)
        other = how.maps(model.with_networks(networks), pixels, classes)
        found.append(faith.rank_correlation(maps, other))
    return np.asarray(np.mean(found, axis=0))


def _localised(
    model: GradedModel, pixels: np.ndarray, maps: np.ndarray, truth: Sequence[Truth | None], how: MapSettings
) -> pd.DataFrame:
    """Shares of heat and maxima near the substructure, and those of the ring and of the area; NaN without truth.

    Near is within half the width of the PSF and of what the map resolves, added in quadrature. Maps are compared on
    the pixels of the simulated image.
    """
    cell = resolution(how.method, how.cells(model, pixels), maps.shape[1:])
    unknown = dict.fromkeys(("heat_near", "peak_near", "ring_near", "area_near"), np.nan)
    rows = [
        unknown if row is None else {**unknown, **_near_substructure(model, heatmap, row, cell)}
        for heatmap, row in zip(maps, truth, strict=True)
    ]
    return pd.DataFrame(rows)


def _near_substructure(model: GradedModel, heatmap: np.ndarray, truth: Truth, cell: float) -> dict[str, float]:
    """The shares of one map that resolves `cell` pixels of the network's input; none where the truth was cropped away.

    The images of the simulation are square.
    """
    scale = float(truth["pixel_scale"])
    size = (round(FIELD / scale),) * 2
    place = placement(size, model.pixels)
    reach = 0.5 * float(np.hypot(PSF_FWHM, cell * scale * max(place.rows.scale, place.columns.scale)))
    mask = substructure_mask(truth, size, scale, reach)
    original = put_back(heatmap, place, size)
    visible = np.isfinite(original)
    if mask is None or not (mask & visible).any():
        return {}
    heat, peak = near(original, mask)
    ring = near(np.where(visible, ring_map(truth, size, scale, reach), 0.0), mask).heat
    return {"heat_near": heat, "peak_near": peak, "ring_near": ring, "area_near": float(mask[visible].mean())}
