"""NIfTI-1 and -2: a volume's samples in slices, and a header that is written back as it was."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.pictures.ranges import ValueRange

SUFFIXES = (".nii", ".nii.gz")
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
KEPT = (np.uint8, np.uint16, np.int16)  # integers that pictures can have as they are
FLOAT_LEVELS = 2**24  # that float32 tells apart


class Nifti(NamedTuple):
    """A volume as stored.

    Attributes:
        samples: physical values, (D, H, W, C): slices along the third axis, rows the second, columns
            the first one.
        affine: (4, 4), (column, row, slice) to the header's unit of length, right-anterior-superior; None if
            the header has neither qform nor sform.
        window: cal_min and cal_max, or None.
        header: as read.
    """

    samples: NDArray[Any]
    affine: NDArray[np.float64] | None
    window: ValueRange | None
    header: Any


def read(path: Path) -> Nifti:
    """Read a .nii or .nii.gz file. Raises InputError for what is damaged, of four dimensions or no number."""
    nibabel = _nibabel()
    try:
        image = nibabel.load(path, mmap=False)
        if not isinstance(image, nibabel.Nifti1Image):  # Nifti2Image is one
            raise InputError(f"{path}: is no NIfTI file")
        raw = np.asarray(image.dataobj.get_unscaled())
        slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # nibabel, gzip and zlib each have their own
        raise InputError(f"{path}: is damaged or cut short, or no NIfTI file ({error})") from error
    while raw.ndim > 3 and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim == 2:
        raw = raw[..., None]
    if not raw.size:
        raise InputError(f"{path}: holds no samples")
    if raw.ndim != 3:
        shape = "x".join(map(str, raw.shape))
        raise InputError(f"{path}: has shape {shape}; a volume of three dimensions is needed, take one out")
    header = image.header.copy()
    header.set_slope_inter(slope, intercept)  # nibabel takes them out of the header on reading
    codes = int(header["qform_code"]), int(header["sform_code"])
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return Nifti(
        _physical(raw, slope, intercept, path).transpose(2, 1, 0, 3),
        image.affine if any(codes) else None,
        (low, high) if low < high else None,
        header,
    )


def _physical(raw: NDArray[Any], slope: float, intercept: float, path: Path) -> NDArray[Any]:
    """Samples in physical units, shape (X, Y, Z, C)."""
    if raw.dtype.names == RGB.names:
        return np.stack([raw[name] for name in RGB.names or ()], -1)
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)[..., None]
    if raw.dtype.kind not in "iuf":
        raise InputError(f"{path}: samples are {raw.dtype}; numbers or RGB are needed")
    if raw.dtype.kind in "iu" and float(raw.max()) - float(raw.min()) > FLOAT_LEVELS:
        raise InputError(f"{path}: integers span more than 2^24 levels, too many for fusion; rescale them")
    if (slope, intercept) != (1, 0):
        return raw.astype(np.float64) * slope + intercept
    return raw if raw.dtype in KEPT or raw.dtype.kind == "f" else raw.astype(np.float64)


def check_writable(path: Path, depth: np.dtype[Any], colour: bool) -> None:
    """Raises InputError if NIfTI cannot hold the result."""
    if colour and depth != np.uint8:
        raise InputError(
            f"{path}: NIfTI holds colours of 8 bits only; give the volume in colour as the first source"
        )


def encode(path: Path, values: NDArray[np.float64], header: Any, copy_patient: bool) -> bytes:
    """A file of physical values (D, H, W, C) with the header's type, scaling, geometry and units.

    Without ``copy_patient`` what may name a person is left out: extensions, db_name, aux_file, descrip.
    """
    nibabel = _nibabel()
    header = header.copy()
    if not copy_patient:
        header.extensions.clear()
        for field in {"db_name", "aux_file", "descrip"} & set(header.keys()):  # NIfTI-2 has no db_name
            header[field] = b""
    shape = header.get_data_shape()
    slope, intercept = header.get_slope_inter()
    values = values.transpose(2, 1, 0, 3)
    if values.shape[-1] == 3:
        stored: NDArray[Any] = np.rint(values).clip(0, 255).astype(np.uint8).view(RGB)[..., 0]
        header.set_data_dtype(RGB)
        slope = intercept = None
    else:
        stored = (values[..., 0] - (intercept or 0)) / (slope or 1)
        dtype = header.get_data_dtype().newbyteorder("=")
        if dtype.names:  # the first source is in colour, the result is grey
            dtype = np.dtype(np.uint8)
            header.set_data_dtype(dtype)
        if dtype.kind in "iu":
            stored = np.rint(stored).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
        stored = stored.astype(dtype)
    # No affine: the header's own qform and sform stay as they are, to the bit.
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = kind(stored.reshape(shape), None, header)
    image.header.set_slope_inter(slope, intercept)  # the samples are scaled already: this only says so
    data: bytes = image.to_bytes()
    return gzip.compress(data, mtime=0) if path.name.lower().endswith(".gz") else data


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise InputError("NIfTI files need nibabel: pip install 'ddfm[medical]'") from None
    return nibabel
