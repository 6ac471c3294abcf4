"""The methods of explanation, by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.errors import SkyclassError
from .gradcam import ClassMaps, Half, Layer, grad_cam, grad_cam_plus_plus, layer_cam, targets_of

STEPS = 32  # points along the path of integrated gradients (Gauss-Legendre)
BLUR = 0.02  # deviation of the Gaussian over their maps, as a share of the shorter side; at least one pixel


def integrated_gradients(features: Half, classify: Half, images: Tensor, targets: Tensor | None = None) -> ClassMaps:
    """Maps of integrated gradients (Sundararajan et al. 2017, ICML, equation 1), by captum; arguments as `grad_cam`.

    The baseline is zero in the network's input: the mean image where pixels are normalised by the data's mean, black
    where they are not. A map is |attribution| summed over the bands, under a Gaussian of `BLUR` of the shorter side,
    (N, H, W) at the resolution of the images. The whole network is differentiated, `STEPS` times.
    """
    from captum.attr import IntegratedGradients

    def forward(batch: Tensor) -> Tensor:
        return classify(features(batch))  # (N, C, H, W) -> (N, K)

    with torch.inference_mode(False):
        images = images.detach().clone()  # made in inference mode, they could not be differentiated
        with torch.no_grad():
            logits = forward(images)
        targets = targets_of(logits, targets)
        with torch.enable_grad():  # as many images at a time as were given: memory does not grow with the steps
            attribution = IntegratedGradients(forward).attribute(
                images, torch.zeros_like(images), targets, n_steps=STEPS, internal_batch_size=len(images)
            )  # (N, C, H, W)
    maps = attribution.detach().float().abs().sum(dim=1)  # (N, H, W)
    return ClassMaps(_blurred(maps), logits.detach(), targets)


ExplanationMethod = Callable[[Half, Half, Tensor, Tensor | None], ClassMaps]
# Those that map a feature map, and so that of any layer.
CLASS_ACTIVATION: dict[str, Callable[[Half, Half, Tensor, Tensor | None, Layer | None], ClassMaps]] = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "layercam": layer_cam,
}
INTEGRATED = "integrated-gradients"
METHODS = (*CLASS_ACTIVATION, INTEGRATED)


def check_method(name: str, layer: object = None) -> None:
    """Errors: SkyclassError for a name that is no method's, and for a layer with a method that has no use for one."""
    if name not in METHODS:
        fix = f"the methods are {', '.join(METHODS)}"
        raise SkyclassError(f"no method of explanation is called {name!r}", where="method", fix=fix)
    if layer is not None and name not in CLASS_ACTIVATION:
        fix = f"leave the layer out, or take {', '.join(CLASS_ACTIVATION)}"
        raise SkyclassError(f"the maps of {name} are of the image itself, not of a layer", where="layer", fix=fix)


def method_called(name: str, layer: Layer | None = None) -> ExplanationMethod:
    """The method of that name, at that layer. Errors: those of `check_method`."""
    check_method(name, layer)
    if name == INTEGRATED:
        return integrated_gradients
    return lambda features, classify, images, targets: CLASS_ACTIVATION[name](
        features, classify, images, targets, layer
    )


def layer_for(method: str, layer: str | None) -> str | None:
    """The layer, for a method that maps layers; None for one that does not."""
    return layer if method in CLASS_ACTIVATION else None


def resolution(name: str, own: tuple[int, int], image: tuple[int, int]) -> float:
    """Pixels of the network's input that a method's maps resolve: a cell of them, or the width of the Gaussian.

    own : (height, width) of the maps as they are computed; image : of the network's input
    """
    cell = max(image[0] / own[0], image[1] / own[1])
    return max(cell, 2.0 * _sigma(image)) if name == INTEGRATED else cell


def _sigma(size: tuple[int, int]) -> float:
    return max(1.0, BLUR * min(size))


def _blurred(maps: Tensor) -> Tensor:
    """(N, H, W) under the Gaussian, the border mirrored."""
    from torchvision.transforms.functional import gaussian_blur

    height, width = maps.shape[1:]
    sigma = _sigma((height, width))
    radius = min(math.ceil(3.0 * sigma), min(height, width) - 1)
    return gaussian_blur(maps[:, None], 2 * radius + 1, sigma)[:, 0]
