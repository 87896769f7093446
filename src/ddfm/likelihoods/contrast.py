"""Bound, move, stretch and compress the fused luminance within the range that the sources justify."""

from __future__ import annotations

import torch
from torch import Tensor

from ddfm.likelihoods.numbers import GlobalNumber, Steady, as_it_is
from ddfm.likelihoods.tasks import Task
from ddfm.noise.level import GREY_LEVEL
from ddfm.pictures.pyramid import compose, decompose

TAIL = 0.005  # share of the pixels at either end that a stretch may clip (eq. 14)
SAMPLES = 2**13  # pixels that tell the tails
AT_ENDS = 3  # times as far from black as the brightest source is, at most; from white likewise
FINER = 6  # bands, of 1 to 32 pixels, that stay as they are where there is no room (eq. 22)
ROUNDS = 4  # of making room: a fifth changes less than a grey level (eq. 22)
LIFTED = 0.2  # share of what is still too dark then that is lifted, details or not (eq. 22)
TINY = 1e-4  # energy of a grey level: keeps ratios of next to nothing at one


def bounded(f: Tensor, low: Tensor, high: Tensor, overshoot: float) -> Tensor:
    """f with what lies outside the sources' range, pixel by pixel, cut down to that share of it (eq. 12)."""
    within = f.clamp(low, high)
    return torch.lerp(within, f, overshoot)


def exposed_range(low: Tensor, high: Tensor, kept: float, knee: float) -> tuple[Tensor, Tensor]:
    """Return the range that exposures leave each pixel, least and most (eq. 21).

    The longest exposure shows shadows: they keep a share of their distance from black. The shortest one
    shows highlights: they keep that share of their distance from white, and stay below the knee. Both
    ends grow with every source, so that a ramp stays a ramp.

    Args:
        low: the darkest source, pixel by pixel, (B, 1, H, W) in [-1, 1].
        high: the brightest one.
        kept: the share, 0 to 1, of distances up to that of middle grey.
        knee: luminance above which only what is as bright in all sources may lie.
    """
    least = kept * (1 + high).clamp_max(1) - 1
    most = (1 - kept * (1 - low).clamp_max(1)).clamp_max(knee)
    return least.maximum(low).minimum(high), most.minimum(high).maximum(low)


def with_room(f: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """Move f, (B, 1, H, W), into that range at coarse scales, so that its details stay (eq. 22).

    What a limit would cut off a detail is taken off the intensity around it instead. Both demands are
    met in turn: f is limited, and then gets its own finer bands back. Between a window and its reflection
    they contradict each other: what stands there and would turn black is lifted by a share.
    """
    details, _ = decompose(f, FINER)
    for _ in range(ROUNDS):
        _, coarse = decompose(f.clamp(least, most), FINER)
        f = compose(details, coarse)
    return f + LIFTED * (least - f).clamp_min(0)


def finished(
    luma: Tensor,
    task: Task,
    stretch: bool,
    together: Tensor | float = 1.0,
    steady: Steady = as_it_is,
    span: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the luminance (B, 1, H, W) as a picture in [0, 1], with the task's contrast if that is wanted.

    Args:
        together: how far the picture is of several sources, (B, 1, 1, 1); a copy of one stays as it is.
        span: the darkest and the brightest source, pixel by pixel, (B, 1, H, W). What all of them show
            black is not made grey by bending, nor what they show white.
    """
    most = 1 + (task.stretch - 1) * together if stretch else 1.0
    f = stretched(luma, most, steady)
    bent = compressed(f, task.knee)
    if span is not None and task.knee < 1:
        low, high = span
        lightest, darkest = AT_ENDS * (high + 1) - 1, 1 - AT_ENDS * (1 - low)
        bent = torch.minimum(bent, torch.maximum(lightest, f))
        bent = torch.maximum(bent, torch.minimum(darkest, f))
    return ((bent + 1) / 2).clamp(0, 1)


def stretched(f: Tensor, most: Tensor | float, steady: Steady = as_it_is) -> Tensor:
    """Return f, (B, 1, H, W), its contrast raised as far as the range allows, by ``most`` at most (eq. 14).

    About the mean, unless that would push what is bright or dark out of the range.
    """
    pixels = f.flatten(1)[:, :: max(1, f[0].numel() // SAMPLES)]
    tails = steady(GlobalNumber.TAILS, torch.quantile(pixels, f.new_tensor((TAIL, 1 - TAIL)), dim=1))
    low, high = tails.clamp(-1, 1).reshape(2, -1, 1, 1, 1)  # what lies beyond is clipped anyway
    gain = (2 / (high - low).clamp_min(TINY)).clamp_min(1).minimum(torch.as_tensor(most).to(f))
    offset = (1 - gain) * steady(GlobalNumber.MEAN, f.mean((1, 2, 3), keepdim=True))
    return gain * f + offset.clamp(-1 - gain * low, 1 - gain * high)


def compressed(f: Tensor, knee: float) -> Tensor:
    """f with what lies beyond the knee bent, so that a grey level from -1 and 1 is never passed (eq. 19)."""
    if knee >= 1:
        return f
    room = 1 - knee - GREY_LEVEL
    return f.clamp(-knee, knee) + f.sign() * room * ((f.abs() - knee).clamp_min(0) / (1 - knee)).tanh()
