"""Clean a noisy source with the prior before fusion.

Each step is behind a gate, so that a clean source passes unchanged and costs milliseconds:

- `remove_stripes` removes what the readout of thermal cameras adds to columns and rows.
- `posterior_mean` is the mean of the clean image given the noisy one, under a diffusion prior. It removes
  white noise, whose level `estimate_noise` finds; `unclipped` mends its mean near black and white. It also
  removes traces of JPEG compression, to which `quantisation_step` gives a level.
- `posterior_mean_of_camera` removes noise that depends on intensity, or that neighbours share, as
  `measure_camera_noise` finds it.

Luminance has shape (B, 1, H, W) and range [-1, 1], 8-bit grey levels divided by 127.5, less one.
Standard deviations are in the same units. Images of one batch are judged each by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ddfm.errors import InputError
from ddfm.noise.blur import sharpened
from ddfm.noise.camera import CameraNoise, measure_camera_noise
from ddfm.noise.clipping import unclipped
from ddfm.noise.compression import quantisation_step
from ddfm.noise.level import GREY_LEVEL, NOISE_GATE, estimate_noise
from ddfm.noise.missing import Holes
from ddfm.noise.posterior import Denoiser, posterior_mean, posterior_mean_of_camera
from ddfm.noise.stripes import remove_stripes
from ddfm.timing import stage

NOISE_OF_STEP = 0.08 * GREY_LEVEL  # noise to tell the prior for each grey level of a step
REMAINS = 0.3  # rms of the error of `posterior_mean` by the noise: .2 to .4 for the bundled prior


class Cleaned(NamedTuple):
    """Hold a source after `clean_source`; standard deviations have shape (B,).

    Attributes:
        luma: shape (B, 1, H, W).
        measured_noise: of the noise in the source, also where it is below the gate.
        assumed_noise: of the noise that the prior removed; 0 where it was not asked.
        residual_noise: of a camera's noise that is left, for the likelihood to reckon with. It is 0 for white
            noise: what is left of that lies in no fine band, and taking it off would cost details.
        cameras: the noise of each image where it is not white and of one level, else None.
        blur: of the lens, taken out by `sharpen_source`, in pixels; None if nothing was.
        holes: what was missing, filled by `fill_source`; None if nothing was.
    """

    luma: Tensor
    measured_noise: Tensor
    assumed_noise: Tensor
    residual_noise: Tensor
    cameras: tuple[CameraNoise | None, ...]
    blur: Tensor | None = None
    holes: Holes | None = None

    @property
    def white_noise(self) -> Tensor:
        """Return the standard deviation of white noise that was removed, (B,); of compression it is none."""
        of_noise = torch.tensor([camera is None for camera in self.cameras], device=self.luma.device)
        removed = of_noise & (self.assumed_noise == self.measured_noise)
        return torch.where(removed, self.assumed_noise, 0)


@stage("noise")
def clean_source(
    luma: Tensor,
    prior: Callable[[], Denoiser],
    level: Tensor | float | Literal["auto", "off"] = "auto",
    colour: Tensor | None = None,
) -> Cleaned:
    """Remove stripes, noise and traces of compression from a source, where there are any.

    Args:
        luma: shape (B, 1, H, W).
        prior: called for the prior if an image is to be denoised, not before.
        level: standard deviation of the noise, a number or shape (B,), taken for white; "auto" to measure
            it, with compression, and to leave alone what is below the gates; "off" or 0 to leave everything
            alone.
        colour: `ddfm.noise.camera.colour_noise` of colour pictures, shape (B,), for "auto".

    Raises:
        InputError: for any other level.
    """
    nothing, none = luma.new_zeros(len(luma)), (None,) * len(luma)
    if level == "off":
        return Cleaned(luma, nothing, nothing, nothing, none)
    if level == "auto":
        return _cleaned_blind(luma, prior, nothing if colour is None else colour)
    measured = _given(level).to(luma) + nothing
    noisy = measured > 0
    if noisy.any():
        luma = torch.where(noisy[:, None, None, None], remove_stripes(luma, measured), luma)
    luma = unclipped(_without_white_noise(luma, prior, measured), measured)
    return Cleaned(luma, measured, measured, nothing, none)


def _cleaned_blind(luma: Tensor, prior: Callable[[], Denoiser], colour: Tensor) -> Cleaned:
    """Measure the noise and remove it; ``colour`` is that of the colours, (B,)."""
    measured = estimate_noise(luma)
    noisy = measured > NOISE_GATE
    step = quantisation_step(luma)
    luma = remove_stripes(luma, measured)
    found = [
        measure_camera_noise(image, float(fine), float(of_colours))
        for image, fine, of_colours in zip(luma.split(1), measured, colour, strict=True)
    ]
    cameras = tuple(noise if noise and not noise.is_plain else None for noise in found)
    noisy = noisy | luma.new_tensor([noise is not None for noise in found], dtype=torch.bool)
    white = noisy & luma.new_tensor([noise is None for noise in cameras], dtype=torch.bool)
    assumed = torch.where(white, measured, torch.where(noisy, 0, NOISE_OF_STEP * step))
    luma = _without_white_noise(luma, prior, assumed)
    images = list(unclipped(luma, torch.where(white, measured, 0)).split(1))
    residual = torch.zeros_like(measured)
    for n, noise in enumerate(cameras):
        if noise is not None:
            images[n] = posterior_mean_of_camera(prior(), images[n], noise)
            measured[n] = assumed[n] = noise.level
            residual[n] = REMAINS * noise.level
    luma = images[0] if len(images) == 1 else torch.cat(images)
    return Cleaned(luma, measured, assumed, residual, cameras)


def fill_source(source: Tensor, clean: Cleaned, prior: Callable[[], Denoiser], holes: Holes) -> Cleaned:
    """Fill what is missing of a source, as far as no other source takes its place.

    Args:
        source: as it came, with something in its holes, (B, 1, H, W).
        clean: what `clean_source` made of ``holes.painted(source)``.
        prior: called for the prior if there is anything to fill.
        holes: what is missing.
    """
    luma = torch.where(holes.known > 0, clean.luma, source)
    return clean._replace(luma=holes.fill(prior, luma), holes=holes)


@stage("deblur")
def sharpen_source(source: Tensor, clean: Cleaned, prior: Callable[[], Denoiser], blur: Tensor) -> Cleaned:
    """Take a lens's blur out of a source, and white noise with it.

    Args:
        source: as it came, (B, 1, H, W).
        clean: what `clean_source` made of it.
        prior: called for the prior if an image is blurred.
        blur: standard deviation of the blur in pixels, (B,); 0 for a sharp image.
    """
    images = list(clean.luma.split(1))
    base = without_stripes(source, clean)
    for n in blur.nonzero()[:, 0].tolist():
        of_camera = clean.cameras[n] is not None
        noise = clean.residual_noise[n] if of_camera else clean.measured_noise[n]
        images[n] = sharpened(prior(), base[n : n + 1], float(blur[n]), float(noise))
    return clean._replace(luma=torch.cat(images), blur=blur)


def without_stripes(source: Tensor, clean: Cleaned) -> Tensor:
    """Return the source as it was before white noise was taken out, (B, 1, H, W)."""
    base = clean.luma.clone()
    for n in clean.assumed_noise.nonzero()[:, 0].tolist():
        if clean.cameras[n] is None:
            base[n : n + 1] = remove_stripes(source[n : n + 1], clean.measured_noise[n : n + 1])
    return base


def _without_white_noise(luma: Tensor, prior: Callable[[], Denoiser], sigma: Tensor) -> Tensor:
    """Denoise the images whose sigma, (B,), is above 0."""
    denoised = sigma > 0
    if denoised.any():
        luma = luma.clone()
        luma[denoised] = posterior_mean(prior(), luma[denoised], sigma[denoised])
    return luma


def _given(level: object) -> Tensor:
    if isinstance(level, int | float | Tensor):
        deviation = torch.as_tensor(level)
        if bool(((deviation >= 0) & deviation.isfinite()).all()):
            return deviation
    raise InputError(f"noise level {level}: must be auto, off, or a standard deviation of at least 0")
