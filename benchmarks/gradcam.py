"""Grad-CAM: images a second of Skyclass and of pytorch-grad-cam, and how far the maps are from Skyclass's in float32.

    python benchmarks/gradcam.py --images 500 --batch 32

ResNet18 at 224 x 224 on generated images, 2 threads, heatmaps of full size. The weights are random, with batch
normalisation fitted to the images so that activations have the spread of a trained network. All rows take turns in the
same run on the same images; ratios are to pytorch-grad-cam as its manual uses it, in batches. Each row shows its
fastest round, since other programs can only slow it down. The time of CPU, over all threads, hardly depends on them.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from skyclass.explanation.gradcam import grad_cam, heatmaps
from skyclass.models.batchnorm import folded

SIZE = (224, 224)
N_CLASSES = 10
THEIRS = "pytorch-grad-cam float32"
Explain = Callable[[Tensor, Tensor], np.ndarray]  # images (N, 3, H, W), targets (N,) -> heatmaps (N, H, W)


def blobs(n_images: int, generator: torch.Generator) -> Tensor:
    """(N, 3, H, W) float32: three coloured Gaussian sources each, on noise."""
    rows = torch.arange(SIZE[0]).reshape(1, 1, -1, 1)
    columns = torch.arange(SIZE[1]).reshape(1, 1, 1, -1)
    images = 0.3 * torch.randn(n_images, 3, *SIZE, generator=generator)
    for _ in range(3):
        y, x, radius, flux = torch.rand(4, n_images, 3, 1, 1, generator=generator).unbind()
        y, x, radius = y[:, :1] * SIZE[0], x[:, :1] * SIZE[1], 5.0 + 25.0 * radius[:, :1]
        images += 5.0 * flux * torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2.0 * radius**2))
    return images.contiguous(memory_format=torch.channels_last)


def fitted_network(images: Tensor) -> nn.Module:
    """A random ResNet18 in eval mode, its batch statistics those of the images."""
    network = timm.create_model("resnet18", pretrained=False, num_classes=N_CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average over the batches
    with torch.no_grad():
        network.train()(images)
    return network.eval().to(memory_format=torch.channels_last)


def ours(network: nn.Module, dtype: torch.dtype, image: Tensor) -> Explain:
    network = folded(fresh_copy(network), image).to(dtype)

    def explain(images: Tensor, targets: Tensor) -> np.ndarray:
        result = grad_cam(network.forward_features, network.forward_head, images.to(dtype), targets)
        return heatmaps(result.maps, SIZE).numpy()

    return explain


def theirs(network: nn.Module, layout: torch.memory_format) -> Explain:
    """pytorch-grad-cam in a layout of network and images; it changes none itself, and torch's own is contiguous."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = fresh_copy(network).to(memory_format=layout)
    cam = GradCAM(model=network, target_layers=[network.layer4[-1]])

    def explain(images: Tensor, targets: Tensor) -> np.ndarray:
        wanted = [ClassifierOutputTarget(k) for k in targets.tolist()]
        return cam(images.contiguous(memory_format=layout), targets=wanted)

    return explain


def fresh_copy(network: nn.Module) -> nn.Module:
    """The same weights in another module, so that neither dtype nor hooks of one row reach the others."""
    copy = timm.create_model("resnet18", pretrained=False, num_classes=N_CLASSES)
    copy.load_state_dict(network.state_dict())
    return copy.eval().to(memory_format=torch.channels_last)


def explain_all(explain: Explain, images: Tensor, targets: Tensor, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (N, H, W); seconds by the clock, and of CPU."""
    start = np.array([time.perf_counter(), time.process_time()])
    maps = [explain(images[i : i + batch], targets[i : i + batch]) for i in range(0, len(images), batch)]
    return np.concatenate(maps), np.array([time.perf_counter(), time.process_time()]) - start


def agreement(maps: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Largest difference after both are scaled from minimum to maximum, and mean Spearman correlation an image.

    Images whose reference map is flat (no evidence for the class) have no ranks and are left out of both.
    """

    def scaled(values: np.ndarray) -> np.ndarray:
        low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
        return (values - low) / (high - low)

    told = (np.ptp(reference, axis=(1, 2)) > 0) & (np.ptp(maps, axis=(1, 2)) > 0)
    maps, reference = maps[told], reference[told]
    ranks = [
        spearmanr(a[::4, ::4].ravel(), b[::4, ::4].ravel()).statistic for a, b in zip(maps, reference, strict=True)
    ]
    return float(np.abs(scaled(maps) - scaled(reference)).max()), float(np.mean(ranks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="number of images (default 500)")
    parser.add_argument("--batch", type=int, default=32, help="images in a batch (default 32)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds, of which the fastest counts (default 2)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--no-singles", action="store_true", help="leave out the row that is explained one by one")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    images = blobs(arguments.images, torch.Generator().manual_seed(0))
    network = fitted_network(images[:64])
    with torch.no_grad():
        targets = torch.cat([network(part).argmax(dim=1) for part in images.split(arguments.batch)])

    rows: dict[str, tuple[Explain, int]] = {
        "Skyclass float32": (ours(network, torch.float32, images[:1]), arguments.batch)
    }
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        rows["Skyclass bfloat16"] = (ours(network, torch.bfloat16, images[:1]), arguments.batch)
    else:
        print("this CPU has no bfloat16: row skipped", file=sys.stderr)
    if importlib.util.find_spec("pytorch_grad_cam"):
        plain = theirs(network, torch.contiguous_format)
        rows[THEIRS] = (plain, arguments.batch)
        rows[f"{THEIRS}, given channels last"] = (theirs(network, torch.channels_last), arguments.batch)
        if not arguments.no_singles:
            rows[f"{THEIRS}, one by one"] = (plain, 1)
    else:
        print("pytorch-grad-cam is not installed (extra `bench`): rows skipped", file=sys.stderr)

    seconds = {name: np.full(2, np.inf) for name in rows}
    maps: dict[str, np.ndarray] = {}
    for explain, batch in rows.values():
        explain(images[:batch], targets[:batch])  # warm up
    for _ in range(arguments.rounds):
        for name, (explain, batch) in rows.items():
            maps[name], spent = explain_all(explain, images, targets, batch)
            seconds[name] = np.minimum(seconds[name], spent)

    theirs_took = seconds.get(THEIRS, np.full(2, np.nan))
    print(
        "| Grad-CAM, ResNet18 at 224 | batch | images/s | faster | CPU ms/image | less CPU | difference | rank corr. |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, (_, batch) in rows.items():
        difference, correlation = agreement(maps[name], maps["Skyclass float32"])
        (clock, cpu), (faster, less) = seconds[name] / len(images), theirs_took / seconds[name]
        measured = f"{1 / clock:.1f} | {faster:.2f} | {1e3 * cpu:.1f} | {less:.2f}"
        print(f"| {name} | {batch} | {measured} | {difference:.2g} | {correlation:.4f} |")


if __name__ == "__main__":
    main()
