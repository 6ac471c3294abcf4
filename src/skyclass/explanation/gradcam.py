"""Grad-CAM: where in an image the evidence for a class lies, for whole batches at once.

The network is taken as two halves, `features` up to the last convolution and `classify` from there to the class scores.
Only the second half is differentiated, so the cost is close to that of a prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import SkyclassError


class GradCam(NamedTuple):
    """Maps, and the prediction that they explain."""

    maps: Tensor
    """(N, h, w) float32, >= 0, unscaled, at the resolution of the feature map."""
    logits: Tensor
    """(N, K) class scores, without a graph."""
    targets: Tensor
    """(N,) index of the class that each map explains."""


def grad_cam(
    features: Callable[[Tensor], Tensor],
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor | None = None,
) -> GradCam:
    """Grad-CAM maps of a batch (Selvaraju et al. 2017, ICCV, equations 1 and 2).

    With A the feature map and y the score of the target class before the softmax, channel f has the weight
    alpha_f = mean over pixels of dy/dA_f, and the map is relu(sum_f alpha_f A_f).

    features : (N, C, H, W) images -> (N, F, h, w) feature map; runs without a graph, so a frozen backbone will do
    classify : (N, F, h, w) feature map -> (N, K) logits
    images : (N, C, H, W), on the network's device
    targets : (N,) class indices; the predicted classes where None

    The network must be in eval mode: batch statistics would mix the images, and dropout would make the maps random.
    Its mode, its parameters and their `.grad` are left as they are.

    Errors: SkyclassError where the feature map has no height and width, or where the targets do not fit the logits.
    """
    # Trainers predict in inference mode, inside which autograd cannot be switched on; leave it for these few lines.
    with torch.inference_mode(False):
        with torch.no_grad():
            activations = features(images).detach()  # (N, F, h, w)
        if activations.ndim != 4:
            raise SkyclassError(
                f"Grad-CAM needs a feature map (images, channels, height, width), not {tuple(activations.shape)}",
                fix="explain a convolutional backbone, or reshape its tokens to a map",
            )
        if activations.is_inference():  # features that only hand on what was computed in inference mode
            activations = activations.clone()
        with torch.enable_grad():
            activations.requires_grad_()
            # A copy, because a head may begin with an in-place ReLU.
            logits = classify(activations.clone())  # (N, K)
            targets = logits.detach().argmax(dim=1) if targets is None else _checked(targets, logits)
            # The images do not meet in eval mode, so the gradient of the sum holds each image's own gradient.
            score = logits.gather(1, targets[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, activations)  # (N, F, h, w)
    # bfloat16 keeps 8 bits, so both sums are taken in float32; a product of matrices would be cast back by autocast.
    weights = gradient.float().mean(dim=(2, 3), keepdim=True)  # (N, F, 1, 1)
    maps = (weights * activations.detach()).sum(dim=1).relu()  # (N, h, w)
    return GradCam(maps, logits.detach(), targets)


def heatmaps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps for display: enlarged bilinearly, then divided by each image's maximum.

    maps : (N, h, w) >= 0; size : (H, W). Returns (N, H, W) float32 in [0, 1]; a map of zeros stays zero.
    """
    enlarged = F.interpolate(maps[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]  # (N, H, W)
    peak = enlarged.amax(dim=(1, 2), keepdim=True)  # (N, 1, 1)
    return enlarged / peak.clamp(min=torch.finfo(enlarged.dtype).tiny)


def _checked(targets: Tensor, logits: Tensor) -> Tensor:
    """`targets` as (N,) int64 on the device of the logits."""
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
