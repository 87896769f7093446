"""What is done to a noisy source before fusion: find out how noisy it is, then clean it with the prior.

Each behind a gate, so that a clean source passes unchanged and costs milliseconds:

- `remove_stripes` takes out the offsets of columns and rows that the readout of thermal cameras adds.
- `posterior_mean`, the mean of the clean image given the noisy one under a diffusion prior, takes out
  white noise, whose level is found by `estimate_noise`, and what JPEG compression left, to which
  `quantisation_step` gives a level.

`clean_source` does all of it. Luminance has shape (B, 1, H, W) and range [-1, 1], 8-bit grey levels
divided by 127.5, less one. Standard deviations are in the same units; 127.5 sigma is what people know
from 8-bit images. Images of one batch are judged each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from statistics import median_low
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ddfm.errors import InputError
from ddfm.timing import stage

GREY_LEVEL = 1 / 127.5  # one of 256, in the units of luminance

# Noise is measured in blocks: large enough for a stable rms, small enough to lie within one surface.
BLOCK, STEP = 8, 4
STRIP = 64  # rows that are filtered at once
FLATTEST = 0.1  # share of the blocks that noise is measured in
QUANTILE = 0.3  # of their rms: below the median, because what detail is left only adds
FEWEST_BLOCKS = 100
CLEARANCE = 2.5  # standard deviations between a block's mean and black or white

# Gates, chosen so that no clean picture of the development data opens them, but for one set of MRI
# that is noisy (benchmarks/noise.py).
NOISE_GATE = 3 * GREY_LEVEL
STRIPE_GATE = 2.25 * GREY_LEVEL
STRIPE_CORRELATION = 0.5
STRIPE_LAGS = 4

STEPS = range(10, 100)  # of quantisation; finer ones do no harm worth a network evaluation
BINS = 4  # a grey level of the coefficients
FEWEST_COEFFICIENTS, FEWEST_GRIDS = 30, 3  # that make a grid, of the seven that make a compressed image
GRID_GATE = 0.7
NOISE_OF_STEP = 0.08 * GREY_LEVEL  # noise to tell the prior for each grey level of a step

# Looks of `posterior_mean`, as shares of the noise: a little less than there is keeps more detail.
FIRST_LOOK, SECOND_LOOK = 0.97, 0.2
REMAINS = 0.3  # rms of the error of `posterior_mean` by the noise: .2 to .4 for the bundled prior


class Denoiser(Protocol):
    """What is needed of a `ddfm.prior.Prior`; named here so that clean sources need no diffusers."""

    @property
    def channels(self) -> int: ...

    def denoise(self, x: Tensor, sigma: Tensor | float) -> Tensor: ...


class Cleaned(NamedTuple):
    """A source after `clean_source`.

    Attributes:
        luma: shape (B, 1, H, W).
        found: standard deviation of the noise in the source, shape (B,), also where it is below the gate.
        told: the noise that the prior was told, shape (B,); 0 where it was not asked.
        left: rms of what is left of the noise, shape (B,); 0 where there was none above the gate.
    """

    luma: Tensor
    found: Tensor
    told: Tensor
    left: Tensor


# --- Noise level ---------------------------------------------------------------------------------


def estimate_noise(luma: Tensor) -> Tensor:
    """Standard deviation of white Gaussian noise in each image.

    The image is filtered with second differences in both directions (Immerkaer 1996, "Fast noise
    variance estimation"), which leaves no trace of offsets of rows and columns, and the rms of the
    result is taken over small blocks. To keep detail out, only the flattest blocks count, as judged by
    gradients at a coarser scale (as Liu et al. 2013, "Single-image noise level estimation"): those are
    nearly independent of the second differences where there is only noise, so choosing by them does
    not bias the rms. Blocks too near to black or white, where noise is cut off, do not count either.

    Fine detail all over an image (foliage, film grain), or wherever it is neither black nor white, is
    taken for noise: there the estimate is high. Noise that is not white (compressed, enlarged or
    smoothed since) is understated, to less than a half if it was smoothed at all.

    Args:
        luma: shape (B, 1, H, W).

    Returns:
        shape (B,), 0 where an image has no room for noise: it is black and white or too small.
    """
    if min(luma.shape[-2:]) < BLOCK + 4:
        return luma.new_zeros(len(luma))
    # In strips, so that what is computed for each pixel stays in a processor's cache.
    strips = [
        F.avg_pool2d(_filtered(luma[..., top : top + STRIP + 4, :]), STEP)
        for top in range(0, luma.shape[-2] - STEP - 4 + 1, STRIP)
    ]
    blocks = F.avg_pool2d(torch.cat(strips, 2), BLOCK // STEP, 1)
    detail, gradient, mean = blocks.flatten(2).unbind(1)
    rows = zip(detail.sqrt(), gradient, 1 - mean.abs(), strict=True)
    return torch.stack([_noise_of_blocks(*row) for row in rows])


def _noise_of_blocks(rms: Tensor, gradient: Tensor, room: Tensor) -> Tensor:
    """sigma of one image from its blocks; ``room`` is the distance of their mean to black or white."""
    farthest = room.topk(min(FEWEST_BLOCKS, len(room))).values[-1]
    sigma = rms.new_zeros(())
    for _ in range(3):
        used = (room >= torch.minimum(CLEARANCE * sigma, farthest)) & (room > GREY_LEVEL / 100)
        if not used.any():
            return rms.new_zeros(())
        gradients = gradient[used]
        count = max(round(FLATTEST * len(gradients)), min(FEWEST_BLOCKS, len(gradients)))
        flat = gradients <= gradients.kthvalue(count).values
        sigma = rms[used][flat].quantile(QUANTILE) / _quantile_of_rms()
    return sigma


def _filtered(luma: Tensor) -> Tensor:
    """Squared second differences of unit noise gain, the squared gradient of a smoothed image, and the image.

    Shapes (B, 1, H, W) and (B, 3, H - 4, W - 4). The gradient is that of differences at distance 2 after
    means with (1, 2, 1)/4 along both axes.
    """
    inner = luma[..., 1:-1, 1:-1]
    detail = _three(_three(inner, -2).mT, -2).mT / 6
    smooth = _three(_three(luma, 2).mT, 2).mT / 16
    across = smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]
    along = smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]
    return torch.cat([detail.square_(), across.square_() + along.square_(), luma[..., 2:-2, 2:-2]], 1)


def _three(image: Tensor, middle: float) -> Tensor:
    """Filtered with (1, middle, 1) along columns."""
    return torch.add(image[..., :-2, :] + image[..., 2:, :], image[..., 1:-1, :], alpha=middle)


@cache
def _quantile_of_rms() -> float:
    """`QUANTILE` of the rms that `_filters`' second differences have in blocks of unit white noise."""
    noise = torch.randn(1, 1, 1602, 1602, generator=torch.Generator().manual_seed(0))
    squares = _filtered(F.pad(noise, (1, 1, 1, 1)))[:, :1]
    return float(F.avg_pool2d(squares, BLOCK).sqrt().flatten().quantile(QUANTILE))


# --- Stripes -------------------------------------------------------------------------------------


def remove_stripes(luma: Tensor, sigma: Tensor | None = None) -> Tensor:
    """Take out what a sensor's readout adds to whole columns and whole rows.

    Args:
        luma: shape (B, 1, H, W).
        sigma: standard deviation of the noise besides, shape (B,); estimated if not given.

    Returns:
        shape of ``luma``; an image in which no stripes were found comes back unchanged to the bit.
    """
    sigma = estimate_noise(luma) if sigma is None else sigma
    images = [_remove_from(image, float(noise)) for image, noise in zip(luma[:, 0], sigma, strict=True)]
    return images[0][None, None] if len(images) == 1 else torch.stack(images)[:, None]


def _remove_from(image: Tensor, sigma: float) -> Tensor:
    for _ in range(2):  # columns, then rows: differences along a row are blind to offsets of rows
        deviation = stripe_deviation(image, sigma)
        if deviation > STRIPE_GATE:
            image = image - column_offsets(image, sigma, deviation)
        image = image.T
    return image


def stripe_deviation(image: Tensor, sigma: float) -> float:
    """Standard deviation of the offsets of columns that run from top to bottom; 0 if there are none.

    Stripes are what the upper and the lower half of an image have in common: the covariance of their
    profiles (second differences along the rows, averaged) holds no noise, and of the scene only what
    is vertical and high enough to be in both. A few such things weigh little, since profiles are
    limited to twice their median; many, as a palisade, have a lower correlation than stripes.

    Args:
        image: shape (H, W).
        sigma: standard deviation of the noise.
    """
    half = image.shape[0] // 2
    limit = _limit(sigma)
    step = image.diff(dim=1).clamp(-limit, limit)
    if half < 1 or image.shape[1] < 16:
        return 0.0
    profiles = torch.stack([step[:half].mean(0), step[-half:].mean(0)]).diff(dim=1)
    spread = 1.4826 * profiles.abs().median(1, keepdim=True).values
    upper, lower = profiles.clamp(-2 * spread, 2 * spread)
    covariance = float((upper * lower).mean())
    scale = float(((upper**2).mean() * (lower**2).mean()).sqrt())
    if covariance <= STRIPE_CORRELATION * scale:
        return 0.0
    # Second differences of independent offsets have 6 times their variance, of which the limit at
    # two standard deviations leaves 0.774.
    return math.sqrt(covariance / (6 * 0.774))


def column_offsets(image: Tensor, sigma: float, deviation: float) -> Tensor:
    """The offset of every column, mean 0, shape (W,).

    Robust means over the rows of x[:, j + k] - x[:, j], k = 1 to 4, are taken for s[j + k] - s[j]
    with an error that grows with k, since the scene changes too; s itself is taken for independent,
    with the given standard deviation. The least squares solution is found four times, with less
    weight each time for differences that disagree with it: vertical edges, which are no stripes.

    Args:
        image: shape (H, W).
        sigma: standard deviation of the noise.
        deviation: standard deviation of the offsets.
    """
    height, width = image.shape
    lags = range(1, min(STRIPE_LAGS, width - 1) + 1)
    differences = [_robust_mean(image[:, k:] - image[:, :-k], _limit(sigma)).double() for k in lags]
    offsets = torch.zeros(width, dtype=torch.float64, device=image.device)
    for iteration in range(4):
        matrix = torch.eye(width, dtype=torch.float64, device=image.device) / deviation**2
        vector = torch.zeros_like(offsets)
        for k, difference in zip(lags, differences, strict=True):
            variance = k * (GREY_LEVEL**2 + 0.02 * sigma**2) + 2 * sigma**2 / height
            error = difference - (offsets[k:] - offsets[:-k])
            spread = 1.4826 * float(error.abs().median())
            bound = 4 * (spread if iteration == 0 else math.sqrt(spread**2 + variance))
            weight = (1 - (error / bound) ** 2).clamp_min(0) ** 2 / (variance * len(lags))
            left = torch.arange(width - k, device=image.device)
            matrix[left, left] += weight
            matrix[left + k, left + k] += weight
            matrix[left, left + k] -= weight
            matrix[left + k, left] -= weight
            vector[k:] += weight * difference
            vector[:-k] -= weight * difference
        offsets = torch.linalg.solve(matrix, vector)
    return (offsets - offsets.mean()).to(image)


def _limit(sigma: float) -> float:
    """Differences of neighbours above this are edges, not noise."""
    return max(10 * GREY_LEVEL, 3 * math.sqrt(2) * sigma)


def _robust_mean(values: Tensor, limit: float) -> Tensor:
    """Tukey's biweight mean over the rows, started at the median."""
    centre = values.median(0).values
    for _ in range(3):
        weight = (1 - ((values - centre) / limit) ** 2).clamp_min(0) ** 2
        centre = centre + (weight * (values - centre)).sum(0) / weight.sum(0).clamp_min(1e-3)
    return centre


# --- Compression ---------------------------------------------------------------------------------


def quantisation_step(luma: Tensor) -> Tensor:
    """Step of the grid that JPEG compression left in each image's low frequencies, in 8-bit grey levels.

    The cosine coefficients of 8x8 blocks of an image that was compressed and not changed since are
    multiples of one number for each frequency (Fan & de Queiroz 2003, "Identification of bitmap
    compression history"). A step t is found if the mean of cos(2 pi c / t) is near 1 over all
    coefficients c outside +-t/4; without a grid it is about 0 or below.

    Args:
        luma: shape (B, 1, H, W).

    Returns:
        shape (B,): median over those of seven frequencies that have a grid; 0 for images that were
        not compressed, compressed with a step below 10 (quality 58 and more) or changed since.
    """
    coefficients = F.conv2d(luma / GREY_LEVEL, _cosines().to(luma), stride=8).flatten(2)
    # Where the decoder's output was cut off at black or white, the block is off the grid.
    whole = F.max_pool2d(luma.abs(), 8).flatten(1) < 1
    steps = [_step_of_image(image[:, kept]) for image, kept in zip(coefficients, whole, strict=True)]
    return luma.new_tensor(steps)


def _step_of_image(coefficients: Tensor) -> float:
    """Median step of the frequencies, (7, n), that have a grid; 0 if they are too few."""
    # How well each step fits depends on where the coefficients lie, not on which they are: on a histogram.
    table = _fits_of_bins().to(coefficients.device)
    frequencies, bins = len(coefficients), table.shape[1]
    place = (coefficients.abs() * BINS).long().clamp_max_(bins - 1)
    place += bins * torch.arange(frequencies, device=place.device)[:, None]
    histogram = place.flatten().bincount(minlength=frequencies * bins).reshape(frequencies, bins).float()
    sums = (histogram @ table.mT).tolist()
    counts = histogram.flip(1).cumsum(1).flip(1)[:, STEPS.start : STEPS.stop].tolist()
    steps = [step for row in zip(sums, counts, strict=True) if (step := _step_of_grid(*row))]
    return median_low(steps) if len(steps) >= FEWEST_GRIDS else 0.0


def _step_of_grid(sums: Sequence[float], counts: Sequence[float]) -> float:
    """The largest of ``STEPS`` that nearly all coefficients are multiples of, or 0.

    For each step: how many coefficients lie outside a quarter of it, and the sum of their cosines.
    """
    best, best_fit = 0, GRID_GATE
    for step, total, count in zip(reversed(STEPS), reversed(sums), reversed(counts), strict=True):
        if count < FEWEST_COEFFICIENTS:
            continue
        if total / count > best_fit:
            best, best_fit = step, total / count
        elif best:  # past the top; what comes below are fractions of the step, which fit as well
            break
    return float(best)


@cache
def _fits_of_bins() -> Tensor:
    """cos(2 pi c / t) for each step t and bin of coefficients c, 0 within a quarter of it: (steps, bins).

    A bin is a quarter of a grey level wide, so that step t leaves out just the first t bins.
    """
    largest = 127.5 * float(_cosines().abs().sum((1, 2, 3)).max())
    c = (torch.arange(math.ceil(largest * BINS) + 1) + 0.5) / BINS
    t = torch.tensor(STEPS)[:, None]
    return (2 * torch.pi * c / t).cos() * (c > t / 4)


@cache
def _cosines() -> Tensor:
    """Seven of JPEG's 64 cosines of unit norm, those of lowest frequency but the mean: (7, 1, 8, 8)."""
    sample = torch.arange(8, dtype=torch.float64) + 0.5
    waves = torch.stack([(torch.pi / 8 * k * sample).cos() * (0.5 if k else 8**-0.5) for k in range(3)])
    low = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
    return torch.stack([torch.outer(waves[u], waves[v]) for u, v in low])[:, None].float()


# --- Denoising -----------------------------------------------------------------------------------


def posterior_mean(prior: Denoiser, luma: Tensor, sigma: Tensor | float) -> Tensor:
    """E[clean | luma] under the prior, two looks: two network evaluations.

    The second look is at the mirrored result of the first, at a fifth of the noise but at least one
    grey level, and the mean of both is returned. It takes out what traces of noise the first left.

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
    """Stripes, noise and traces of compression taken out of a source, where there are any.

    Args:
        luma: shape (B, 1, H, W).
        prior: called for the prior if an image is to be denoised, not before.
        level: standard deviation of the noise, a number or shape (B,); "auto" to find it out, with
            compression, and to leave alone what is below the gates; "off" or 0 to leave everything alone.

    Raises:
        InputError: for any other level.
    """
    nothing = luma.new_zeros(len(luma))
    if level == "off":
        return Cleaned(luma, nothing, nothing, nothing)
    if level == "auto":
        found = estimate_noise(luma)
        noisy = found > NOISE_GATE
        told = torch.where(noisy, found, NOISE_OF_STEP * quantisation_step(luma))
        luma = remove_stripes(luma, found)
    else:
        found = told = _given(level).to(luma) + nothing
        noisy = told > 0
        if noisy.any():
            luma = torch.where(noisy[:, None, None, None], remove_stripes(luma, found), luma)
    denoised = told > 0
    if denoised.any():
        luma = luma.clone()
        luma[denoised] = posterior_mean(prior(), luma[denoised], told[denoised])
    return Cleaned(luma, found, told, torch.where(noisy, REMAINS * found, nothing))


def _given(level: object) -> Tensor:
    if isinstance(level, int | float | Tensor):
        deviation = torch.as_tensor(level)
        if bool(((deviation >= 0) & deviation.isfinite()).all()):
            return deviation
    raise InputError(f"noise level {level}: must be auto, off, or a standard deviation of at least 0")
