"""Sources with the noise of a camera, or behind a soft lens, through the whole of `fuse`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ddfm import fuse
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from tests.noise.test_camera import noisy, steps

SIZE = (192, 256)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


def grey(luma: Any) -> NDArray[np.uint8]:
    return np.rint((luma[0, 0].numpy() + 1) * 127.5).astype(np.uint8)


def other() -> NDArray[np.uint8]:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.where((x - 128) ** 2 + (y - 96) ** 2 < 900, 220, 60 + x // 8).astype(np.uint8)


def rms(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


def test_colours_tell_noise_that_luminance_hides(prior: Prior) -> None:
    """Noise that neighbours share is seen in the colours, and taken out of them and of luminance."""
    clean = np.repeat(grey(steps(*SIZE))[..., None], 3, 2)
    noise = [gaussian_filter(np.random.default_rng(k).normal(0, 40, SIZE), 0.8) for k in range(3)]
    photograph = np.rint(clean + np.stack(noise, 2)).clip(0, 255).astype(np.uint8)
    options: dict[str, Any] = {"prior": prior, "steps": 0, "task": "infrared", "stretch": "none"}
    result = fuse(other(), photograph, **options)
    assert result.settings["denoised"][0] == 0
    assert result.settings["denoised"][1] > 5
    wanted = fuse(other(), clean, **options).to_array()
    left = fuse(other(), photograph, noise="off", **options).to_array()
    assert rms(result.to_array(), wanted) < 0.7 * rms(left, wanted)


def test_a_blurred_source_is_sharpened_whatever_the_order(prior: Prior) -> None:
    sharp = grey(steps(*SIZE))
    options: dict[str, Any] = {"prior": prior, "steps": 0, "task": "infrared", "stretch": "none"}
    soft = np.rint(gaussian_filter(sharp.astype(float), 1.5)).astype(np.uint8)
    wanted = fuse(other(), sharp, **options).to_array()
    made = fuse(other(), soft, deblur=[0, 1.5], **options)
    assert made.settings["deblur"] == [0, 1.5]
    assert rms(made.to_array(), wanted) < 0.7 * rms(fuse(other(), soft, **options).to_array(), wanted)
    turned = fuse(soft, other(), deblur=[1.5, 0], **options).to_array()
    assert rms(turned, wanted) < 0.7 * rms(fuse(soft, other(), **options).to_array(), wanted)


@pytest.mark.slow
def test_uncertainty_knows_of_camera_noise_and_blur(prior: Prior) -> None:
    """Noisier, or more blurred, is less certain."""
    clean = grey(steps(*SIZE))
    options: dict[str, Any] = {"prior": prior, "steps": 0, "task": "infrared", "uncertainty": True}
    stds = []
    for source, blur in ((clean, 0.0), (grey(noisy(steps(*SIZE), 2, True)), 0.0), (clean, 2.0)):
        soft = gaussian_filter(source.astype(float), blur) if blur else source
        result = fuse(other(), np.rint(soft).astype(np.uint8), deblur=[0, blur], **options)
        assert result.std is not None
        stds.append(float(result.std.mean()))
    assert stds[1] > 2 * stds[0]
    assert stds[2] > 2 * stds[0]
