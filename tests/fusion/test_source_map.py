"""Where each pixel of a focus stack came from, and lamps that are out of focus."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm import InputError, fuse
from ddfm.demo.rendering import developed, pink_noise
from ddfm.formats.labels import check_labels, write_labels
from ddfm.fusion.options import Options
from tests.conftest import Command

Array = NDArray[np.float32]
HEIGHT, WIDTH = 96, 160


def texture(seed: int) -> Array:
    noise = pink_noise(np.random.default_rng(seed))[:HEIGHT, :WIDTH]
    return np.repeat((0.2 + 0.06 * noise).clip(0.01, 1)[..., None], 3, 2).astype(np.float32)


def halves() -> list[NDArray[np.uint8]]:
    """A texture, in focus on the left, in the middle and on the right."""
    sharp = texture(1)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 3.0), np.float32)
    third = np.arange(WIDTH)[None, :, None] * 3 // WIDTH
    return [np.asarray(developed(np.where(third == k, sharp, blurred))) for k in range(3)]


def test_the_map_names_the_source_in_focus() -> None:
    sources = halves()
    result = fuse(*sources, task="focus", steps=0, noise="off", source_map=True)
    assert result.source_map is not None
    assert result.source_map.shape == (HEIGHT, WIDTH)
    assert result.source_map.dtype == np.uint8
    for k, part in enumerate((np.s_[:, :45], np.s_[:, 62:98], np.s_[:, 115:])):
        assert (result.source_map[part] == k + 1).mean() > 0.98
    turned = fuse(*sources[::-1], task="focus", steps=0, noise="off", source_map=True).source_map
    assert turned is not None
    assert (turned == 4 - result.source_map).mean() > 0.999
    assert fuse(*sources, task="focus", steps=0, noise="off").source_map is None


def test_a_map_is_written_with_the_numbers_as_samples(tmp_path: Path) -> None:
    labels = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 + 1).astype(np.uint8)
    for name in ("a.png", "b.tif"):
        check_labels(tmp_path / name)
        write_labels(tmp_path / name, labels)
    with PILImage.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        assert (np.asarray(picture) == labels).all()
        assert len(set(picture.convert("RGB").get_flattened_data())) == 3
    assert (tifffile.imread(tmp_path / "b.tif") == labels).all()
    with pytest.raises(InputError, match=r"a\.jpg: .*name a \.png or \.tif"):
        check_labels(tmp_path / "a.jpg")


def test_the_command_writes_the_map(ddfm: Command, tmp_path: Path) -> None:
    paths = []
    for k, picture in enumerate(halves()):
        paths.append(str(tmp_path / f"{k}.png"))
        PILImage.fromarray(picture).save(paths[-1])
    done = ddfm(
        "fuse", *paths, "-o", str(tmp_path / "o.png"), "--task", "focus", "--steps", "0",
        "--source-map", str(tmp_path / "map.png"),
    )  # fmt: skip
    assert done.returncode == 0
    assert set(np.unique(np.asarray(PILImage.open(tmp_path / "map.png")))) == {1, 2, 3}


def test_forms_that_choose_no_source_have_no_map() -> None:
    with pytest.raises(InputError, match="source map: is for form ddfm"):
        Options(form="paper", source_map=True)


@pytest.mark.parametrize("strength", [4.0, 10.0, 30.0])
def test_no_ring_around_a_lamp(strength: float) -> None:
    """A lamp behind, many times brighter than white, whose disc in the near picture is clipped, too."""
    far = texture(2) * 0.6
    for x, y, radius in ((90, 30, 1), (125, 60, 2), (70, 75, 2)):
        cv2.circle(far, (x, y), radius, (strength, 0.9 * strength, 0.8 * strength), -1, cv2.LINE_AA)
    near = texture(3) * 1.4
    front = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    front[:, :40] = 1
    y, x = np.mgrid[-8:9, -8:9]
    disc = np.clip(6.5 - np.hypot(x, y), 0, 1)
    disc /= disc.sum()

    def blur(picture: Array) -> Array:
        blurred = cv2.filter2D(picture, -1, disc, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(blurred, np.float32).reshape(picture.shape)

    on_near = developed(blur(far) * (1 - front) + near * front)
    on_far = developed(far * (1 - blur(front)) + blur(near * front))
    fused = fuse(on_near, on_far, task="focus", steps=0, noise="off").to_array()
    error = np.abs(fused.astype(float) - np.asarray(on_far, float)).mean(2)[:, 55:]
    assert error.mean() < 1
    assert (error > 10).mean() < 0.01
    there = np.abs(fused.astype(float) - np.asarray(on_near, float)).mean(2)[:, :30]
    assert there.mean() < 2  # and what is in front stays
