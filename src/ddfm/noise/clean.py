"""Clean a noisy source with the prior before fusion.

Each step is behind a gate, so that a clean source passes unchanged and costs milliseconds:

- `remove_stripes` removes what the readout of thermal cameras adds to columns and rows.
- `posterior_mean`, the mean of the clean image given the noisy one under a diffusion prior, removes
  white noise, whose level `estimate_noise` finds, and traces of JPEG compression, to which
  `quantisation_step` gives a level.

Luminance has shape (B, 1, H, W) and range [-1, 1], 8-bit grey levels divided by 127.5, less one.
Standard deviations are in the same units. Images of one batch are judged each by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.noise.compression import quantisation_step
from ddfm.noise.level import GREY_LEVEL, estimate_noise
from ddfm.noise.stripes import remove_stripes
from ddfm.timing import stage

# Gates, chosen so that no clean picture of the development data opens them, but for one set of MRI
# that is noisy (benchmarks/noise.py).
NOISE_GATE = 3 * GREY_LEVEL
NOISE_OF_STEP = 0.08 * GREY_LEVEL  # noise to tell the prior for each grey level of a step
# Looks of `posterior_mean`, as shares of the noise: a little less than there is keeps more detail.
FIRST_LOOK, SECOND_LOOK = 0.97, 0.2
REMAINS = 0.3  # rms of the error of `posterior_mean` by the noise: .2 to .4 for the bundled prior


class Denoiser(Protocol):
    """Require of a prior what denoising needs; named here so that clean sources need none."""

    @property
    def channels(self) -> int:
        """Return image channels: 1 (luminance) or 3 (RGB)."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return the posterior mean of x, (B, C, H, W), under white noise of deviation ``sigma``."""
        ...


class Cleaned(NamedTuple):
    """Hold a source after `clean_source`; standard deviations have shape (B,).

    Attributes:
        luma: shape (B, 1, H, W).
        measured_noise: of the noise in the source, also where it is below the gate.
        assumed_noise: of the noise that the prior removed; 0 where it was not asked.
        residual_noise: of what is left of the noise; 0 where there was none above the gate.
    """

    luma: Tensor
    measured_noise: Tensor
    assumed_noise: Tensor
    residual_noise: Tensor


def posterior_mean(prior: Denoiser, luma: Tensor, sigma: Tensor | float) -> Tensor:
    """Return E[clean | luma] under the prior from two looks: two network evaluations.

    The second evaluation takes the mirrored result of the first, at a fifth of the noise but at least one
    grey level. It removes traces of noise that the first left. The mean of both is returned.

    Args:
        prior: of luminance or RGB; luminance is shown to an RGB prior as grey.
        luma: shape (B, 1, H, W), any size.
        sigma: standard deviation of the noise, positive, scalar or shape (B,).

    Returns:
        shape of ``luma``.
    """
    level = torch.as_tensor(sigma, dtype=torch.float64, device=luma.device)

    def look(image: Tensor, level: Tensor) -> Tensor:
        shown = image.expand(-1, prior.channels, -1, -1)
        return prior.denoise(shown, level).mean(1, keepdim=True)

    first = look(luma, FIRST_LOOK * level)
    second = look(first.flip(-1), (SECOND_LOOK * level).clamp_min(GREY_LEVEL)).flip(-1)
    return (first + second) / 2


@stage("noise")
def clean_source(
    luma: Tensor, prior: Callable[[], Denoiser], level: Tensor | float | Literal["auto", "off"] = "auto"
) -> Cleaned:
    """Remove stripes, noise and traces of compression from a source, where there are any.

    Args:
        luma: shape (B, 1, H, W).
        prior: called for the prior if an image is to be denoised, not before.
        level: standard deviation of the noise, a number or shape (B,); "auto" to measure it, with
            compression, and to leave alone what is below the gates; "off" or 0 to leave everything alone.

    Raises:
        InputError: for any other level.
    """
    nothing = luma.new_zeros(len(luma))
    if level == "off":
        return Cleaned(luma, nothing, nothing, nothing)
    if level == "auto":
        measured = estimate_noise(luma)
        noisy = measured > NOISE_GATE
        assumed = torch.where(noisy, measured, NOISE_OF_STEP * quantisation_step(luma))
        luma = remove_stripes(luma, measured)
    else:
        measured = assumed = _given(level).to(luma) + nothing
        noisy = assumed > 0
        if noisy.any():
            luma = torch.where(noisy[:, None, None, None], remove_stripes(luma, measured), luma)
    denoised = assumed > 0
    if denoised.any():
        luma = luma.clone()
        luma[denoised] = posterior_mean(prior(), luma[denoised], assumed[denoised])
    return Cleaned(luma, measured, assumed, torch.where(noisy, REMAINS * measured, nothing))


def _given(level: object) -> Tensor:
    if isinstance(level, int | float | Tensor):
        deviation = torch.as_tensor(level)
        if bool(((deviation >= 0) & deviation.isfinite()).all()):
            return deviation
    raise InputError(f"noise level {level}: must be auto, off, or a standard deviation of at least 0")
