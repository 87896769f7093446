"""Fusion metrics as plain functions of tensors, and the two conventions they are published in.

Sources ``a`` and ``b`` and fused ``f`` are (B, C, H, W), grey values 0..255, uint8 or float; every
function returns one float64 value for each fused image, shape (B,). Colour is measured per channel and
averaged. One pair of sources may stand against a batch of fused images.

Numbers under one name differ between papers because the definitions do. ``METRICS`` therefore keeps
two families of names apart: those of the DDFM paper's evaluator (``"paper"``) and those of the VIFB
benchmark (``"vifb"``), each reproduced to the last published digit, quirks included.
"""

from ddfm.metrics.fidelity import vif, viff
from ddfm.metrics.gradient import nabf, qabf
from ddfm.metrics.information import (
    cross_entropy,
    entropy,
    feature_mutual_information,
    mutual_information,
    normalized_mutual_information,
)
from ddfm.metrics.perceptual import qcb, qcv
from ddfm.metrics.pixel import (
    average_gradient,
    correlation_coefficient,
    edge_intensity,
    mse,
    psnr,
    psnr_vifb,
    rmse,
    rmse_vifb,
    spatial_frequency,
    spatial_frequency_vifb,
    standard_deviation,
    sum_of_correlations_of_differences,
)
from ddfm.metrics.registry import (
    METRICS,
    TASK_METRICS,
    Convention,
    Metric,
    check_convention,
    check_metrics,
    evaluate,
    metric_names,
    to_grey,
)
from ddfm.metrics.structural import mef_ssim, ms_ssim, q0, qe, qs, qw, qy, ssim

__all__ = [
    "METRICS",
    "TASK_METRICS",
    "Convention",
    "Metric",
    "average_gradient",
    "check_convention",
    "check_metrics",
    "correlation_coefficient",
    "cross_entropy",
    "edge_intensity",
    "entropy",
    "evaluate",
    "feature_mutual_information",
    "mef_ssim",
    "metric_names",
    "ms_ssim",
    "mse",
    "mutual_information",
    "nabf",
    "normalized_mutual_information",
    "psnr",
    "psnr_vifb",
    "q0",
    "qabf",
    "qcb",
    "qcv",
    "qe",
    "qs",
    "qw",
    "qy",
    "rmse",
    "rmse_vifb",
    "spatial_frequency",
    "spatial_frequency_vifb",
    "ssim",
    "standard_deviation",
    "sum_of_correlations_of_differences",
    "to_grey",
    "vif",
    "viff",
]
