"""Volumes: NIfTI and DICOM come back in place, in their units, without the patient."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_rescale

import ddfm
from ddfm.errors import InputError
from ddfm.formats.volumes import (
    Volume,
    axis_codes,
    check_same_grid,
    check_volume_writable,
    is_volume,
    read_volume,
    write_volume,
)
from ddfm.jobs.slices import noise_levels, shared_scales
from ddfm.jobs.volumes import fused_slices
from ddfm.likelihoods.tasks import TASKS
from ddfm.noise.level import GREY_LEVEL
from ddfm.pictures.image import Image, from_array
from tests.conftest import examples, picture
from tests.formats.medical import (
    COSINES,
    GAP,
    OBLIQUE,
    PATIENT,
    POSITION,
    SPACING,
    hounsfield,
    write_nifti,
    write_series,
)

HU = hounsfield(5)


def ct(folder: Path, hu: NDArray[Any] = HU, **tags: Any) -> Path:
    """As scanners write it: 12 of 16 bits, unsigned, with an offset."""
    tags = {"BitsStored": 12, "RescaleSlope": 1, "RescaleIntercept": -1024, **tags}
    return write_series(folder, (hu + 1024).astype(np.uint16), **tags)


def mean(slices: list[Image]) -> Image:
    return replace(slices[0], pixels=np.mean([image.pixels for image in slices], 0, dtype=np.float32))


def read_files(folder: Path) -> list[pydicom.Dataset]:
    """By pydicom, along z of the test series' normal."""
    return sorted((pydicom.dcmread(f) for f in folder.iterdir()), key=lambda d: -d.ImagePositionPatient[0])


def in_units(dataset: pydicom.Dataset) -> NDArray[Any]:
    """By pydicom's own reader."""
    return np.asarray(apply_rescale(dataset.pixel_array, dataset))


# --- Geometry and values -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept"),
    [
        ("u1", None, None),
        ("i2", None, None),
        ("u2", None, None),
        ("i2", 0.5, -7.0),
        ("i4", None, None),
        ("f4", None, None),
        ("f8", None, None),
        ("i1", 2.0, 10.0),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_comes_back(
    tmp_path: Path, dtype: str, slope: float | None, intercept: float | None, suffix: str
) -> None:
    samples = hounsfield(24, 20, 18)
    stored = (samples / 30).astype(dtype) if dtype in ("i1", "f4", "f8") else samples.astype(dtype)
    if dtype == "u1":
        stored = (samples // 20).clip(0, 255).astype(np.uint8)
    fields = {"slope": slope, "intercept": intercept, "xyzt_units": 10, "cal_min": -5.0, "cal_max": 9.0}
    a = nibabel.load(write_nifti(tmp_path / f"a{suffix}", stored, **fields))
    volume = read_volume(tmp_path / f"a{suffix}")
    assert volume.shape == (18, 20, 24)
    assert np.allclose(volume.values()[..., 0].transpose(2, 1, 0), a.get_fdata(), atol=1e-4)
    check_volume_writable(tmp_path / f"b{suffix}", [volume])
    write_volume(tmp_path / f"b{suffix}", volume)
    b = nibabel.load(tmp_path / f"b{suffix}")
    assert isinstance(a, nibabel.Nifti1Image)
    assert isinstance(b, nibabel.Nifti1Image)
    assert np.array_equal(a.affine, b.affine)
    assert b.header.get_xyzt_units() == ("mm", "sec")
    for field in ("datatype", "pixdim", "qform_code", "sform_code", "cal_min", "cal_max"):
        assert np.array_equal(a.header[field], b.header[field]), field
    if stored.dtype.kind == "f":
        assert np.allclose(b.get_fdata(), a.get_fdata(), rtol=0, atol=1e-5)
    else:
        assert np.array_equal(b.get_fdata(), a.get_fdata())
        assert np.array_equal(b.dataobj.get_unscaled(), stored)


@examples(30)
@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.integers(0, 2**32 - 1))
def test_axis_codes(worlds: list[int], signs: tuple[int, int, int], seed: int) -> None:
    """Axis k of the volume runs along axis worlds[k] of the world, or against it; a tilt changes nothing."""
    directions = np.random.default_rng(seed).uniform(-0.3, 0.3, (3, 3))
    directions[worlds, range(3)] += signs
    affine = np.eye(4)
    affine[:3, :3] = directions * (0.8, 1.2, 3)
    towards = [("LR", "PA", "IS")[world][sign > 0] for world, sign in zip(worlds, signs, strict=True)]
    assert axis_codes(affine) == "".join(towards)


def test_an_axis_without_length_has_no_code() -> None:
    assert axis_codes(np.diag([1.0, 0, 2, 1])) == "R?S"


def test_nifti_of_two_dimensions_of_version_two_and_in_colour(tmp_path: Path) -> None:
    flat = hounsfield(24, 20, 1)
    write_nifti(tmp_path / "flat.nii", flat[..., 0])
    write_volume(tmp_path / "back.nii", read_volume(tmp_path / "flat.nii"))
    assert np.array_equal(nibabel.load(tmp_path / "back.nii").get_fdata(), flat[..., 0])
    write_nifti(tmp_path / "four.nii", flat[..., None])  # the fourth is one only
    assert read_volume(tmp_path / "four.nii").shape == (1, 20, 24)
    nibabel.Nifti2Image(flat, OBLIQUE).to_filename(tmp_path / "two.nii")
    write_volume(tmp_path / "back.nii", read_volume(tmp_path / "two.nii"))
    assert isinstance(nibabel.load(tmp_path / "back.nii"), nibabel.Nifti2Image)
    rgb = picture(24, 20, 3, np.uint8)[:, :, None]
    structured = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.Nifti1Image(structured, OBLIQUE).to_filename(tmp_path / "rgb.nii")
    volume = read_volume(tmp_path / "rgb.nii")
    assert volume.slices[0].is_colour
    write_volume(tmp_path / "back.nii", volume)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "back.nii").dataobj), structured)


