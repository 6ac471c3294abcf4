"""Losses: logits (N, K) and labels (N,) to one number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.errors import SkyclassError
from ...models.network import NetworkOutput
from ...recipes.training_settings import TrainingSettings

Loss = Callable[[Tensor, Tensor, Tensor | None, TrainingSettings], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, settings: TrainingSettings) -> Tensor:
    """Mean cross-entropy with class weights (K,) and label smoothing."""
    return F.cross_entropy(logits, labels, weights, label_smoothing=settings.label_smoothing)


def focal(logits: Tensor, labels: Tensor, weights: Tensor | None, settings: TrainingSettings) -> Tensor:
    """Mean focal loss, -alpha_t (1 - p_t)^gamma log p_t (Lin et al. 2017, arXiv:1708.02002, equation 5).

    alpha are the class weights (K,), and the mean is the weighted one of `F.cross_entropy`: over the sum of the labels'
    weights. With label smoothing the target is q_k = (1 - e) [k = t] + e / K, and the loss of an image is
    -sum_k q_k alpha_k (1 - p_k)^gamma log p_k. With gamma = 0 all of it is `cross_entropy`.
    """
    log_p = F.log_softmax(logits, dim=1)  # (N, K)
    # 1 - p; where it rounds to 0 a power below one would have an infinite slope, and the clamp has none.
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    terms = -(rest**settings.focal_gamma) * log_p  # (N, K)
    alpha = torch.ones_like(terms[0]) if weights is None else weights  # (K,)
    terms = terms * alpha
    own = terms.gather(1, labels[:, None])[:, 0]  # (N,)
    smoothing = settings.label_smoothing
    total = (1.0 - smoothing) * own.sum() + smoothing * terms.mean(dim=1).sum()
    return total / alpha[labels].sum()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "focal": focal}


def uncertainty_loss(output: NetworkOutput, labels: Tensor) -> Tensor:
    """Binary cross-entropy of the error logits towards "the predicted class is wrong".

    Errors: ValueError where the network has no uncertainty head.
    """
    if output.error_logits is None:
        raise ValueError("without an uncertainty head there is no uncertainty loss")
    wrong = (output.logits.detach().argmax(dim=1) != labels).to(output.error_logits.dtype)  # (N,)
    return F.binary_cross_entropy_with_logits(output.error_logits, wrong)


def total_loss(output: NetworkOutput, labels: Tensor, weights: Tensor | None, settings: TrainingSettings) -> Tensor:
    """The recipe's loss with class weights (K,), and the uncertainty head's with its own weight where there is one."""
    return loss_terms(output, labels, weights, settings)[0].sum()


def loss_terms(
    output: NetworkOutput, labels: Tensor, weights: Tensor | None, settings: TrainingSettings
) -> tuple[Tensor, Tensor]:
    """The terms (T,) of `total_loss`, and what each is divided by (T,), being a mean: the sum of the labels' class
    weights, and for the uncertainty head the number of images. By these, means over parts of a batch can be joined.
    """
    n = torch.tensor(float(len(labels)), device=labels.device)
    terms = [LOSSES[settings.loss](output.logits, labels, weights, settings)]
    divisors = [n if weights is None else weights[labels].sum()]
    if output.error_logits is not None:
        terms.append(settings.uncertainty_weight * uncertainty_loss(output, labels))
        divisors.append(n)
    return torch.stack(terms), torch.stack(divisors)


def class_weights(labels: np.ndarray, classes: list[str], how: str) -> Tensor | None:
    """Weights (K,) of mean one over the training images, from their labels (N,) as class indices; None for `none`.

    balanced: N / (K n_c), as scikit-learn's; sqrt: its square root, which leaves rare classes some of their rarity.
    Errors: SkyclassError for a class without a training image.
    """
    counts = np.bincount(labels, minlength=len(classes)).astype(np.float64)
    for name, count in zip(classes, counts, strict=True):
        if count == 0:
            fix = f"add images, or leave the class out with --set 'data.exclude=[\"{name}\"]'"
            raise SkyclassError(f"class {name!r} has no training image", where="training split", fix=fix)
    if how == "none":
        return None
    weights = len(labels) / (len(classes) * counts)
    if how == "sqrt":
        weights = np.sqrt(weights)
    mean = float((weights * counts).sum() / counts.sum())
    return torch.tensor(weights / mean, dtype=torch.float32)
