"""Exposures and focus stacks held by hand: drawn scenes, turned, shifted and scaled by known maps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ddfm.demo.brackets import walked
from ddfm.errors import InputError
from ddfm.formats.pictures import from_pil
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.pictures.image import Image, from_array
from ddfm.registration.alignment import Floats, positions, transformed
from ddfm.registration.bring import middle
from ddfm.registration.estimate import LEAST_CONFIDENCE, register

Array = NDArray[np.float32]
SIZE = (200, 300)


@pytest.fixture(scope="module")
def exposures() -> list[Array]:
    """A walker in each of three exposures, at three places: (H, W, 3) in [0, 1]."""
    return [from_pil(picture).pixels for picture in walked((0.2, 0.5, 0.8), size=SIZE)]


def held(degrees: float, scale: float, shift: tuple[float, float]) -> Floats:
    turn = np.vstack(
        [cv2.getRotationMatrix2D(((SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2), degrees, scale), [0, 0, 1]]
    )
    turn[:2, 2] += shift
    return turn


def shaken(picture: Array, matrix: Floats) -> Array:
    moved = cv2.warpPerspective(
        picture, matrix, SIZE[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(moved, np.float32).clip(0, 1)


def error(flow: Array, matrix: Floats) -> float:
    here = positions((flow.shape[1], flow.shape[0]))
    return float(np.linalg.norm(here + flow - transformed(matrix, here), axis=2)[20:-20, 20:-20].mean())


SHAKE = held(2.5, 1.015, (7.0, -5.0))


@pytest.mark.parametrize("k", [0, 2])
def test_exposures_are_registered_though_somebody_walks(exposures: list[Array], k: int) -> None:
    registration = register(shaken(exposures[k], SHAKE), exposures[1], one_camera=True)
    assert error(registration.flow, SHAKE) < 0.5
    assert registration.confidence > LEAST_CONFIDENCE


def test_a_stack_is_registered_though_it_breathes(exposures: list[Array]) -> None:
    """To a tenth of a pixel: what is out of focus has the same brightness."""
    sharp = exposures[1]
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2.0), np.float32)
    near, far = sharp.copy(), sharp.copy()
    near[:, :150], far[:, 150:] = blurred[:, :150], blurred[:, 150:]
    assert error(register(shaken(near, SHAKE), far, one_camera=True).flow, SHAKE) < 0.15


def test_other_scenes_are_refused(exposures: list[Array]) -> None:
    rng = np.random.default_rng(0)
    other = cv2.GaussianBlur(rng.random((*SIZE, 3), np.float32), (0, 0), 3)
    other = (other - other.min()) / np.ptp(other)
    registration = register(np.asarray(other, np.float32), exposures[1], one_camera=True)
    with pytest.raises(InputError, match="does not register"):
        registration.check("a", "b")


def test_same_input_same_bytes(exposures: list[Array]) -> None:
    first, second = (
        register(shaken(exposures[0], SHAKE), exposures[1], one_camera=True).flow for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()


def grey(level: int, name: str, colour: bool = False) -> Image:
    ramp = np.clip(level + np.arange(20)[:, None] + np.zeros((20, 20)), 0, 255).astype(np.uint8)
    picture = np.dstack([ramp, ramp // 2, ramp]) if colour else ramp
    return from_array(picture, name)


def test_the_middle_one_stays() -> None:
    sources = [grey(level, str(level)) for level in (200, 10, 100)]
    assert middle(sources, by_brightness=True).name == "100"
    assert middle(sources, by_brightness=False).name == "10"
    assert middle(sources[:2], by_brightness=True).name == "10"
    assert middle([*sources, grey(240, "colour", colour=True)], by_brightness=True).name == "colour"


def test_sources_of_any_number_come_onto_the_middle_one(exposures: list[Array]) -> None:
    shakes = (SHAKE, np.eye(3), held(-2, 0.99, (-4.0, 6.0)))
    sources = [
        from_array(np.rint(255 * shaken(picture, shake)).astype(np.uint8), str(k))
        for k, (picture, shake) in enumerate(zip(exposures, shakes, strict=True))
    ]
    aligned = Fusion(Options(register="affine", task="exposure", sources=3)).aligned(sources)
    assert aligned[1] is sources[1]
    inner = np.s_[25:-25, 25:-25]
    for k in (0, 2):
        before, after = (np.abs(s[k].pixels - exposures[k])[inner].mean() for s in (sources, aligned))
        assert after < before / 4
