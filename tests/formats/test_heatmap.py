from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats.heatmap import check_std, coloured, draw_std, write_std


def test_both_files(tmp_path: Path) -> None:
    std = np.random.default_rng(0).random((30, 200)).astype(np.float32) * 0.05
    write_std(tmp_path / "spread.tif", std)
    with tifffile.TiffFile(tmp_path / "spread.tif") as file:
        samples = file.pages[0].asarray()
        assert "65535 is the range from black to white" in file.pages[0].description
    assert samples.dtype == np.uint16
    assert np.abs(samples / 65535 - std).max() <= 0.5 / 65535 + 1e-9
    with PILImage.open(tmp_path / "spread.png") as picture:
        assert picture.size[0] == 200
        assert picture.size[1] > 30  # the scale lies below
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spread.png", "spread.tif"]


def test_colours_tell_more_from_less() -> None:
    """Lightness grows with the value, so that the picture works in grey as well."""
    ramp = coloured(np.linspace(0, 1, 200)[None])
    lightness = ramp.astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness[0]) > -0.6).all()
    assert lightness[0, -1] - lightness[0, 0] > 150
    assert np.array_equal(coloured(np.array([[1.0]])), coloured(np.array([[7.0]])))


@pytest.mark.parametrize(("level", "end"), [(0.5, 1), (1.5, 2), (3.0, 5), (30.0, 50), (126.0, 128)])
def test_the_scale_holds_the_values(level: float, end: int) -> None:
    """A picture of one value has the colour that the scale's own end gives it."""
    std = np.full((40, 160), level / 255, np.float32)
    shown = np.asarray(draw_std(std))[20, 80]
    assert np.abs(shown - coloured(np.array([[level / end]]))[0, 0].astype(int)).max() <= 1


def test_places_that_will_not_do(tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    with pytest.raises(InputError, match=r"spread.png: the uncertainty is written as a 16-bit TIFF"):
        check_std(tmp_path / "spread.png", output)
    with pytest.raises(InputError, match=r"would take the place of .*out.png"):
        check_std(tmp_path / "out.tif", output)
    (tmp_path / "x.tif").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_std(tmp_path / "x.tif", output)
