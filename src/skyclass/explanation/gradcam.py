"""Class activation maps: where in an image the evidence for a class lies, for whole batches at once.

The network is taken as two halves, `features` up to the last convolution and `classify` from there to the class scores.
Only the second half is differentiated, so the cost is close to that of a prediction. The maps of an earlier layer have
more cells; then what follows that layer is differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import SkyclassError

Half = Callable[[Tensor], Tensor]
# Of the gradient dy/dA and A, both (N, F, h, w), the weights (N, F, h, w) or (N, F, 1, 1).
Weigh = Callable[[Tensor, Tensor], Tensor]


class Layer(NamedTuple):
    """A module inside of a network whose output is mapped."""

    name: str
    """As the user wrote it."""
    module: nn.Module


class ClassMaps(NamedTuple):
    """Maps, and the prediction that they explain."""

    maps: Tensor
    """(N, h, w) float32, >= 0, unscaled: at the resolution of the feature map, or of the images."""
    logits: Tensor
    """(N, K) class scores, without a graph."""
    targets: Tensor
    """(N,) index of the class that each map explains."""


def grad_cam(
    features: Half, classify: Half, images: Tensor, targets: Tensor | None = None, layer: Layer | None = None
) -> ClassMaps:
    """Grad-CAM maps of a batch (Selvaraju et al. 2017, ICCV, equations 1 and 2).

    With A the feature map and y the score of the target class before the softmax, channel f has the weight
    alpha_f = mean over pixels of dy/dA_f, and the map is relu(sum_f alpha_f A_f).

    features : (N, C, H, W) images -> (N, F, h, w) feature map; runs without a graph, so a frozen backbone will do
    classify : (N, F, h, w) feature map -> (N, K) logits
    images : (N, C, H, W), on the network's device
    targets : (N,) class indices; the predicted classes where None
    layer : a module of either half whose output is A instead; what is computed before it has no graph

    The network must be in eval mode: batch statistics would mix the images, and dropout would make the maps random.
    Its mode, its parameters and their `.grad` are left as they are.

    Errors: SkyclassError where there is no feature map of the shape (N, F, h, w), where the layer does not run exactly
    once, or where the targets do not fit the logits.
    """
    return _head_maps(features, classify, images, targets, layer, _mean_gradient)


def grad_cam_plus_plus(
    features: Half, classify: Half, images: Tensor, targets: Tensor | None = None, layer: Layer | None = None
) -> ClassMaps:
    """Grad-CAM++ maps of a batch (Chattopadhyay et al. 2018, WACV, equations 5, 11 and 19); arguments as `grad_cam`.

    Channel f has the weight sum over pixels of alpha relu(g), g = dy/dA_f, with alpha = g^2 / (2 g^2 + g^3 sum A_f),
    the sum over the pixels of the channel. The paper's factor exp(y), one number an image, is left out.
    """
    return _head_maps(features, classify, images, targets, layer, _second_order)


def layer_cam(
    features: Half, classify: Half, images: Tensor, targets: Tensor | None = None, layer: Layer | None = None
) -> ClassMaps:
    """Layer-CAM maps of a batch (Jiang et al. 2021, IEEE TIP 30, 5875, equations 4 to 6); arguments as `grad_cam`.

    Every pixel of a channel has a weight of its own: the map is relu(sum_f relu(dy/dA_f) A_f).
    """
    return _head_maps(features, classify, images, targets, layer, lambda gradient, _: gradient.relu())


def heatmaps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps for display: enlarged bilinearly, then divided by each image's maximum.

    maps : (N, h, w) >= 0; size : (H, W). Returns (N, H, W) float32 in [0, 1]; a map of zeros stays zero.
    """
    enlarged = F.interpolate(maps[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]  # (N, H, W)
    peak = enlarged.amax(dim=(1, 2), keepdim=True)  # (N, 1, 1)
    return enlarged / peak.clamp(min=torch.finfo(enlarged.dtype).tiny)


def targets_of(logits: Tensor, targets: Tensor | None) -> Tensor:
    """The predicted classes where `targets` is None; else `targets` as (N,) int64 on the device of the logits (N, K).

    Errors: SkyclassError for another number of them, and for a class that does not exist.
    """
    if targets is None:
        return logits.detach().argmax(dim=1)
    n_images, n_classes = logits.shape
    if targets.shape != (n_images,):
        raise SkyclassError(
            f"targets of shape {tuple(targets.shape)} for {n_images} images", fix="give one class index an image"
        )
    # Copied, because autograd refuses indices that were made in inference mode.
    targets = targets.to(device=logits.device, dtype=torch.int64, copy=True)
    if bool(((targets < 0) | (targets >= n_classes)).any()):
        raise SkyclassError(
            f"a target class outside 0 to {n_classes - 1}", fix="give indices of the classifier's classes"
        )
    return targets


def _head_maps(
    features: Half, classify: Half, images: Tensor, targets: Tensor | None, layer: Layer | None, weigh: Weigh
) -> ClassMaps:
    """relu(sum_f weight_f A_f), the sums in float32."""
    # Trainers predict in inference mode, inside which autograd cannot be switched on; leave it for these few lines.
    with torch.inference_mode(False):
        if layer is None:
            activations, logits = _parted(features, classify, images)
        else:
            activations, logits = _parted_at(layer, features, classify, images)
        targets = targets_of(logits, targets)
        with torch.enable_grad():
            # The images do not meet in eval mode, so the gradient of the sum holds each image's own gradient.
            score = logits.gather(1, targets[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, activations)  # (N, F, h, w)
    # bfloat16 keeps 8 bits, so both sums are taken in float32; a product of matrices would be cast back by autocast.
    activations = activations.detach().float()
    maps = (weigh(gradient.float(), activations) * activations).sum(dim=1).relu()  # (N, h, w)
    return ClassMaps(maps, logits.detach(), targets)


def _parted(features: Half, classify: Half, images: Tensor) -> tuple[Tensor, Tensor]:
    """The feature map (N, F, h, w), where the graph begins, and the logits (N, K)."""
    with torch.no_grad():
        activations = features(images).detach()  # (N, F, h, w)
    if not _is_map(activations, images):
        raise SkyclassError(
            f"class activation maps need a feature map (images, channels, height, width), "
            f"not {tuple(activations.shape)}",
            fix="explain a convolutional backbone, or use the method integrated-gradients",
        )
    if activations.is_inference():  # features that only hand on what was computed in inference mode
        activations = activations.clone()
    activations.requires_grad_()
    with torch.enable_grad():
        # A copy, because a head may begin with an in-place ReLU.
        return activations, classify(activations.clone())


def _parted_at(layer: Layer, features: Half, classify: Half, images: Tensor) -> tuple[Tensor, Tensor]:
    """As `_parted`, at the output of a layer: in one pass, in the middle of which the graph begins."""
    found: list[Tensor] = []

    def begin(_module: nn.Module, _inputs: object, output: object) -> Tensor:
        if not _is_map(output, images):
            what = f"{tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
            what = f"{layer.name} gives no feature map (images, channels, height, width), but {what}"
            raise SkyclassError(what, where="layer", fix="name a layer of convolutions, or leave the layer out")
        # Copies: others may hold what an identity hands on, and what follows may work in place.
        found.append(output.detach().clone().requires_grad_())
        torch.set_grad_enabled(True)  # until the end of the `no_grad` below
        return found[-1].clone()

    hook = layer.module.register_forward_hook(begin)
    try:
        with torch.no_grad():
            logits = classify(features(images))
    finally:
        hook.remove()
    if len(found) != 1:
        fix = "name one that runs once, or leave the layer out"
        raise SkyclassError(f"{layer.name} runs {len(found)} times for an image", where="layer", fix=fix)
    return found[0], logits


def _is_map(output: object, images: Tensor) -> TypeGuard[Tensor]:
    """Whether a layer's output is a map (N, F, h, w) of images (N, C, H, W), and neither tokens nor (N, h, w, F).

    Those with the channels last are known by their sides: h to w is as H to W, but for rounding, and w to F is not.
    """
    if not isinstance(output, Tensor) or output.ndim != 4:
        return False
    one, two, three = output.shape[1:]
    aspect = images.shape[2] / images.shape[3]
    return abs(math.log(two / three / aspect)) <= abs(math.log(one / two / aspect))


def _mean_gradient(gradient: Tensor, _: Tensor) -> Tensor:
    return gradient.mean(dim=(2, 3), keepdim=True)  # (N, F, 1, 1)


def _second_order(gradient: Tensor, activations: Tensor) -> Tensor:
    # Where g > 0, which alone counts, alpha is 1 / (2 + g sum A). The paper's maps have been through a ReLU; where they
    # have not, a negative sum would take the denominator through zero, and is taken as none.
    total = activations.sum(dim=(2, 3), keepdim=True).relu()  # (N, F, 1, 1)
    positive = gradient.relu()
    return (positive / (2.0 + positive * total)).sum(dim=(2, 3), keepdim=True)
