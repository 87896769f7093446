"""Judge an upload by what it holds: its kind by its first bytes, its size by its header, nothing decoded."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ddfm.errors import InputError
from ddfm.formats import dicom, nifti, raster, tiff
from ddfm.formats.limits import check_decoded
from ddfm.formats.radiometric import is_radiometric

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "WEBP": ".webp"}
GZIP = b"\x1f\x8b"
NIFTI_MAGIC = {b"n+1\0": 344, b"n+2\0": 4}  # and where it stands
DICOM_AT, DICOM_MAGIC = 128, b"DICM"
DICOM, THERMAL = "DICOM", "thermal JPEG"


@dataclass(frozen=True)
class Content:
    """Tell what a file is.

    Attributes:
        kind: PNG, JPEG, BMP, WEBP, TIFF, NIfTI, DICOM, or thermal JPEG for a thermal camera's own file.
        suffix: that readers know it by.
        width, height: as stored, before EXIF's orientation, in pixels.
        slices: pages of a TIFF, slices of a volume, 1 for a picture.
        bytes_a_pixel: of a DICOM slice's samples; 0 where nobody needs it.
    """

    kind: str
    suffix: str
    width: int
    height: int
    slices: int = 1
    bytes_a_pixel: int = 0

    @property
    def is_volume(self) -> bool:
        """Tell whether it is fused slice by slice."""
        return self.kind in ("NIfTI", DICOM) or self.slices > 1

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return asdict(self)


def inspect(path: Path, name: str) -> Content:
    """Return what a file is. Raises InputError, by the client's name of it, for what is not taken."""
    data = path.read_bytes()
    if data.startswith(tiff.MAGIC):
        height, width, pages = tiff.declared_size(data, name)
        return Content("TIFF", ".tif", width, height, pages)
    if data.startswith(GZIP) or any(data[at : at + 4] == magic for magic, at in NIFTI_MAGIC.items()):
        return _nifti(path, name, ".nii.gz" if data.startswith(GZIP) else ".nii")
    if not data:
        raise InputError(f"{name}: is empty (0 bytes)")
    with closing(raster.opened(data, name, raster.READABLE)) as file:
        kind = file.format or ""
        shown = THERMAL if is_radiometric(data) else kind
        return Content(shown, SUFFIXES[kind], file.width, file.height)


def quiet_pydicom() -> None:
    """Keep pydicom's remarks out of the log: they quote tags, and tags name patients."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")


def is_dicom(head: bytes) -> bool:
    """Tell whether a file starts as DICOM files do."""
    return head[DICOM_AT : DICOM_AT + 4] == DICOM_MAGIC


def inspect_slice(path: Path, name: str) -> tuple[str, Content]:
    """Return the series that a DICOM file belongs to, and what it is. Raises InputError as `inspect`.

    The series' identifier is a patient's, and never told or kept.
    """
    found = dicom.declared(path, name)
    return found.series, Content(DICOM, ".dcm", found.width, found.height, bytes_a_pixel=found.bytes_a_pixel)


def joined(slices: Sequence[Content], name: str, stored: int) -> Content:
    """Return what a DICOM series is. Raises InputError if its slices together are more than is allowed.

    Args:
        stored: bytes of all files.
    """
    pixels = [content.width * content.height for content in slices]
    decoded = sum(area * content.bytes_a_pixel for area, content in zip(pixels, slices, strict=True))
    check_decoded(name, sum(pixels), decoded, stored)
    return replace(slices[0], suffix="", slices=len(slices))


def _nifti(path: Path, name: str, suffix: str) -> Content:
    """Return what a NIfTI file is; readers know them by their suffix."""
    named = path.with_name(path.name + suffix)
    path.rename(named)
    try:
        shape = nifti.declared_shape(named)
    except InputError as error:
        raise InputError(str(error).replace(str(named), name)) from None
    finally:
        named.rename(path)
    width, height, slices = (*shape[:3], 1, 1)[:3] if len(shape) < 3 else shape[:3]
    return Content("NIfTI", suffix, width, height, slices)
