"""Volumes: NIfTI, DICOM series and multi-page TIFF, fused slice by slice with scales for the whole.

A volume is its slices as `Image`s of one range, and what has to be written back beside the samples: the
header with geometry and units. `fuse_volumes` does not know how two slices are fused; it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.formats import dicom, dicom_derived, nifti, tiff
from ddfm.formats.atomic import check_target, prepare_folder, write_folder, write_whole
from ddfm.formats.files import entries, exists, is_file, is_folder
from ddfm.formats.pictures import SUFFIXES, read_pages, write_pages
from ddfm.pictures.image import Image, from_stack
from ddfm.pictures.ranges import Range, RangeChoice, ValueRange, spanning
from ddfm.timing import stage

Kind = Literal["TIFF", "NIfTI", "DICOM"]
VolumeRange = RangeChoice | Literal["window"]
TIFF_SUFFIXES = (".tif", ".tiff")
MISPLACED = 0.05  # voxels that a corner may lie elsewhere in the other source


@dataclass(frozen=True)
class Volume:
    """Slices of one size, depth and range, and what is written back with them.

    Attributes:
        slices: along the third axis of a NIfTI file, along the normal of a DICOM series, the pages of a TIFF.
        kind: what it was read from, and is written as.
        affine: (4, 4), (column, row, slice) to millimetres, right-anterior-superior; None if unknown.
        header: of NIfTI, or the tags of every slice of a DICOM series.
        name: where it came from, for messages.
    """

    slices: tuple[Image, ...]
    kind: Kind
    affine: NDArray[np.float64] | None = None
    header: Any = None
    name: str = "volume"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return slices, height, width."""
        return len(self.slices), *self.slices[0].size

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Return the distance of columns, rows and slices, in millimetres."""
        if self.affine is None:
            return None
        across, down, through = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return across, down, through

    @property
    def axis_codes(self) -> str | None:
        """Return where columns, rows and slices run to, as L or R, A or P, S or I: LPS for most DICOM."""
        return None if self.affine is None else axis_codes(self.affine)

    def values(self) -> NDArray[np.float64]:
        """Return the values in the file's units (Hounsfield, say), not rounded, (D, H, W, C)."""
        return np.stack([image.values() for image in self.slices])


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Return the anatomical direction that each axis is nearest to; "?" for an axis without length."""
    try:
        from nibabel.orientations import aff2axcodes
    except ImportError as error:
        raise InputError("volumes need nibabel: pip install 'ddfm[medical]'") from error
    return "".join(code or "?" for code in aff2axcodes(affine))


def is_volume(path: Path) -> bool:
    """Tell whether a path is read as a volume: NIfTI, a DICOM file or folder, a TIFF of several pages."""
    if is_folder(path):
        return any(dicom.is_dicom(file) for file in entries(path))
    name = path.name.lower()
    if name.endswith(nifti.SUFFIXES) or dicom.is_dicom(path):
        return True
    return name.endswith(TIFF_SUFFIXES) and is_file(path) and tiff.count_pages(path) > 1


@stage("read")
def read_volume(path: Path | str, value_range: VolumeRange = None) -> Volume:
    """Read a NIfTI file, a DICOM series (a folder) or a multi-page TIFF, with one range for all slices.

    By default the range of NIfTI and DICOM is the smallest to the largest value of the whole volume, in
    physical units (0 to 255 for 8 bits). These values have no natural black and white, and nothing is cut
    off. TIFF pages are taken as pictures are (`read_pages`). ``"window"`` takes the file's display window
    instead: WindowCenter and Width, or cal_min and cal_max. What lies outside is set to its ends, with a
    warning.

    Raises InputError, naming the file, for anything that is not one whole volume.
    """
    path = Path(path)
    if not exists(path):
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir() or dicom.is_dicom(path):
        series = dicom.read(path)
        slices = _slices(series.samples, path, value_range, series.window)
        if series.inverted:
            slices = [_negative(image) for image in slices]
        return Volume(tuple(slices), "DICOM", series.affine, series.datasets, str(path))
    if path.name.lower().endswith(nifti.SUFFIXES):
        volume = nifti.read(path)
        slices = _slices(volume.samples, path, value_range, volume.window)
        return Volume(tuple(slices), "NIfTI", volume.affine, volume.header, str(path))
    if value_range == "window":
        raise InputError(f"{path}: has no display window; give the range in numbers, or data")
    return Volume(tuple(read_pages(path, value_range)), "TIFF", name=str(path))


def _slices(
    samples: NDArray[Any], path: Path, value_range: VolumeRange, window: ValueRange | None
) -> list[Image]:
    name, declared = str(path), None
    if value_range == "window":
        if window is None:
            raise InputError(f"{path}: has no display window; give the range in numbers, or data")
        value_range = Range(window, "the file's display window")
    elif value_range is None and samples.dtype != np.uint8 and np.isfinite(samples).all():
        limits = spanning(float(samples.min()), float(samples.max()))
        declared = Range(limits, "smallest to largest value of the volume")
    found = from_stack(samples, name, value_range, declared)
    return [replace(image, name=f"{name}, slice {k + 1}") for k, image in enumerate(found)]


def _negative(image: Image) -> Image:
    """Turn the range upside down for small values that are white; the samples stay as they are."""
    low, high = image.limits
    return replace(image, pixels=1 - image.pixels, value_range=(high, low))


def check_same_grid(volumes: Sequence[Volume]) -> None:
    """Raise InputError, naming the difference, unless all volumes have one shape and one geometry."""
    first = volumes[0]
    for other in volumes[1:]:
        two = f"{first.name} and {other.name}"
        if first.shape != other.shape:
            sizes = " and ".join("x".join(map(str, v.shape[::-1])) for v in (first, other))
            raise InputError(f"{two}: have {sizes} voxels; resample one to the other's grid first")
        if first.affine is None or other.affine is None:
            if first.affine is not None or other.affine is not None:
                lacking = first if first.affine is None else other
                raise InputError(f"{lacking.name}: has no geometry to compare with the other volume's")
            continue
        if first.axis_codes != other.axis_codes:
            raise InputError(
                f"{two}: are oriented {first.axis_codes} and {other.axis_codes}; reorient one of them first"
            )
        if not np.allclose(first.spacing or 0, other.spacing or 0, rtol=1e-3):
            shown = " and ".join("x".join(f"{s:.4g}" for s in v.spacing or ()) for v in (first, other))
            raise InputError(f"{two}: have spacings of {shown} mm; resample one to the other's grid first")
        shift = _greatest_shift(first, other)
        if shift > MISPLACED * min(first.spacing or (1,)):
            raise InputError(
                f"{two}: lie up to {shift:.3g} mm apart; register and resample one to the other's grid first"
            )


def _greatest_shift(first: Volume, other: Volume) -> float:
    """Return how far apart the two affines put the same corner, in millimetres."""
    assert first.affine is not None
    assert other.affine is not None
    depth, height, width = first.shape
    corners = np.array(
        [[x, y, z, 1] for x in (0, width - 1) for y in (0, height - 1) for z in (0, depth - 1)]
    )
    return float(np.linalg.norm((corners @ (first.affine - other.affine).T)[:, :3], axis=1).max())


def check_volume_writable(path: Path, volumes: Sequence[Volume]) -> None:
    """Find out before the work whether the fused volume can be written to ``path``.

    The format is the first source's: .nii or .nii.gz, .tif or .tiff, or for DICOM a folder that is new or
    empty. Raises InputError.
    """
    first, name = volumes[0], path.name.lower()
    depth, colour = first.slices[0].depth, any(v.slices[0].is_colour for v in volumes)
    if first.kind == "DICOM":
        if path.suffix.lower() in (*SUFFIXES, ".dcm", ".nii", ".gz"):
            raise InputError(f"{path}: the first source is a DICOM series; name a folder to write one to")
        if exists(path) and not (path.is_dir() and not entries(path)):
            raise InputError(f"{path}: exists already; name a new or empty folder for the series")
        dicom_derived.check_writable(path, depth, colour)
    elif first.kind == "NIfTI":
        if not name.endswith(nifti.SUFFIXES):
            raise InputError(f"{path}: the first source is a NIfTI volume; write .nii or .nii.gz")
        nifti.check_writable(path, depth, colour)
    elif not name.endswith(TIFF_SUFFIXES):
        raise InputError(f"{path}: the first source is a TIFF of several pages; write .tif")
    if first.kind != "DICOM":
        check_target(path)
    prepare_folder(path.parent)


@stage("write")
def write_volume(path: Path, volume: Volume, copy_patient: bool = False) -> None:
    """Write a volume as what it was read from, whole or not at all (see `check_volume_writable`).

    Tags that name a patient, a person, a place or a date are only written with ``copy_patient``.
    """
    if volume.kind == "TIFF":
        write_pages(path, volume.slices)
    elif volume.kind == "NIfTI":
        write_whole(path, nifti.encode(path, _clipped(volume), volume.header, copy_patient))
    else:
        files = dicom_derived.encode(_clipped(volume), volume.header, copy_patient)
        write_folder(path, {f"{k + 1:04d}.dcm": data for k, data in enumerate(files)})


def _clipped(volume: Volume) -> NDArray[np.float64]:
    """Clip values to the range for samples that are stored as integers."""
    low, high = sorted(volume.slices[0].limits)
    return volume.values().clip(low, high)
