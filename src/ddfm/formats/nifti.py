"""NIfTI-1 and -2: a volume's samples in slices, and a header that is written back as it was."""

from __future__ import annotations

import gzip
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.formats.files import decoding, open_regular, size_of
from ddfm.formats.limits import check_decoded
from ddfm.pictures.ranges import ValueRange, is_span

SUFFIXES = (".nii", ".nii.gz")
HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348
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
    """Read a .nii or .nii.gz file.

    Raises InputError for what is too large, damaged, of four dimensions or no number.
    """
    with open_regular(path, "a NIfTI file") as file:
        image = _opened(file, path)
        with _decoding(path):
            raw = np.asarray(image.dataobj.get_unscaled())
            slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
            affine, header = image.affine, image.header.copy()
    while raw.ndim > 3 and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim == 2:
        raw = raw[..., None]
    if not raw.size:
        raise InputError(f"{path}: holds no samples")
    if raw.ndim != 3:
        shape = "x".join(map(str, raw.shape))
        raise InputError(f"{path}: has shape {shape}; a volume of three dimensions is needed, take one out")
    with _decoding(path):
        header.set_slope_inter(slope, intercept)  # nibabel takes them out of the header on reading
    codes = int(header["qform_code"]), int(header["sform_code"])
    if any(codes) and not (affine is not None and np.isfinite(affine).all()):
        raise InputError(f"{path}: is damaged (its geometry is no numbers)")
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return Nifti(
        _physical(raw, slope, intercept, path).transpose(2, 1, 0, 3),
        affine if any(codes) else None,
        (low, high) if is_span(low, high) else None,
        header,
    )


def declared_shape(path: Path) -> tuple[int, ...]:
    """Return columns, rows, slices and further sides, from the header alone. Raises InputError as `read`."""
    with open_regular(path, "a NIfTI file") as file:
        image = _opened(file, path)
        return tuple(int(side) for side in image.shape)


def _opened(file: BinaryIO, path: Path) -> Any:
    """Return nibabel's image, its samples not read yet. Raises InputError for what is none, or too large."""
    nibabel = _nibabel()
    size = size_of(file)
    stream: Any = gzip.GzipFile(fileobj=file) if path.name.lower().endswith(".gz") else file
    with _decoding(path):
        start = stream.read(HEADER_BYTES)
        sizes = {start[:4], start[:4][::-1]}
        kind = nibabel.Nifti2Image if (HEADER_BYTES).to_bytes(4, "little") in sizes else nibabel.Nifti1Image
        header = kind.header_class(start[: kind.header_class.sizeof_hdr], check=False)
        shape, item = header.get_data_shape(), header.get_data_dtype().itemsize
        place = int(header.get_data_offset())
        magic = bytes(header["magic"])
    if not magic.startswith((b"n+1", b"n+2")):
        raise InputError(f"{path}: is no NIfTI file")
    samples = math.prod(int(side) for side in shape)
    if place < 0 or any(side < 0 for side in shape):
        raise InputError(f"{path}: is damaged (its header has sizes below zero)")
    check_decoded(str(path), samples, samples * item + place, size)
    if stream is file and place + samples * item > size:
        raise InputError(
            f"{path}: is damaged or cut short ({size} bytes, {place + samples * item} are declared)"
        )
    with _decoding(path):
        stream.seek(0)
        return kind.from_stream(stream)


def _physical(raw: NDArray[Any], slope: float, intercept: float, path: Path) -> NDArray[Any]:
    """Return samples in physical units, shape (X, Y, Z, C)."""
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
    """Raise InputError if NIfTI cannot hold the result."""
    if colour and depth != np.uint8:
        raise InputError(
            f"{path}: NIfTI holds colours of 8 bits only; give the volume in colour as the first source"
        )


def encode(path: Path, values: NDArray[np.float64], header: Any, copy_patient: bool) -> bytes:
    """Encode physical values (D, H, W, C) with the header's type, scaling, geometry and units.

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


def _decoding(path: Path) -> AbstractContextManager[None]:
    """Return `decoding` with nibabel's exceptions, which share no base."""
    nibabel = _nibabel()
    kinds = (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
    )
    return decoding(str(path), "is damaged or cut short, or no NIfTI file", *kinds)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise InputError("NIfTI files need nibabel: pip install 'ddfm[medical]'") from None
    return nibabel
