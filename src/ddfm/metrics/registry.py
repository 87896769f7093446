"""The metrics by name, and the conventions that say which names, and how images are prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.metrics import fidelity, gradient, information, perceptual, pixel, structural

Convention = Literal["paper", "vifb"]
"""``"paper"``: the DDFM authors' evaluator, on grey images. ``"vifb"``: the VIFB benchmark, per channel."""


@dataclass(frozen=True)
class Metric:
    """A metric under the name its convention publishes it by.

    Attributes:
        name: the column's name; unique.
        compute: (a, b, f) to one value for each fused image, shape (B,).
        higher_is_better: the direction.
        range: the least and the greatest value it can take.
        conventions: the conventions it belongs to; empty if neither has it.
    """

    name: str
    compute: Callable[[Tensor, Tensor, Tensor], Tensor]
    higher_is_better: bool
    range: tuple[float, float]
    conventions: tuple[Convention, ...] = ()


def _of_fused(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Give a metric of the fused image alone the signature of the others."""
    return lambda a, b, f: function(f)


def _mef_ssim(a: Tensor, b: Tensor, f: Tensor) -> Tensor:
    return structural.mef_ssim([a, b], f)


_GRADIENT_VIFB = partial(pixel.average_gradient, mean_over="interior")
_PAPER: tuple[Convention, ...] = ("paper",)
_VIFB: tuple[Convention, ...] = ("vifb",)

_ALL = (
    Metric("EN", _of_fused(information.entropy), True, (0, 8), _PAPER),
    Metric("SD", _of_fused(pixel.standard_deviation), True, (0, 127.5), _PAPER),
    Metric("SF", _of_fused(pixel.spatial_frequency), True, (0, inf), _PAPER),
    Metric("AG", _of_fused(pixel.average_gradient), True, (0, inf), _PAPER),
    Metric("MI", information.mutual_information, True, (0, inf), _PAPER),
    Metric("MSE", pixel.mse, False, (0, 255**2), _PAPER),
    Metric("PSNR", partial(pixel.psnr, peak="fused"), True, (-inf, inf), _PAPER),
    Metric("CC", pixel.correlation_coefficient, True, (-1, 1), _PAPER),
    Metric("SCD", pixel.sum_of_correlations_of_differences, True, (-2, 2), _PAPER),
    Metric("VIF", fidelity.vif, True, (0, inf), _PAPER),
    Metric("Qabf", gradient.qabf, True, (0, 1), ("paper", "vifb")),
    Metric("SSIM_dr2", partial(structural.ssim, window="uniform", data_range=2), True, (-2, 2), _PAPER),
    Metric("SSIM_dr255", partial(structural.ssim, window="uniform", data_range=255), True, (-2, 2), _PAPER),
    Metric("Avg_gradient", _of_fused(_GRADIENT_VIFB), True, (0, inf), _VIFB),
    Metric("Cross_entropy", information.cross_entropy, False, (-inf, inf), _VIFB),
    Metric("Edge_intensity", _of_fused(pixel.edge_intensity), True, (0, inf), _VIFB),
    Metric("Entropy", _of_fused(information.entropy), True, (0, 8), _VIFB),
    Metric("Mutinf", partial(information.mutual_information, stretched=True), True, (0, inf), _VIFB),
    Metric("Psnr", pixel.psnr_vifb, True, (-inf, inf), _VIFB),
    Metric("Qcb", perceptual.qcb, True, (0, 1), _VIFB),
    Metric("Qcv", perceptual.qcv, False, (0, inf), _VIFB),
    Metric("Rmse", pixel.rmse_vifb, False, (0, inf), _VIFB),
    Metric("Spatial_frequency", _of_fused(pixel.spatial_frequency_vifb), True, (0, inf), _VIFB),
    Metric("Ssim", structural.ssim, True, (-2, 2), _VIFB),
    Metric("Variance", _of_fused(pixel.standard_deviation), True, (0, 127.5), _VIFB),
    Metric("NMI", information.normalized_mutual_information, True, (0, 2)),
    Metric("FMI", information.feature_mutual_information, True, (0, 1)),
    Metric("MS_SSIM", structural.ms_ssim, True, (0, 2)),
    Metric("MEF_SSIM", _mef_ssim, True, (0, 1)),
    Metric("Q0", structural.q0, True, (-1, 1)),
    Metric("Qs", structural.qs, True, (-1, 1)),
    Metric("Qw", structural.qw, True, (-1, 1)),
    Metric("Qe", structural.qe, True, (-1, 1)),
    Metric("Qy", structural.qy, True, (-1, 1)),
    Metric("VIFF", fidelity.viff, True, (0, inf)),
    Metric("Nabf", gradient.nabf, False, (0, inf)),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by its unique name."""

TASK_METRICS: dict[str, tuple[str, ...]] = {"exposure": ("MEF_SSIM", "Qcb"), "focus": ("Qcb",)}
"""What is measured of a kind of sources beyond either convention's own metrics."""


def metric_names(convention: Convention, task: str = "any") -> list[str]:
    """List the metrics of a convention, then those for the kind of sources."""
    own = [metric.name for metric in _ALL if convention in metric.conventions]
    return own + [name for name in TASK_METRICS.get(task, ()) if name not in own]


def evaluate(
    a: Tensor,
    b: Tensor,
    fused: Tensor,
    convention: Convention = "paper",
    metrics: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Measure all metrics of a convention, by name, each shape (B,).

    Args:
        a: first source (infrared, say), (B, C, H, W), grey values 0..255; B or C may be 1.
        b: second source (visible), likewise.
        fused: the fused images, (B, C, H, W).
        convention: ``"paper"`` makes RGB images grey first; ``"vifb"`` measures every channel, with a
            grey image standing for all three.
        metrics: names of :data:`METRICS` instead of the convention's own; it still prepares the images.

    Raises:
        InputError: unknown names, or images that do not fit together or a metric.
    """
    metrics = check_metrics(check_convention(convention), metrics)
    if convention == "paper":
        a, b, fused = to_grey(a), to_grey(b), to_grey(fused)
    a, b, fused = (image.double() for image in (a, b, fused))
    return {name: METRICS[name].compute(a, b, fused) for name in metrics}


def check_metrics(convention: Convention, metrics: Sequence[str] | None) -> Sequence[str]:
    """Return the metrics, or the convention's own for None; raises InputError for unknown ones, and none."""
    if metrics is None:
        return metric_names(convention)
    if unknown := [name for name in metrics if name not in METRICS]:
        raise InputError(f"unknown metric {', '.join(unknown)}; known: {', '.join(METRICS)}")
    if not metrics:
        raise InputError(f"no metric given; known: {', '.join(METRICS)}")
    return metrics


def check_convention(name: str) -> Convention:
    """Return the name if it is one of :data:`Convention`; else raise InputError."""
    for convention in get_args(Convention):
        if name == convention:
            return cast(Convention, convention)
    raise InputError(f"unknown metric convention {name!r}; known: {', '.join(get_args(Convention))}")


def to_grey(image: Tensor) -> Tensor:
    """Convert (B, 3, H, W) RGB to (B, 1, H, W): 0.299 R + 0.587 G + 0.114 B in float32, rounded."""
    if image.ndim != 4 or image.shape[1] != 3:
        return image
    r, g, b = image.float().split(1, dim=1)
    return torch.round(0.299 * r + 0.587 * g + 0.114 * b)