def test_a_series_is_sorted_and_rescaled(tmp_path: Path) -> None:
    volume = read_volume(ct(tmp_path / "ct"))
    assert np.array_equal(volume.values()[..., 0].round(), HU)
    assert volume.slices[0].depth == np.int16
    assert volume.slices[0].limits == (-1000, 2000)
    assert volume.spacing == pytest.approx((SPACING[1], SPACING[0], GAP))
    assert volume.affine is not None
    # PS3.3 C.7.6.2.1.1, in DICOM's own axes: column 3 of row 2 of slice 4
    normal = np.cross(COSINES[:3], COSINES[3:])
    place = (
        np.array(POSITION) + 3 * SPACING[1] * np.array(COSINES[:3]) + 2 * SPACING[0] * np.array(COSINES[3:])
    )
    place += 4 * GAP * normal
    assert np.allclose(volume.affine @ (3, 2, 4, 1), [-place[0], -place[1], place[2], 1], atol=1e-4)


def test_a_derived_series(tmp_path: Path) -> None:
    ct(tmp_path / "ct", WindowCenter=40, WindowWidth=400)
    volume = read_volume(tmp_path / "ct")
    check_volume_writable(tmp_path / "out", [volume])
    write_volume(tmp_path / "out", volume)
    write_volume(tmp_path / "again", volume)
    sources, results = read_files(tmp_path / "ct"), read_files(tmp_path / "out")
    assert len(results) == len(sources)
    for source, result in zip(sources, results, strict=True):
        assert np.array_equal(in_units(source), in_units(result))
        assert result.ImageType[:2] == ["DERIVED", "SECONDARY"]
        for word in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            assert source[word] == result[word]
        for word in ("BitsStored", "RescaleSlope", "RescaleIntercept", "WindowCenter", "Modality"):
            assert source[word] == result[word]
        for word in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert source[word] != result[word]
    assert len({d.SOPInstanceUID for d in results}) == len(results)
    assert len({d.SeriesInstanceUID for d in results}) == 1
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
        for word, value in PATIENT.items():
            assert value.encode() not in file.read_bytes(), word
        assert b"Doe" not in file.read_bytes()
    write_volume(tmp_path / "named", volume, copy_patient=True)
    named = read_files(tmp_path / "named")[0]
    for word in set(PATIENT) - {"SeriesDescription"}:
        assert named[word] == sources[0][word]
    assert named.StudyInstanceUID == sources[0].StudyInstanceUID
    assert named.SOPInstanceUID != sources[0].SOPInstanceUID
    assert np.array_equal(in_units(named), in_units(sources[0]))


