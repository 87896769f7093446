"""What moves between exposures is taken from one of them: a drawn room that somebody walks through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm import fuse
from ddfm.demo.brackets import silhouette, walked
from ddfm.formats.pictures import from_pil
from ddfm.fusion.ghosts import without_ghosts
from ddfm.fusion.moving import curve, moved

SIZE = (200, 300)
PLACES = [(0.2, 0.5, None), (0.2, None, 0.6), (None, 0.3, 0.6), (0.2, 0.5, 0.8)]
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def empty() -> list[PILImage.Image]:
    """The three exposures of the room with nobody in it."""
    return walked((None, None, None), size=SIZE)


def fused(sources: list[PILImage.Image], deghost: str = "auto") -> Array:
    result = fuse(*sources, task="exposure", steps=0, noise="off", deghost=deghost)
    return np.asarray(result.to_array(), float)


def is_there(picture: Array, room: Array, place: float) -> float:
    """How much of a walker is at a place: 0 if it looks like the empty room, 1 like one who stood still."""
    inside = silhouette(place, SIZE) > 0.9
    standing = fused(walked((place, place, place), size=SIZE), "off")
    away, near = (np.abs(picture - other).mean(2)[inside].mean() for other in (room, standing))
    return float(away / (away + near))


@pytest.mark.parametrize("places", PLACES)
def test_exactly_one_walker(places: tuple[float | None, ...], empty: list[PILImage.Image]) -> None:
    room, picture = fused(empty, "off"), fused(walked(places, size=SIZE))
    seen = sorted(is_there(picture, room, place) for place in places if place is not None)
    assert seen[-1] > 0.75
    assert all(value < 0.25 for value in seen[:-1])


def test_without_it_there_are_ghosts(empty: list[PILImage.Image]) -> None:
    places = (0.2, 0.5, 0.8)
    room, picture = fused(empty, "off"), fused(walked(places, size=SIZE), "off")
    assert sorted(is_there(picture, room, place) for place in places)[-2] > 0.3


def test_no_halo_around_the_walker(empty: list[PILImage.Image]) -> None:
    """Beside the walker that is left the room looks as it does without anybody."""
    places = (0.2, 0.5, 0.8)
    picture, room = fused(walked(places, size=SIZE)), fused(empty, "off")
    near = np.zeros(SIZE, bool)
    for place in places:
        near |= silhouette(place, SIZE) > 0
    around = (
        np.asarray(torch.nn.functional.max_pool2d(torch.from_numpy(near)[None].float(), 21, 1, 10)[0]) > 0
    )
    ring = around & ~near
    assert np.abs(picture - room).mean(2)[ring].mean() < 4


def test_what_stands_still_is_left_alone(empty: list[PILImage.Image]) -> None:
    sources = [from_pil(picture) for picture in empty]
    still = without_ghosts(sources)
    assert (still.kept, still.shares) == (None, [0, 0, 0])
    assert all(a is b for a, b in zip(still.sources, sources, strict=True))
    assert fused(empty).tobytes() == fused(empty, "off").tobytes()


def test_noise_does_not_move(empty: list[PILImage.Image]) -> None:
    rng = np.random.default_rng(0)
    noisy = [
        from_pil(
            PILImage.fromarray(np.clip(np.asarray(p) + rng.normal(0, 6, (*SIZE, 3)), 0, 255).astype(np.uint8))
        )
        for p in empty
    ]
    assert without_ghosts(noisy).kept is None


def test_a_pixel_s_shake_does_not_move(empty: list[PILImage.Image]) -> None:
    shaken = [from_pil(empty[0]), from_pil(PILImage.fromarray(np.roll(np.asarray(empty[1]), 1, (0, 1))))]
    assert without_ghosts(shaken).kept is None


def test_pixels_beside_what_moves_stay_to_the_byte() -> None:
    sources = [from_pil(picture) for picture in walked((0.2, 0.5, None), size=SIZE)]
    still = without_ghosts(sources)
    assert still.kept is not None
    far = np.s_[:, 230:]  # right of both walkers
    for before, after in zip(sources, still.sources, strict=True):
        assert (before.pixels[far] == after.pixels[far]).all()
    assert still.sources[still.kept] is sources[still.kept]
    assert [share > 0 for share in still.shares] == [k != still.kept for k in range(3)]


def test_the_order_of_the_sources_does_not_matter() -> None:
    pictures = walked((0.2, 0.5, None), size=SIZE)
    assert fused(pictures).tobytes() == fused([pictures[k] for k in (2, 0, 1)]).tobytes()


def test_the_result_says_what_was_done() -> None:
    pictures = walked((None, 0.3, 0.6), size=SIZE)
    said = fuse(*pictures, task="exposure", steps=0, noise="off").settings["moving"]
    assert said["kept"] in (2, 3)
    assert said["replaced"][said["kept"] - 1] == 0
    assert 0.03 < max(said["replaced"]) < 0.2
    assert fuse(*pictures, task="exposure", steps=0, deghost="off").settings["moving"] is None
    assert fuse(*pictures[:2], task="focus", steps=0).settings["moving"] is None


def test_a_curve_is_the_camera_s() -> None:
    """Of exposures without noise that differ by a gamma curve it is that curve, where levels occur."""
    rng = np.random.default_rng(1)
    dark = torch.from_numpy(rng.uniform(0.1, 0.9, (1, 200, 200)).astype(np.float32))
    known = curve(dark, dark**0.5, torch.ones(200, 200, dtype=torch.bool))
    at = np.arange(40, 220)
    assert np.allclose(known.median[0, at], (at / 255) ** 0.5, atol=0.012)
    assert not moved(dark, dark**0.5).any()


def test_a_grey_source_among_coloured_ones_is_compared_as_grey(empty: list[PILImage.Image]) -> None:
    mixed = [empty[0].convert("L"), *walked((None, 0.5, None), size=SIZE)[1:]]
    still = without_ghosts([from_pil(picture) for picture in mixed])
    assert still.kept is not None
    assert [source.is_colour for source in still.sources] == [False, True, True]
