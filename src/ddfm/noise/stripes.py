"""Remove the offsets that a thermal camera's readout adds to whole columns and rows.

Luminance has shape (B, 1, H, W) and range [-1, 1]; standard deviations are in the same units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddfm.noise.level import GREY_LEVEL, estimate_noise

STRIPE_GATE = 2.25 * GREY_LEVEL  # weaker stripes stay: the scene's own vertical edges look like them
STRIPE_CORRELATION = 0.5  # of the two halves' profiles, above which they have stripes in common
STRIPE_LAGS = 4  # columns between those compared, at most: further away the scene has changed
LEAST_WIDTH = 16  # columns, below which profiles are too short to tell stripes from the scene
STD_OF_MEDIAN = 1.4826  # standard deviation of a normal distribution whose absolute values have median 1
PROFILE_LIMIT = 2  # standard deviations, to which profiles are limited: a few high edges weigh little
# Variance of second differences of independent offsets, in units of that of the offsets: 1 + 4 + 1, of which
# the limit at two standard deviations leaves 0.774.
SECOND_DIFFERENCES = 6 * 0.774
EDGE = 10 * GREY_LEVEL  # difference of neighbours that is an edge, however little noise there is
EDGE_NOISE = 3  # standard deviations of the difference of two noisy pixels, above which it is an edge
FITS = 4  # least squares solutions, each weighted by how far the one before was missed
OUTLIER = 4  # standard deviations from the fit, from which on a difference has no weight
SCENE_STD = GREY_LEVEL  # by which the mean difference of neighbouring columns changes with the scene
NOISE_SHARE = 0.02  # of the noise's variance, by which noise adds to that change
MEAN_STEPS = 3  # iterations of the biweight mean, which starts close to it, at the median
LEAST_MISFIT = 1e-9  # where most differences agree to the bit, as in drawn pictures, the others are outliers
LEAST_WEIGHT = 1e-3  # rows; keeps a column without any usable row from dividing by 0


def remove_stripes(luma: Tensor, sigma: Tensor | None = None) -> Tensor:
    """Remove the offsets that a sensor's readout adds to whole columns and whole rows.

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
    """Return the standard deviation of the offsets of whole columns; 0 if there are no stripes.

    Stripes are common to the upper and the lower half of an image. A half's profile is the mean of second
    differences along its rows. The covariance of both profiles holds no noise, and of the scene only vertical
    edges that reach into both halves. A few such edges weigh little, since profiles are limited to two
    standard deviations. Many, as of a palisade, have a lower correlation than stripes.

    Args:
        image: shape (H, W).
        sigma: standard deviation of the noise.
    """
    half = image.shape[0] // 2
    limit = _limit(sigma)
    step = image.diff(dim=1).clamp(-limit, limit)
    if half < 1 or image.shape[1] < LEAST_WIDTH:
        return 0.0
    profiles = torch.stack([step[:half].mean(0), step[-half:].mean(0)]).diff(dim=1)
    deviation = STD_OF_MEDIAN * profiles.abs().median(1, keepdim=True).values
    upper, lower = profiles.clamp(-PROFILE_LIMIT * deviation, PROFILE_LIMIT * deviation)
    covariance = float((upper * lower).mean())
    scale = float(((upper**2).mean() * (lower**2).mean()).sqrt())
    if covariance <= STRIPE_CORRELATION * scale:
        return 0.0
    return math.sqrt(covariance / SECOND_DIFFERENCES)


def column_offsets(image: Tensor, sigma: float, deviation: float) -> Tensor:
    """Estimate the offset of every column, mean 0, shape (W,).

    Robust means over the rows of x[:, j + k] - x[:, j], k = 1 to 4, measure s[j + k] - s[j]. Their error
    grows with k, since the scene changes too. The offsets s themselves are taken for independent, with the
    given standard deviation. The least squares solution is found four times, with less weight each time for
    differences that disagree with it: vertical edges, which are no stripes.

    Args:
        image: shape (H, W).
        sigma: standard deviation of the noise.
        deviation: standard deviation of the offsets.
    """
    height, width = image.shape
    lags = range(1, min(STRIPE_LAGS, width - 1) + 1)
    differences = [_robust_mean(image[:, k:] - image[:, :-k], _limit(sigma)).double() for k in lags]
    offsets = torch.zeros(width, dtype=torch.float64, device=image.device)
    for iteration in range(FITS):
        matrix = torch.eye(width, dtype=torch.float64, device=image.device) / deviation**2
        vector = torch.zeros_like(offsets)
        for k, difference in zip(lags, differences, strict=True):
            variance = k * (SCENE_STD**2 + NOISE_SHARE * sigma**2) + 2 * sigma**2 / height
            error = difference - (offsets[k:] - offsets[:-k])
            misfit = max(STD_OF_MEDIAN * float(error.abs().median()), LEAST_MISFIT)
            bound = OUTLIER * (misfit if iteration == 0 else math.sqrt(misfit**2 + variance))
            weight = (1 - (error / bound) ** 2).clamp_min(0) ** 2 / (variance * len(lags))
            column = torch.arange(width - k, device=image.device)
            matrix[column, column] += weight
            matrix[column + k, column + k] += weight
            matrix[column, column + k] -= weight
            matrix[column + k, column] -= weight
            vector[k:] += weight * difference
            vector[:-k] -= weight * difference
        offsets = torch.linalg.solve(matrix, vector)
    return (offsets - offsets.mean()).to(image)


def _limit(sigma: float) -> float:
    """Return the difference of neighbours above which it is an edge, not noise."""
    return max(EDGE, EDGE_NOISE * math.sqrt(2) * sigma)


def _robust_mean(values: Tensor, limit: float) -> Tensor:
    """Return Tukey's biweight mean over the rows, started at the median."""
    centre = values.median(0).values
    for _ in range(MEAN_STEPS):
        weight = (1 - ((values - centre) / limit) ** 2).clamp_min(0) ** 2
        centre = centre + (weight * (values - centre)).sum(0) / weight.sum(0).clamp_min(LEAST_WEIGHT)
    return centre
