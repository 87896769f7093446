"""Single defective pixels: found where they are, and stars, glints, noise and clean pictures left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

from ddfm.formats.pictures import images_by_stem, read_image
from ddfm.noise.defects import FEWEST, find_defects
from ddfm.pictures.colour import luminance
from tests.noise.test_camera import steps

SIZE = (192, 256)
VALUES = {"dead": (-1.0, -1.0), "hot": (1.0, 1.0), "mixed": (-1.0, 1.0)}
CLEAN = ("ivf/tno/ir", "ivf/tno/vi", "ivf/msrs/ir", "vifb/ir", "mef/mefb/under", "mff/mfifb/near")


def scene() -> Tensor:
    """Patches of grey, with a little noise."""
    noise = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    return steps(*SIZE) * 0.7 + 1 / 127.5 * noise


def drawn(share: float, seed: int = 0) -> Tensor:
    return torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(seed)) < share


def with_defects(clean: Tensor, where: Tensor, kind: str) -> Tensor:
    random = torch.rand(clean.shape, generator=torch.Generator().manual_seed(1))
    low, high = VALUES[kind]
    return torch.where(where, torch.where(random < 0.5, low, high), clean)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("share", [0.0005, 0.002, 0.01])
def test_defects_are_found_and_nothing_else(kind: str, share: float) -> None:
    where = drawn(share)
    found = find_defects(with_defects(scene(), where, kind))
    assert (found & where).sum() > 0.85 * where.sum()  # those on an edge between patches stay
    assert not (found & ~where).any()


def test_what_is_found_does_not_depend_on_how_the_camera_was_held() -> None:
    source = with_defects(scene(), drawn(0.005), "mixed")
    found = find_defects(source)
    assert found.any()
    for axes in ((2,), (3,), (2, 3)):
        assert torch.equal(find_defects(source.flip(axes)), found.flip(axes))
    assert torch.equal(find_defects(source.mT), found.mT)
    assert torch.equal(find_defects(-source), found)


def test_pictures_of_a_batch_are_judged_each_by_itself() -> None:
    bad = with_defects(scene(), drawn(0.002), "dead")
    both = find_defects(torch.cat([scene(), bad]))
    assert not both[0].any()
    assert torch.equal(both[1:], find_defects(bad))


def test_a_few_or_far_too_many_are_left_alone() -> None:
    few = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    for k in range(FEWEST - 1):
        few[..., 16 + 32 * k, 48] = True
    assert not find_defects(with_defects(scene(), few, "dead")).any()
    few[..., 16, 80] = True
    assert torch.equal(find_defects(with_defects(scene(), few, "dead")), few)
    assert not find_defects(with_defects(scene(), drawn(0.05), "mixed")).any()


@pytest.mark.parametrize("sigma", [1, 5, 20, 40])
def test_noise_has_no_defects(sigma: float) -> None:
    noise = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(3))
    assert not find_defects((steps(*SIZE) + sigma / 127.5 * noise).clamp(-1, 1)).any()


def stars(width: float, count: int = 150) -> Tensor:
    """Draw points of light of many brightnesses as a lens spreads them over square pixels: width at half."""
    random = np.random.default_rng(0)
    light, scale = np.full(SIZE, 15.0), width / 2.355 * 2**0.5

    def share(side: int, middle: float) -> NDArray[np.float64]:
        edges = np.arange(side + 1) - 0.5 - middle
        return np.asarray(np.diff(erf(edges / scale)) / 2)

    for _ in range(count):
        y, x = random.uniform(0, SIZE[0]), random.uniform(0, SIZE[1])
        light += (40 + 20 * random.pareto(1.2)) * share(SIZE[0], y)[:, None] * share(SIZE[1], x)
    seen = np.rint(light + random.normal(0, 1.5, SIZE)).clip(0, 255)
    return torch.from_numpy(seen / 127.5 - 1).float()[None, None]


@pytest.mark.parametrize("width", [1.0, 1.5, 2.0])
def test_stars_stay_and_dead_pixels_among_them_go(width: float) -> None:
    sky = stars(width)
    assert not find_defects(sky).any()
    where = drawn(0.002) & (torch.nn.functional.max_pool2d(sky, 3, 1, 1) < -0.7)
    dead = with_defects(sky.clamp_min(-0.4), where, "dead")
    assert torch.equal(find_defects(dead), where)


def test_clean_pictures_have_none(data: Path) -> None:
    for name in CLEAN:
        for path in list(images_by_stem(data / name).values())[::4]:
            luma = 2 * luminance(torch.from_numpy(read_image(path).pixels).movedim(-1, 0)[None]) - 1
            assert not find_defects(luma).any(), path
