"""What ``ddfm info`` says of a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage
from PIL import ImageCms

from ddfm.errors import InputError
from ddfm.jobs.info import describe
from tests.conftest import picture
from tests.formats.medical import OBLIQUE, hounsfield, write_nifti, write_series


def test_a_photograph(tmp_path: Path) -> None:
    exif = PILImage.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = PILImage.fromarray(picture(40, 64, 3, np.uint8))
    photo.save(tmp_path / "a.jpg", exif=exif, icc_profile=profile)
    info = describe(tmp_path / "a.jpg")
    assert (info.kind, info.width, info.height, info.slices) == ("JPEG", 40, 64, 1)
    assert (info.colour, info.alpha, info.depth, info.orientation) == (True, False, "uint8", 6)
    assert (info.value_range, info.icc_profile, info.noise) == ((0, 255), True, 0)
    assert json.loads(json.dumps(info.as_dict()))["width"] == 40
    assert info.lines()[0] == f"{tmp_path / 'a.jpg'}: JPEG"
    assert "40x64, colour, uint8, colour profile" in info.lines()[1]


def test_a_raw_thermal_frame(tmp_path: Path) -> None:
    counts = (7000 + picture(40, 64, 1, np.uint16) // 50).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", counts)
    info = describe(tmp_path / "a.tif")
    assert (info.smallest, info.largest, info.value_range) == (7000, 8310, (0, 16383))
    text = "\n".join(info.lines())
    assert "largest sample 8310: taken for 14 bits" in text
    assert "8% of the range; --range data" in text
    used = describe(tmp_path / "a.tif", "data")
    assert used.value_range == (7000, 8310)
    assert "of the range" not in "\n".join(used.outlook)
    with pytest.warns(UserWarning, match="lie outside"):
        assert any("are cut off" in line for line in describe(tmp_path / "a.tif", (7500, 9000)).lines())


def test_a_noisy_stack(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stack = np.stack([picture(96, 96, 1, np.uint8, seed) / 2 + 60 for seed in range(3)])
    stack = (stack + rng.normal(0, 12, stack.shape)).clip(0, 255).astype(np.uint8)
    options = {"resolution": (100, 50), "resolutionunit": 3}
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    info = describe(tmp_path / "a.tif")
    assert (info.kind, info.slices, info.resolution) == ("TIFF", 3, (100, 50, "centimetre"))
    assert info.noise == pytest.approx(12, rel=0.2)
    assert any("denoised first" in line for line in info.lines())
    assert any("multi-page TIFF of uint8" in line for line in info.lines())


def test_volumes(tmp_path: Path) -> None:
    hu = hounsfield(20)
    info = describe(write_nifti(tmp_path / "a.nii.gz", hu.transpose(2, 1, 0), slope=2.0, intercept=1.0))
    assert (info.kind, info.width, info.height, info.slices) == ("NIfTI", 24, 20, 20)
    assert (info.smallest, info.largest, info.orientation) == (-1999, 4001, "LAS")
    assert info.affine is not None
    assert np.allclose(info.affine, OBLIQUE)
    assert info.stored == "int16, slope 2, intercept 1"
    stored = (hu[:4] + 1024).astype(np.uint16)
    write_series(tmp_path / "ct", stored, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024)
    info = describe(tmp_path / "ct")
    assert info.stored == "12 of 16 bits, unsigned, MONOCHROME2, slope 1, intercept -1024"
    assert info.spacing == pytest.approx((0.9, 0.7, 2.5))
    assert any("patient tags left out" in line for line in info.lines())
    nowhere = describe(write_nifti(tmp_path / "b.nii", hu, None))
    assert (nowhere.orientation, nowhere.spacing) == (None, None)
    assert "  orientation: unknown" in nowhere.lines()


def test_what_fusion_refuses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    for path, message in ((tmp_path, "folder without DICOM files"), (tmp_path / "a.png", "is not a PNG")):
        with pytest.raises(InputError, match=message):
            describe(path)
    PILImage.fromarray(picture(20, 20, 1, np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="no display window"):
        describe(tmp_path / "b.png", "window")