def test_texts_of_nifti_headers_stay_behind(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(hounsfield(20, 20, 3), OBLIQUE)
    image.header["db_name"], image.header["descrip"] = b"Doe", b"Jane Doe"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    image.to_filename(tmp_path / "a.nii")
    write_volume(tmp_path / "b.nii", read_volume(tmp_path / "a.nii"))
    assert b"Doe" not in (tmp_path / "b.nii").read_bytes()
    write_volume(tmp_path / "c.nii", read_volume(tmp_path / "a.nii"), copy_patient=True)
    assert (tmp_path / "c.nii").read_bytes().count(b"Doe") == 3


def test_a_slope_for_each_slice(tmp_path: Path) -> None:
    stored = (hounsfield(4) + 1000).astype(np.uint16) * 10
    write_series(tmp_path / "pet", stored, RescaleSlope=lambda k: 0.5 + k / 3, RescaleIntercept=0)
    expected = np.stack([in_units(d) for d in read_files(tmp_path / "pet")])
    volume = read_volume(tmp_path / "pet")
    assert np.allclose(volume.values()[..., 0], expected, atol=expected.max() * 2e-7)
    write_volume(tmp_path / "out", volume)
    results = read_files(tmp_path / "out")
    assert len({(d.RescaleSlope, d.RescaleIntercept) for d in results}) == 1
    level = float(results[0].RescaleSlope)
    assert level < expected.max() / 65000
    assert np.abs(np.stack([in_units(d) for d in results]) - expected).max() <= level


def test_signed_series_monochrome1_and_colour(tmp_path: Path) -> None:
    write_series(tmp_path / "signed", HU)
    write_series(tmp_path / "mono1", (HU + 1024).astype(np.uint16), PhotometricInterpretation="MONOCHROME1")
    rgb = np.stack([picture(20, 24, 3, np.uint8, seed) for seed in range(3)])
    write_series(tmp_path / "rgb", rgb)
    for name in ("signed", "mono1", "rgb"):
        volume = read_volume(tmp_path / name)
        write_volume(tmp_path / f"{name}-out", volume)
        pairs = zip(read_files(tmp_path / name), read_files(tmp_path / f"{name}-out"), strict=True)
        for source, result in pairs:
            assert np.array_equal(source.pixel_array, result.pixel_array)
            assert source.PhotometricInterpretation == result.PhotometricInterpretation
    inverted = read_volume(tmp_path / "mono1")
    plain = read_volume(tmp_path / "signed")
    assert np.allclose(inverted.slices[2].pixels, 1 - plain.slices[2].pixels, atol=1e-6)  # small is white


@pytest.mark.parametrize(
    ("uid", "encode"),
    [
        ("1.2.840.10008.1.2.4.70", lambda x: imagecodecs.ljpeg_encode(x, bitspersample=12)),
        ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode),
        ("1.2.840.10008.1.2.4.90", lambda x: imagecodecs.jpeg2k_encode(x, codecformat="j2k", level=0)),
    ],
)
def test_compressed_series(tmp_path: Path, uid: str, encode: Callable[[NDArray[Any]], bytes]) -> None:
    ct(tmp_path / "ct")
    for file in (tmp_path / "ct").iterdir():
        dataset = pydicom.dcmread(file)
        samples = dataset.pixel_array
        dataset.PixelData = encapsulate([encode(samples)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(uid)
        dataset.save_as(file)
    volume = read_volume(tmp_path / "ct")
    assert np.array_equal(volume.values()[..., 0].round(), HU)
    write_volume(tmp_path / "out", volume)
    assert np.array_equal(in_units(read_files(tmp_path / "out")[2]), HU[2])


# --- Ranges --------------------------------------------------------------------------------------


def test_windows_are_taken_when_asked_for(tmp_path: Path) -> None:
    ct(tmp_path / "ct", WindowCenter=[40, 300], WindowWidth=[401, 1500])
    write_nifti(tmp_path / "a.nii", HU.transpose(2, 1, 0), cal_min=-160, cal_max=240)
    ct(tmp_path / "plain")
    for path in (tmp_path / "ct", tmp_path / "a.nii"):
        with pytest.warns(UserWarning, match="samples lie outside"):
            volume = read_volume(path, "window")
        low, high = volume.slices[0].limits
        # PS3.3 C.11.2.1.2: c - 0.5 -+ (w - 1) / 2
        assert (low, high) == ((-160.5, 239.5) if path.is_dir() else (-160, 240))
        expected = ((HU.astype(float) - low) / (high - low)).clip(0, 1)
        assert np.allclose(np.stack([s.pixels[..., 0] for s in volume.slices]), expected, atol=1e-6)
        assert sum(s.outside for s in volume.slices) == ((low > HU) | (high < HU)).sum()
        assert "display window" in volume.slices[0].range_from
    with pytest.raises(InputError, match="plain: has no display window"):
        read_volume(tmp_path / "plain", "window")


# --- Fusion --------------------------------------------------------------------------------------


def test_volumes_are_fused_slice_by_slice_in_units(tmp_path: Path) -> None:
    mr = (hounsfield(5, seed=3) + 1000).astype(np.uint16) // 5
    ct(tmp_path / "ct")
    write_series(tmp_path / "mr", mr)
    volumes = [read_volume(tmp_path / "ct"), read_volume(tmp_path / "mr")]
    done: list[tuple[int, int]] = []
    fused = fused_slices(volumes, mean, lambda *counts: done.append(counts))
    assert done == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    low, high = float(mr.min()), float(mr.max())
    expected = (HU + (-1000 + 3000 * (mr - low) / (high - low))) / 2
    assert np.allclose(fused.values()[..., 0], expected, atol=0.01)
    write_volume(tmp_path / "out", fused)
    back = read_volume(tmp_path / "out")
    assert np.abs(back.values()[..., 0] - expected).max() <= 0.51
    assert np.allclose(back.affine, volumes[0].affine)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ct", "a.nii.gz", "a.tif"])
def test_a_volume_fused_with_itself_is_itself(tmp_path: Path, name: str) -> None:
    if name == "ct":
        ct(tmp_path / name)
    elif name == "a.nii.gz":
        write_nifti(tmp_path / name, HU.transpose(2, 1, 0))
    else:
        tifffile.imwrite(tmp_path / name, HU.astype(np.float32), photometric="minisblack")
    volume = read_volume(tmp_path / name)

    def fuse(slices: list[Image]) -> Image:
        fused = ddfm.fuse(slices[0], slices[1], task="medical", steps=0).image
        return replace(slices[0], pixels=fused.pixels)

    fused = fused_slices([volume, volume], fuse)
    write_volume(tmp_path / f"out-{name}", fused)
    back = read_volume(tmp_path / f"out-{name}")
    assert np.abs(back.values() - volume.values()).max() <= 1
    assert (back.affine is None) == (name == "a.tif")
    if back.affine is not None and volume.affine is not None:
        assert np.allclose(back.affine, volume.affine)
        assert back.spacing == pytest.approx(volume.spacing)
        assert back.axis_codes == volume.axis_codes


def test_colour_beside_grey(tmp_path: Path) -> None:
    grey = np.stack([picture(20, 24, 1, np.uint8, seed) for seed in range(3)])
    rgb = np.stack([picture(20, 24, 3, np.uint8, seed) for seed in range(3)])
    write_series(tmp_path / "grey", grey)
    write_series(tmp_path / "rgb", rgb)
    ct(tmp_path / "ct", HU[:3])
    a, b, c = (read_volume(tmp_path / name) for name in ("grey", "rgb", "ct"))
    fused = fused_slices([a, b], lambda s: s[1] if s[1].name.endswith("2") else s[0])
    assert all(image.is_colour for image in fused.slices)
    write_volume(tmp_path / "out", fused)
    back = read_volume(tmp_path / "out")
    assert np.array_equal(back.values()[1].round(), rgb[1])
    assert np.array_equal(back.values()[0].round(), np.dstack([grey[0]] * 3))
    with pytest.raises(InputError, match="colours of 8 bits only; give the series in colour as the first"):
        check_volume_writable(tmp_path / "new", [c, b])


def test_one_noise_level_for_all_slices(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = np.stack([picture(96, 96, 1, np.uint8, seed) // 2 + 64 for seed in range(4)]).astype(float)
    noisy = clean + rng.normal(0, [[[2]], [[8]], [[9]], [[30]]], clean.shape)
    noisy = np.concatenate([noisy, np.zeros((3, 96, 96))])  # empty slices do not count
    for name, samples in (("clean", clean), ("noisy", noisy)):
        stored = np.rint(samples).clip(0, 255).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", stored, photometric="minisblack")
    levels = noise_levels([read_volume(tmp_path / f"{name}.tif") for name in ("clean", "noisy")])
    assert levels[0] == 0
    assert levels[1] == pytest.approx(8.5, rel=0.2)
    assert GREY_LEVEL * 127.5 == 1  # the unit


# --- Refusals ------------------------------------------------------------------------------------


def test_grids_must_agree(tmp_path: Path) -> None:
    samples = hounsfield(24, 20, 3)
    moved, finer, flipped = OBLIQUE.copy(), OBLIQUE.copy(), OBLIQUE.copy()
    moved[0, 3] += 1
    finer[:3, 2] /= 2
    flipped[:3, 0] *= -1
    first = read_volume(write_nifti(tmp_path / "first.nii", samples))
    for name, other, affine, message in (
        ("short", samples[..., :2], OBLIQUE, "have 24x20x3 and 24x20x2 voxels"),
        ("moved", samples, moved, "lie up to 1 mm apart"),
        ("finer", samples, finer, "spacings of 0.8089x0.9274x2.518 and 0.8089x0.9274x1.259 mm"),
        ("flipped", samples, flipped, "are oriented LAS and RAS"),
        ("nowhere", samples, None, "nowhere.nii: has no geometry"),
    ):
        volume = read_volume(write_nifti(tmp_path / f"{name}.nii", other, affine))
        with pytest.raises(InputError, match=message) as caught:
            check_same_grid([first, volume])
        assert f"{name}.nii" in str(caught.value)
    nowhere = read_volume(tmp_path / "nowhere.nii")
    assert nowhere.affine is None
    check_same_grid([nowhere, nowhere])
    close = OBLIQUE + np.pad([[1e-3]], ((0, 3), (3, 0)))
    check_same_grid([first, read_volume(write_nifti(tmp_path / "close.nii", samples, close))])


def test_nifti_files_that_are_refused(tmp_path: Path) -> None:
    samples = hounsfield(24, 20, 3)
    whole = write_nifti(tmp_path / "whole.nii", samples).read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[:-100])
    (tmp_path / "head.nii").write_bytes(whole[:200])
    (tmp_path / "empty.nii").touch()
    (tmp_path / "text.nii").write_text("hello")
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(whole)[:-500])
    (tmp_path / "plain.nii.gz").write_bytes(b"hello")
    write_nifti(tmp_path / "four.nii", np.stack([samples] * 2, -1))
    write_nifti(tmp_path / "complex.nii", samples.astype(np.complex64))
    write_nifti(tmp_path / "none.nii", samples[..., :0])
    write_nifti(tmp_path / "small.nii", samples[:10])
    write_nifti(tmp_path / "labels.nii", samples.astype(np.int32) * 100_000)
    nan = samples.astype(np.float32)
    nan[0, 1, 2] = np.nan
    write_nifti(tmp_path / "nan.nii", nan)
    for name, message in {
        "absent.nii": "no such file",
        "cut.nii": "damaged or cut short",
        "head.nii": "damaged or cut short",
        "empty.nii": "is empty",
        "text.nii": "no NIfTI file",
        "cut.nii.gz": "damaged or cut short",
        "plain.nii.gz": "no NIfTI file",
        "four.nii": "has shape 24x20x3x2; a volume of three dimensions is needed",
        "complex.nii": "samples are complex64",
        "none.nii": "holds no samples",
        "small.nii": "is 10x20 pixels",
        "labels.nii": "more than 2\\^24 levels",
        "nan.nii": "1 of 1440 samples are NaN",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            read_volume(tmp_path / name)
        assert name in str(caught.value)


def test_series_that_are_refused(tmp_path: Path) -> None:
    normal = np.cross(COSINES[:3], COSINES[3:])

    def placed(places: list[float]) -> Callable[[int], list[float]]:
        return lambda k: [round(float(p), 4) for p in POSITION + places[k] * normal]

    turned = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "sizes": ("Rows is 10, in", {"Rows": lambda k: 20 if k else 10}),
        "series": ("holds 5 series", {"SeriesInstanceUID": lambda k: f"1.2.{k + 1}"}),
        "nowhere": ("has no ImagePositionPatient", {"ImagePositionPatient": None}),
        "turned": ("Orientation", {"ImageOrientationPatient": lambda k: turned if k == 2 else list(COSINES)}),
        "gap": ("slices are missing", {"ImagePositionPatient": placed([0, 2.5, 7.5, 10, 12.5])}),
        "twice": ("the same position", {"ImagePositionPatient": placed([0, 2.5, 5, 5, 7.5])}),
        "frames": ("holds 2 frames", {"NumberOfFrames": 2}),
        "mpeg": (
            "is compressed as MPEG2 Main Profile",
            {"TransferSyntaxUID": pydicom.uid.MPEG2MPML, "PixelData": encapsulate([b"\0" * 100])},
        ),
        "short": ("damaged or cut short", {"PixelData": b"\0" * 100}),
        "palette": ("PALETTE COLOR", {"PhotometricInterpretation": "PALETTE COLOR"}),
        "report": ("holds no picture", {"PixelData": None}),
        "broken": ("Rows is missing", {"Rows": None}),
    }
    for name, (message, tags) in cases.items():
        ct(tmp_path / name, **tags)
        with pytest.raises(InputError, match=message) as caught:
            read_volume(tmp_path / name)
        assert name in str(caught.value)
    ct(tmp_path / "cut")
    file = sorted((tmp_path / "cut").iterdir())[2]
    file.write_bytes(file.read_bytes()[:-50])
    ct(tmp_path / "text")
    (tmp_path / "text" / "readme.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "cut": f"{file.name}: is damaged or cut short",
        "text": r"readme\.txt: is no DICOM file",
        "empty": "is an empty folder",
    }.items():
        with pytest.raises(InputError, match=message):
            read_volume(tmp_path / name)


def test_places_a_volume_is_not_written_to(tmp_path: Path) -> None:
    series = read_volume(ct(tmp_path / "ct"))
    nifti = read_volume(write_nifti(tmp_path / "a.nii", hounsfield(24, 20, 3)))
    pages = Volume(series.slices, "TIFF")
    for path, volume, message in (
        ("ct", series, "exists already"),
        ("out.dcm", series, "name a folder"),
        ("out.nii", series, "name a folder"),
        ("out.png", nifti, r"write \.nii"),
        ("out.nii", pages, r"write \.tif"),
    ):
        with pytest.raises(InputError, match=message):
            check_volume_writable(tmp_path / path, [volume])
    with pytest.raises(InputError, match="cannot be written"):
        write_volume(tmp_path / "ct", series)
    with pytest.raises(InputError, match="cannot be written"):
        write_volume(tmp_path / "absent" / "out", series)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "ct"]


@pytest.mark.parametrize(("package", "name"), [("nibabel", "a.nii"), ("pydicom", "ct")])
def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str) -> None:
    ct(tmp_path / "ct")
    write_nifti(tmp_path / "a.nii", hounsfield(24, 20, 3))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"need {package}: pip install 'ddfm\[medical\]'"):
        read_volume(tmp_path / name)


