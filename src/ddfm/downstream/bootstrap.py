"""How far a number would move with other pictures, or with another seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Score = Callable[[NDArray[np.intp]], float]
"""Numbers of pictures, which may come twice, to a value."""

DRAWS = 1000
SEED = 3407
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % bootstrap interval over pictures."""

    value: float
    low: float
    high: float


def interval(score: Score, pictures: int, draws: int = DRAWS) -> Interval:
    """Return the value over all pictures, and its percentile interval (Efron 1979) over resamples of them.

    Resamples depend on the number of pictures alone, so methods are compared on the same ones.
    """
    return interval_of(score(np.arange(pictures)), samples(score, pictures, draws))


def difference(a: Score, b: Score, pictures: int, draws: int = DRAWS) -> Interval:
    """Return how much better ``a`` is than ``b``, with the interval of the paired difference."""
    return interval(lambda chosen: a(chosen) - b(chosen), pictures, draws)


def samples(score: Score, pictures: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """Return the score of each resample, (draws,)."""
    generator = np.random.default_rng(SEED)
    return np.array([score(generator.integers(pictures, size=pictures)) for _ in range(draws)])


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation (n - 1) over seeds; 0 for a single one."""
    array = np.asarray(values, np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def interval_of(value: float, values: NDArray[np.float64]) -> Interval:
    """Return a value with the percentile interval of what resamples have instead; NaN counts as none."""
    values = values[~np.isnan(values)]  # a resample may show none of the objects
    if not values.size:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(value, float(low), float(high))
