"""Deflection angles of thin lenses: beta = theta - alpha(theta).

Every function takes positions `x` and `y` and parameters as tensors that broadcast against each other, and returns
(alpha_x, alpha_y) in the same unit as the positions (arcsec here), of the broadcast shape and the dtype of its input.
A grid may be given as `x` of shape (1, W) and `y` of shape (H, 1): what depends on one axis only is then computed on
that axis only. Angles are in radians, from +x towards +y. Positions are relative to the lens unless a centre is
asked for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Where two points coincide, a distance of zero is read as 1e-6 arcsec: no pixel is ever NaN, and no other moves.
_TINY = 1e-12
_ROUND = 1e-6  # SIE axis ratios above 1 - 1e-6 are computed there: the limit q -> 1 within 1e-6 of theta_E

Deflection = tuple[Tensor, Tensor]


def _to_frame(x: Tensor, y: Tensor, angle: Tensor) -> Deflection:
    """(x, y) in the frame turned by `angle`: u along it, v across."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _from_frame(u: Tensor, v: Tensor, angle: Tensor, scale: Tensor) -> Deflection:
    """`scale` * (u, v), turned back from the frame at `angle`."""
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    return torch.addcmul(cos * u, sin, v, value=-1.0), torch.addcmul(sin * u, cos, v)


def sie(x: Tensor, y: Tensor, theta_E: Tensor, e: Tensor, angle: Tensor) -> Deflection:
    """Singular isothermal ellipsoid (Kormann, Schneider & Bartelmann 1994, eq. 27a).

    Its convergence is theta_E / (2 sqrt(q x^2 + y^2 / q)), with x along the major axis.

    Parameters
    ----------
    theta_E : Einstein radius, arcsec, defined so that the area within the critical curve is pi theta_E^2
    e : ellipticity in [0, 1); the axis ratio is q = (1 - e) / (1 + e)
    angle : of the major axis, radians
    """
    q = ((1.0 - e) / (1.0 + e)).clamp(max=1.0 - _ROUND)
    f = torch.sqrt((1.0 - q) * (1.0 + q))
    u, v = _to_frame(x, y, angle)
    f_psi = torch.addcmul(v * v + _TINY, q * q * u, u).rsqrt_().mul_(f)  # f / psi
    return _from_frame((u * f_psi).atan_(), (v * f_psi).atanh_(), angle, theta_E * torch.sqrt(q) / f)


def shear(x: Tensor, y: Tensor, gamma: Tensor, angle: Tensor) -> Deflection:
    """External shear of strength `gamma` along `angle`: g1 = gamma cos(2 angle), g2 = gamma sin(2 angle)."""
    g1, g2 = gamma * torch.cos(2.0 * angle), gamma * torch.sin(2.0 * angle)
    return g1 * x + g2 * y, g2 * x - g1 * y


def sis(x: Tensor, y: Tensor, theta_E: Tensor) -> Deflection:
    """Singular isothermal sphere: theta_E in every direction."""
    scale = theta_E * (x * x + y * y + _TINY).rsqrt()
    return scale * x, scale * y


def point_mass(x: Tensor, y: Tensor, theta_E_squared: Tensor, x0: Tensor, y0: Tensor) -> Deflection:
    """Sum of K point masses: theta_E^2 (dx, dy) / (dx^2 + dy^2).

    Parameters
    ----------
    x, y : (..., 1, W) and (..., H, 1), or any shape (..., H, W)
    theta_E_squared, x0, y0 : (..., K) squared Einstein radii (arcsec^2) and centres (arcsec); a mass of 0 does nothing
    """
    x0, y0, theta_E_squared = (value[..., None, None] for value in (x0, y0, theta_E_squared))  # (..., K, 1, 1)
    dx, dy = x[..., None, :, :] - x0, y[..., None, :, :] - y0  # (..., K, 1, W), (..., K, H, 1)
    # theta_E^2 goes into the one-axis terms: 1 / (dx^2 + dy^2) is then all that is left to do for every pixel and mass.
    dx_squared, dy_squared = dx * dx + _TINY, dy * dy
    dx, dy = dx * theta_E_squared, dy * theta_E_squared
    weight = dx_squared[..., 0, :, :] + dy_squared[..., 0, :, :]  # (..., H, W)
    alpha_x, alpha_y = torch.zeros_like(weight), torch.zeros_like(weight)
    for k in range(x0.shape[-3]):
        torch.add(dx_squared[..., k, :, :], dy_squared[..., k, :, :], out=weight)
        weight.reciprocal_()
        alpha_x.addcmul_(weight, dx[..., k, :, :])
        alpha_y.addcmul_(weight, dy[..., k, :, :])
    return alpha_x, alpha_y


def nfw(x: Tensor, y: Tensor, R_s: Tensor, alpha_Rs: Tensor) -> Deflection:
    """Navarro-Frenk-White halo (Wright & Brainerd 2000, eq. 13, integrated to the mass within R).

    Parameters
    ----------
    R_s : scale radius, arcsec
    alpha_Rs : deflection at the scale radius, arcsec
    """
    t = torch.sqrt(x * x + y * y + _TINY) / R_s
    # Both branches are 0 / 0 at t = 1, with the limit 1: 1 - t is held off zero, where a float32 can still show it.
    w = torch.sqrt((1.0 - t).abs().clamp(min=1e-6) / (1.0 + t))
    g = torch.log(t / 2.0) + torch.where(t < 1.0, torch.atanh(w), torch.atan(w)) * 2.0 / (w * (1.0 + t))
    scale = alpha_Rs / ((1.0 - math.log(2.0)) * R_s) * g / (t * t)
    return scale * x, scale * y


def vortex(
    x: Tensor, y: Tensor, theta_E_squared: Tensor, x0: Tensor, y0: Tensor, angle: Tensor, half_length: Tensor
) -> Deflection:
    """A uniform line of mass: the limit of N point masses spread evenly over it.

    With u along the line and v across, the integral of the point mass over [-h, h] is
    alpha_u = theta_E^2 / (4h) ln[((u+h)^2 + v^2) / ((u-h)^2 + v^2)] and
    alpha_v = theta_E^2 / (2h) [atan2(v, u-h) - atan2(v, u+h)]; the difference of the two angles is one atan2.

    Parameters
    ----------
    theta_E_squared : of the whole line, arcsec^2
    x0, y0, angle, half_length : centre (arcsec), direction (radians) and half-length h (arcsec, above 0) of the line
    """
    u, v = _to_frame(x - x0, y - y0, angle)
    v_squared = v * v + _TINY
    ahead, behind = u - half_length, u + half_length
    ratio = torch.addcmul(v_squared, behind, behind).div_(torch.addcmul(v_squared, ahead, ahead))
    span = torch.atan2(2.0 * half_length * v, torch.addcmul(v_squared, ahead, behind))  # ahead * behind = u^2 - h^2
    return _from_frame(ratio.log_().mul_(0.5), span, angle, theta_E_squared / (2.0 * half_length))
