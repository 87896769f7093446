"""Videos of soft lenses and of sensors with missing pixels: steady, and like the pictures of each frame."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ddfm import InputError
from ddfm.fusion.masks import Mask, holes_of_masks
from ddfm.fusion.options import Options
from ddfm.likelihoods.tasks import TASKS
from ddfm.noise.level import GREY_LEVEL
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from ddfm.video import fuse_videos
from ddfm.video.steady import SteadyFusion
from tests.noise.test_edges import as_luma, scene
from tests.video.test_video import write_video

FRAMES = 6
SIZE = (160, 200)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior()


def missing() -> NDArray[np.bool_]:
    """Return single pixels, a line, and a block that the other source shows."""
    mask = np.random.default_rng(3).random(SIZE) < 0.01
    mask[:, 120:122] = True
    mask[30:60, 20:60] = True
    return mask


def frames(picture: NDArray[Any], noise: float) -> list[Tensor]:
    """Return frames of a scene that stands still, beside a ramp, with noise of their own."""
    other = np.tile(np.linspace(20, 230, SIZE[1]), (SIZE[0], 1))
    made = []
    for seed in range(FRAMES):
        random = np.random.default_rng(seed)
        noisy = [x + random.normal(0, noise, SIZE) for x in (picture, other)]
        made.append(torch.cat([as_luma(x) for x in noisy], 1))
    return made


def fused(sources: list[Tensor], model: Any, **options: Any) -> tuple[list[Tensor], SteadyFusion]:
    steady = SteadyFusion(TASKS["infrared"], model, stretch=False, **options)
    return [steady.fuse(source, 0.04)[0] for source in sources], steady


def flicker(made: list[Tensor]) -> float:
    """Return how much frames of a still scene differ from those before, in grey levels."""
    return float(torch.stack([(b - a).abs().mean() for a, b in pairwise(made[1:])]).mean()) * 255


def test_missing_pixels_bring_no_flicker(prior: Prior) -> None:
    whole, mask = frames(scene(), 2), missing()
    holes = holes_of_masks([Mask.of(mask, "mask"), None])
    hidden = [torch.where(torch.from_numpy(np.stack([mask, mask & False]))[None], -1, x) for x in whole]
    wanted, _ = fused(whole, lambda: prior)
    made, _ = fused(hidden, lambda: prior, holes=holes)
    assert flicker(made) < 1.1 * flicker(wanted) + 0.05
    known = ~torch.from_numpy(mask)[None, None]
    narrow = torch.from_numpy(mask)[None, None] & (torch.arange(SIZE[1]) > 70)
    for where, most in ((known, 4), (narrow, 8)):
        assert (made[-1] - wanted[-1])[where].abs().mean() * 255 < most


def test_a_soft_lens_is_found_once_and_taken_out_without_flicker(prior: Prior) -> None:
    soft = frames(gaussian_filter(scene(), 2), 2)
    wanted, _ = fused(frames(scene(), 2), lambda: prior)
    left, _ = fused(soft, lambda: prior)
    made, steady = fused(soft, lambda: prior, deblur="auto")
    assert steady.blurs is not None
    assert steady.blurs == [pytest.approx(2, rel=0.2), 0]
    told, _ = fused(soft, lambda: prior, deblur=steady.blurs)
    assert all(torch.equal(a, b) for a, b in zip(made, told, strict=True))
    assert (made[-1] - wanted[-1]).square().mean() < 0.7 * (left[-1] - wanted[-1]).square().mean()
    assert flicker(made) < 3 * flicker(left) + 2 * GREY_LEVEL


def test_files_with_masks(tmp_path: Path) -> None:
    """Where a mask hides a black frame around the first video, the second one shows through."""
    size = (48, 64)
    x = np.tile(np.linspace(40, 200, size[1]), (size[0], 1)).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[:, :30] = 255
    a = write_video(
        tmp_path / "a.mkv", [np.where(mask, 0, 255 - x).astype(np.uint8)] * 3, codec="ffv1", pixels="gray"
    )
    b = write_video(tmp_path / "b.mkv", [x] * 3, codec="ffv1", pixels="gray")
    options = Options(task="medical", steps=0, noise="off", stretch="none", masks=[mask, None])
    result = fuse_videos(a, b, tmp_path / "out.mkv", options)
    assert result.settings["prior"] is None
    with av.open(str(result.path)) as container:
        (*_, last) = (frame.to_ndarray(format="gray") for frame in container.decode(video=0))
    assert np.abs(last[:, :10].astype(int) - x[:, :10]).mean() < 4
    with pytest.raises(InputError, match=r"is 64x47 pixels and .*a\.mkv, which it is for, 64x48"):
        fuse_videos(a, b, tmp_path / "no.mkv", options.but(masks=[mask[1:], None]))
    assert not (tmp_path / "no.mkv").exists()