def test_heavy_packages_are_imported_when_needed() -> None:
    code = "import sys, ddfm.jobs.info; print({'nibabel', 'pydicom', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_is_a_volume(tmp_path: Path) -> None:
    ct(tmp_path / "ct")
    write_nifti(tmp_path / "a.nii.gz", hounsfield(24, 20, 3))
    tifffile.imwrite(tmp_path / "one.tif", picture(20, 24, 1, np.uint8))
    tifffile.imwrite(tmp_path / "many.tif", np.stack([picture(20, 24, 1, np.uint8)] * 2))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").touch()
    found = {path.name: is_volume(path) for path in [*tmp_path.iterdir(), tmp_path / "absent.tif"]}
    one = next((tmp_path / "ct").iterdir())
    assert found == {
        "ct": True,
        "a.nii.gz": True,
        "one.tif": False,
        "many.tif": True,
        "folder": False,
        "absent.tif": False,
    }
    assert is_volume(one)
    assert read_volume(one).shape == (1, 20, 24)


def test_slices_share_scales() -> None:
    """Of a volume of one slice they are the slice's own; of a longer one they are not."""
    first, second = (from_array(picture(40, 48, 1, np.uint8, seed)) for seed in (1, 2))
    dark = from_array((picture(40, 48, 1, np.uint8, 3) // 8).astype(np.uint8))
    medical = TASKS["medical"]
    alone = ddfm.fuse(first, second, steps=0, task=medical).to_array().astype(int)

    def with_scales_of(*volumes: Volume) -> NDArray[Any]:
        centre, energy = shared_scales(volumes)
        task = replace(medical, centre=centre, energy=energy)
        return ddfm.fuse(first, second, steps=0, task=task).to_array().astype(int)

    same = with_scales_of(Volume((first,), "TIFF"), Volume((second,), "TIFF"))
    assert np.abs(same - alone).max() <= 1
    longer = with_scales_of(Volume((first, dark), "TIFF"), Volume((second, dark), "TIFF"))
    assert np.abs(longer - alone).max() > 1
