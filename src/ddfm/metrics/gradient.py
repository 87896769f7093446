"""Edges: what of the sources' gradients the fused image keeps, and what it invents."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.metrics._checks import over_channels, prepare, ratio
from ddfm.metrics._filters import magnitude, sobel, sobel_valid, strips

_ALL = (-2, -1)


def qabf(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Qabf: the sources' edges kept in F, ``sum (Q_AF g_A + Q_BF g_B) / sum (g_A + g_B)``.

    g is the Sobel magnitude (zeros around the image), the angle ``atan(s_y / s_x)``, or +pi/2 where
    s_x = 0. For a source S: strength G = min(g_S, g_F) / max(g_S, g_F), orientation
    A = 1 - |angle_S - angle_F| / (pi/2), and
    Q = 0.9994 / (1 + exp(-15 (G - 0.5))) * 0.9879 / (1 + exp(-22 (A - 0.8))).

    Range 0..about 0.975 (a perfect copy of both sources), higher is better. Black sources have no
    edge (0/0) and score 0; other constant ones have the edge to the zeros around the image.
    C. S. Xydeas, V. Petrovic, Electronics Letters 36(4), 2000.

    Quirks, inherited by every implementation: where g_S = g_F exactly, G is g_F itself rather than 1,
    so that the value depends on the grey scale and on exact equality; angles are not wrapped, so A
    reaches -1 for two nearly vertical edges.
    """
    a, b, f = prepare("Qabf", a, b, f)
    kept = total = f.new_zeros(())
    for strip in strips(*(F.pad(image, (1, 1, 1, 1)) for image in (a, b, f)), window=3):
        (strength_a, angle_a), (strength_b, angle_b), (strength_f, angle_f) = map(_edges, strip)
        for strength, angle in ((strength_a, angle_a), (strength_b, angle_b)):
            quality = _preservation(strength, angle, strength_f, angle_f)
            kept = kept + (quality * strength).sum(_ALL)
            total = total + strength.sum(_ALL)
    return over_channels(ratio(kept, total))


def nabf(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    """Compute Nabf: edges in F that neither source has.

    ``sum_AM [(1-Q_AF) w_A + (1-Q_BF) w_B] / sum (w_A + w_B)``.

    AM are the pixels where F's gradient exceeds both sources'. g is the Sobel magnitude / 8 (image
    reflected at its edges), Q = sqrt(Q_g Q_a) with
    Q_g = 0.9999 / (1 + exp(-19 (G - 0.5))), Q_a = 0.9995 / (1 + exp(-22 (A - 0.5))),
    G = min(g_S, g_F) / max(g_S, g_F) (0 where either is 0), A = ||angle_S - angle_F| - pi/2| / (pi/2).
    Weights w = g^1.5 where g >= 2, else 0.001.

    From 0 (no artefact; a copy of either source, a constant F) up, lower is better.
    B. K. Shreyamsha Kumar, Signal, Image and Video Processing 7(6), 2013, after V. Petrovic,
    C. Xydeas, ICCV 2005.

    Quirk: these are Petrovic's later constants; they differ from those of Qabf, so the two do not add
    up with a loss to 1.
    """
    a, b, f = prepare("Nabf", a, b, f, at_least=2)
    gradients = [sobel(image, "reflect") for image in (a, b, f)]
    strength_a, strength_b, strength_f = (magnitude(gx, gy) / 8 for gx, gy in gradients)
    angle_a, angle_b, angle_f = (_angle_or_zero(gx, gy) for gx, gy in gradients)
    lost = weights = f.new_zeros(())
    for strength, angle in ((strength_a, angle_a), (strength_b, angle_b)):
        relative = ratio(torch.minimum(strength, strength_f), torch.maximum(strength, strength_f))
        alignment = ((angle - angle_f).abs() - math.pi / 2).abs() / (math.pi / 2)
        strength_kept = 0.9999 * torch.sigmoid(19 * (relative - 0.5))
        angle_kept = 0.9995 * torch.sigmoid(22 * (alignment - 0.5))
        weight = torch.where(strength >= 2, strength**1.5, 0.001)
        lost = lost + (1 - (strength_kept * angle_kept).sqrt()) * weight
        weights = weights + weight.sum(_ALL)
    invented = (strength_f > strength_a) & (strength_f > strength_b)
    return over_channels((lost * invented).sum(_ALL) / weights)


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    gx, gy = sobel_valid(x)
    # Xydeas and Petrovic's s_x is left minus right. The sign matters: s_x = 0 always gives +pi/2.
    return magnitude(gx, gy), torch.where(gx == 0, math.pi / 2, torch.atan(gy / -gx))


def _preservation(strength: Tensor, angle: Tensor, strength_f: Tensor, angle_f: Tensor) -> Tensor:
    relative = torch.minimum(strength, strength_f) / torch.maximum(strength, strength_f)
    relative = torch.where(strength == strength_f, strength_f, relative)
    alignment = 1 - (angle - angle_f).abs() / (math.pi / 2)
    return 0.9994 * 0.9879 * torch.sigmoid(15 * (relative - 0.5)) * torch.sigmoid(22 * (alignment - 0.8))


def _angle_or_zero(gx: Tensor, gy: Tensor) -> Tensor:
    return torch.where((gx == 0) & (gy == 0), 0.0, torch.atan(gy / gx))
