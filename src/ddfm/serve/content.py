"""Judge an upload by what it holds: its kind by its first bytes, its size by its header, nothing decoded."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ddfm.errors import InputError
from ddfm.formats import nifti, raster, tiff

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "WEBP": ".webp"}
GZIP = b"\x1f\x8b"
NIFTI_MAGIC = {b"n+1\0": 344, b"n+2\0": 4}  # and where it stands
DICOM_AT = 128


@dataclass(frozen=True)
class Content:
    """Tell what a file is.

    Attributes:
        kind: PNG, JPEG, BMP, WEBP, TIFF or NIfTI.
        suffix: that readers know it by.
        width, height: as stored, before EXIF's orientation, in pixels.
        slices: pages of a TIFF, slices of a volume, 1 for a picture.
    """

    kind: str
    suffix: str
    width: int
    height: int
    slices: int = 1

    @property
    def is_volume(self) -> bool:
        """Tell whether it is fused slice by slice."""
        return self.kind == "NIfTI" or self.slices > 1

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
    if data[DICOM_AT : DICOM_AT + 4] == b"DICM":
        raise InputError(f"{name}: is a DICOM file; convert the series to NIfTI, or use ddfm fuse")
    if not data:
        raise InputError(f"{name}: is empty (0 bytes)")
    with closing(raster.opened(data, name, raster.READABLE)) as file:
        kind = file.format or ""
        return Content(kind, SUFFIXES[kind], file.width, file.height)


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
