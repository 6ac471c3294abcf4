"""Surface brightness of galaxies, on tensors of positions."""

from __future__ import annotations

import torch
from torch import Tensor


def sersic(x: Tensor, y: Tensor, amplitude: Tensor | float, R_e: Tensor, n: Tensor, q: Tensor, angle: Tensor) -> Tensor:
    """Sersic profile I = A exp(-b_n [(R / R_e)^(1/n) - 1]), with R = sqrt(q u^2 + v^2 / q).

    u runs along the major axis and v across; R_e is the circularised half-light radius. b_n = 1.9992 n - 0.3271
    (Capaccioli 1989; good to 1e-3 for 0.5 < n < 10).

    Parameters
    ----------
    x, y : positions relative to the centre, arcsec or pixels; they and the parameters broadcast against each other
    amplitude : brightness at R_e, any unit
    R_e : half-light radius, in the unit of the positions
    n : Sersic index, 0.5 to 10
    q : axis ratio in (0, 1]
    angle : of the major axis, radians, from +x towards +y

    Returns
    -------
    Surface brightness, of the broadcast shape, in the unit of `amplitude`.
    """
    b_n = 1.9992 * n - 0.3271
    # R^2 / R_e^2 = u'^2 + v'^2, with the axis ratio and R_e taken into the rotation.
    along, across = torch.sqrt(q) / R_e, 1.0 / (torch.sqrt(q) * R_e)
    cos, sin = torch.cos(angle), torch.sin(angle)
    u = torch.addcmul((along * cos) * x, along * sin, y)
    v = torch.addcmul((across * cos) * y, across * sin, x, value=-1.0)
    r_squared = torch.addcmul(u * u, v, v)
    # r^(2 / 2n) as exp(log): twice as fast as pow. log(0) = -inf gives exp(-inf) = 0, the value at the centre.
    radial = r_squared.log_().mul_(0.5 / n).exp_()
    return radial.sub_(1.0).mul_(-b_n).exp_().mul_(amplitude)
