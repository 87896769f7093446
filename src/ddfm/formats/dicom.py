"""DICOM series: one volume from a folder of slices.

References: PS3.3 C.7.6.2 (image plane), C.11.1 and C.11.2 (rescale, window).
"""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.formats.files import DAMAGE, entries, open_regular, read_whole
from ddfm.formats.headers import picture_size
from ddfm.formats.limits import check_decoded, most_bytes
from ddfm.pictures.ranges import ValueRange, is_span

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNEVEN = 0.02  # of the spacing: slices whose distances differ by more are not one volume

# JPEG lossless and JPEG-LS, which are common and which pydicom needs other packages for.
JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")


DEFLATED = "1.2.840.10008.1.2.1.99"
META_START = 144  # bytes before what the group length of the file's meta information counts
DAMAGED = "is damaged or cut short"
FARTHEST = 1e6  # millimetres
SIZES = ("Rows", "Columns", "BitsAllocated", "BitsStored", "NumberOfFrames", "SamplesPerPixel")
NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation")


class Series(NamedTuple):
    """A series, sorted along the normal of its slices.

    Attributes:
        samples: physical values (rescaled), (D, H, W, C).
        affine: (4, 4), (column, row, slice) to millimetres, right-anterior-superior as in NIfTI; None for
            one slice without geometry.
        window: the first slice's first display window, in physical values, or None.
        inverted: whether small values are white (MONOCHROME1).
        datasets: the slices' tags, without pixels.
    """

    samples: NDArray[Any]
    affine: NDArray[np.float64] | None
    window: ValueRange | None
    inverted: bool
    datasets: list[Any]


def is_dicom(path: Path) -> bool:
    """Tell whether a regular file starts as DICOM files do."""
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except (InputError, OSError):
        return False


def read(path: Path) -> Series:
    """Read a folder that holds one series and nothing else, or a file of one slice.

    Raises InputError, naming the file, for what is no DICOM file, too large, cut short, or compressed in a
    way that cannot be decoded. So it does for files of several frames, of another series, size or
    orientation, and for files without position.
    """
    if path.is_dir():
        files = [f for f in entries(path) if not f.name.startswith(".") and f.name != "DICOMDIR"]
    else:
        files = [path]
    if not files:
        raise InputError(f"{path}: is an empty folder; the files of one DICOM series are needed")
    datasets = [_read_dataset(file) for file in files]
    _check_alike(datasets, files)
    order, affine = _geometry(datasets, files)
    datasets, files = [datasets[k] for k in order], [files[k] for k in order]
    _check_room(datasets, files, path)
    samples = _rescaled([_pixels(d, f) for d, f in zip(datasets, files, strict=True)], datasets)
    for dataset in datasets:
        del dataset.PixelData
    with _decoding(files[0], "is damaged (its display window is no numbers)"):
        window = _window(datasets[0])
    inverted = datasets[0].PhotometricInterpretation == "MONOCHROME1"
    return Series(samples, affine, window, inverted, datasets)


class Declared(NamedTuple):
    """Tell what a file of one slice says of itself.

    Attributes:
        series: the series' identifier, the same in all of its slices; names a patient's study.
        width, height: in pixels.
        bytes_a_pixel: of its samples.
    """

    series: str
    width: int
    height: int
    bytes_a_pixel: int


def declared(path: Path, name: str) -> Declared:
    """Return what a file of one slice declares; neither samples nor other tags are read.

    Args:
        name: for messages.

    Raises:
        InputError: it is damaged, holds several frames, or more than is allowed (`limits`).
    """
    pydicom = pydicom_or_refuse()
    data = read_whole(path, "a DICOM file")
    words = [*NEEDED, "SamplesPerPixel", "NumberOfFrames", "SeriesInstanceUID"]
    try:
        _check_deflated(data, path)
        with warnings.catch_warnings(), _decoding(path):
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=words)
            numbers = {word: int(dataset.get(word) or 0) for word in SIZES}
            series = str(dataset.get("SeriesInstanceUID", ""))
        _check_frames(numbers["NumberOfFrames"], path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), name)) from None
    width, height = numbers["Columns"], numbers["Rows"]
    if not width or not height:
        raise InputError(f"{name}: is damaged (it is {width}x{height} pixels)")
    bytes_a_pixel = max(1, numbers["BitsAllocated"] // 8) * max(1, numbers["SamplesPerPixel"])
    check_decoded(name, width * height, width * height * bytes_a_pixel, len(data))
    return Declared(series, width, height, bytes_a_pixel)


def _check_frames(frames: int, path: Path) -> None:
    if frames > 1:
        raise InputError(f"{path}: holds {frames} frames; convert it to NIfTI, or to files of one frame")


def _read_dataset(path: Path) -> Any:
    """Read a file's tags and check those that its samples need. Raises InputError."""
    pydicom = pydicom_or_refuse()
    if not is_dicom(path):
        raise InputError(f"{path}: is no DICOM file; leave only the files of one series in the folder")
    data = read_whole(path, "a DICOM file")
    _check_deflated(data, path)
    with warnings.catch_warnings(), _decoding(path):
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.remove_private_tags()  # also decodes all there is
        numbers = _numbers_of(dataset)
    if "PixelData" not in dataset:
        raise InputError(f"{path}: holds no picture (no pixel data); it is cut short, or of another kind")
    _check_frames(numbers["NumberOfFrames"], path)
    missing = [word for word in NEEDED if dataset.get(word) is None]
    if missing or "transfer_syntax" not in _syntax(dataset):
        raise InputError(f"{path}: is damaged ({', '.join(missing) or 'TransferSyntaxUID'} is missing)")
    kind = dataset.PhotometricInterpretation
    if not isinstance(kind, str) or not (
        kind in ("MONOCHROME1", "MONOCHROME2", "RGB") or kind.startswith("YBR")
    ):
        raise InputError(f"{path}: is a DICOM file in {kind} colours; convert it to RGB first")
    if numbers["BitsAllocated"] not in (8, 16):
        raise InputError(f"{path}: has {numbers['BitsAllocated']} bits a sample; 8 or 16 are needed")
    if not 1 <= numbers["BitsStored"] <= numbers["BitsAllocated"]:
        raise InputError(
            f"{path}: is damaged ({numbers['BitsStored']} of {numbers['BitsAllocated']} bits are used)"
        )
    if "ModalityLUTSequence" in dataset:
        raise InputError(f"{path}: has a modality lookup table, not a rescale slope; apply it first")
    return dataset


def _numbers_of(dataset: Any) -> dict[str, int]:
    """Return the tags that say how large a picture is, 0 for those that are absent."""
    numbers = {word: int(dataset.get(word) or 0) for word in SIZES}
    scale(dataset)  # numbers as well
    return numbers


def _check_deflated(data: bytes, path: Path) -> None:
    """Refuse a dataset that would inflate to more than is allowed; pydicom inflates it at once."""
    pydicom = pydicom_or_refuse()
    with _decoding(path):
        meta = pydicom.filereader.read_file_meta_info(path)
        deflated = getattr(meta, "TransferSyntaxUID", None) == DEFLATED
        start = META_START + int(getattr(meta, "FileMetaInformationGroupLength", 0) or 0)
    if not deflated:
        return
    most = most_bytes(len(data))
    with _decoding(path):
        inflated = len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], most + 1))
    check_decoded(str(path), 0, inflated, len(data))


def _check_room(datasets: list[Any], files: list[Path], path: Path) -> None:
    """Refuse a series with more pixels than are allowed, by its tags and by its compressed streams."""
    pydicom = pydicom_or_refuse()
    pixels, decoded, stored = 0, 0, sum(len(dataset.PixelData) for dataset in datasets)
    for dataset, file in zip(datasets, files, strict=True):
        area = int(dataset.Rows) * int(dataset.Columns)
        if not area:
            raise InputError(f"{file}: is damaged (it is {dataset.Columns}x{dataset.Rows} pixels)")
        sample_bytes = int(dataset.BitsAllocated) // 8 * int(dataset.get("SamplesPerPixel") or 1)
        if _is_compressed(dataset.file_meta.TransferSyntaxUID):
            with _decoding(file):
                frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
            width, height = picture_size(frame) or (0, 0)
            area = max(area, width * height)
        pixels, decoded = pixels + area, decoded + area * sample_bytes
    check_decoded(str(path), pixels, decoded, stored)


@contextmanager
def _decoding(path: Path, what: str = DAMAGED) -> Iterator[None]:
    """Do as `decoding`, and keep the error's text to itself: it may quote tags, and tags name patients."""
    errors = pydicom_or_refuse().errors
    try:
        yield
    except InputError:
        raise
    except (*DAMAGE, errors.InvalidDicomError, errors.BytesLengthException) as error:
        raise InputError(f"{path}: {what}") from error


def _syntax(dataset: Any) -> dict[str, Any]:
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    return {} if syntax is None else {"transfer_syntax": syntax}


def _check_alike(datasets: list[Any], files: list[Path]) -> None:
    series = {str(d.get("SeriesInstanceUID", "")) for d in datasets}
    if len(series) > 1:
        raise InputError(f"{files[0].parent}: holds {len(series)} series; put each in a folder of its own")
    words = ("Rows", "Columns", "PhotometricInterpretation", "BitsAllocated", "PixelRepresentation")
    for word in words:
        for dataset, file in zip(datasets, files, strict=True):
            if (value := dataset.get(word)) != (first := datasets[0].get(word)):
                raise InputError(
                    f"{file}: {word} is {value}, in {files[0].name} it is {first}; slices must be alike"
                )


def _geometry(datasets: list[Any], files: list[Path]) -> tuple[list[int], NDArray[np.float64] | None]:
    """Return the slices' order along their normal, and the affine."""
    words = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
    for dataset, file in zip(datasets, files, strict=True):
        if missing := [word for word in words if not dataset.get(word)]:
            if len(datasets) == 1:
                return [0], None
            raise InputError(f"{file}: has no {missing[0]}, so its place among the slices is unknown")
    cosines = _vectors(datasets, files, "ImageOrientationPatient", 6)
    positions = _vectors(datasets, files, "ImagePositionPatient", 3)
    spacings = _vectors(datasets, files, "PixelSpacing", 2)
    for values, word in ((cosines, "ImageOrientationPatient"), (spacings, "PixelSpacing")):
        far = np.abs(values - values[0]).max(1) > 1e-4
        if far.any():
            raise InputError(
                f"{files[int(far.argmax())]}: {word} differs from that of {files[0].name}; "
                "leave only slices of one volume in the folder"
            )
    along_row, along_column = cosines[0, :3], cosines[0, 3:]
    normal = np.cross(along_row, along_column)
    places = positions @ normal
    order = [int(k) for k in np.argsort(places, kind="stable")]
    if len(order) > 1:
        gaps = np.diff(places[order])
        spacing = float(np.median(gaps))
        for k, gap in enumerate(gaps):
            two = f"{files[order[k]].name} and {files[order[k + 1]].name}"
            if gap < 1e-3:
                raise InputError(
                    f"{files[0].parent}: {two} have the same position; leave one volume in the folder"
                )
            if abs(gap - spacing) > max(UNEVEN * spacing, 0.01):
                raise InputError(
                    f"{files[0].parent}: slices are missing between {two} "
                    f"({gap:g} mm apart, the others {spacing:g})"
                )
        step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    else:
        with _decoding(files[0], "is damaged (the distance of its slices is no number)"):
            thickness = float(
                datasets[0].get("SpacingBetweenSlices") or datasets[0].get("SliceThickness") or 1
            )
        step = normal * thickness
    affine = np.eye(4)
    # PixelSpacing is that of rows, then of columns; the first cosines are those of a row.
    affine[:3, 0], affine[:3, 1] = along_row * spacings[0, 1], along_column * spacings[0, 0]
    affine[:3, 2], affine[:3, 3] = step, positions[order[0]]
    return order, LPS_TO_RAS @ affine


def _vectors(datasets: list[Any], files: list[Path], word: str, length: int) -> NDArray[np.float64]:
    """Return a tag of so many finite numbers of all slices, (D, length). Raises InputError for others."""
    rows = []
    for dataset, file in zip(datasets, files, strict=True):
        with _decoding(file, f"is damaged ({word} is not {length} numbers)"):
            row = np.array([float(number) for number in dataset[word].value])
        if row.shape != (length,) or not np.isfinite(row).all() or np.abs(row).max() > FARTHEST:
            raise InputError(f"{file}: is damaged ({word} is not {length} numbers)")
        rows.append(row)
    return np.stack(rows)


def _pixels(dataset: Any, path: Path) -> NDArray[Any]:
    """Return the stored samples, (H, W, C)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    what = DAMAGED
    if _is_compressed(syntax):
        what = (
            f"is compressed as {syntax.name}, which cannot be decoded here, or damaged; "
            "decompress it first, with dcmdjpeg or gdcmconv --raw, say"
        )
    with warnings.catch_warnings(), _decoding(path, what):
        warnings.simplefilter("ignore")
        samples: NDArray[Any] = _decoded(dataset, syntax)
    return samples[..., None] if samples.ndim == 2 else samples


def _is_compressed(syntax: Any) -> bool:
    """Tell whether samples are compressed; so are those of a syntax that pydicom does not know."""
    try:
        return bool(syntax.is_encapsulated or syntax.is_compressed)
    except ValueError:
        return True


def _decoded(dataset: Any, syntax: str) -> NDArray[Any]:
    pydicom = pydicom_or_refuse()
    if syntax not in JPEG_LOSSLESS + JPEG_LS:
        return np.asarray(pydicom.pixels.pixel_array(dataset))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    decode = imagecodecs.jpegls_decode if syntax in JPEG_LS else imagecodecs.jpegsof3_decode
    samples: NDArray[Any] = decode(frame)
    if samples.shape[:2] != (dataset.Rows, dataset.Columns):
        raise ValueError(f"{samples.shape[1]}x{samples.shape[0]} pixels decoded")
    if dataset.PixelRepresentation:  # the sign is that of the highest of the stored bits
        unused = 8 * samples.dtype.itemsize - dataset.BitsStored
        samples = (samples << unused).view(f"i{samples.dtype.itemsize}") >> unused
    return samples


def _rescaled(stored: list[NDArray[Any]], datasets: list[Any]) -> NDArray[Any]:
    """Return physical values, (D, H, W, C): whole numbers of 16 bits where they are, else floats."""
    scales = [scale(dataset) for dataset in datasets]
    values = np.stack(stored)
    if all(factors == (1, 0) for factors in scales):
        return values
    slopes, intercepts = (np.array(part).reshape(-1, 1, 1, 1) for part in zip(*scales, strict=True))
    values = values * slopes + intercepts
    if (slopes == 1).all() and (intercepts % 1 == 0).all():
        for depth in (np.uint16, np.int16):
            if np.iinfo(depth).min <= values.min() and values.max() <= np.iinfo(depth).max:
                return values.astype(depth)
    return values


def scale(dataset: Any) -> tuple[float, float]:
    """Return slope and intercept; none for colours, which have no units."""
    if int(dataset.get("SamplesPerPixel") or 1) > 1:
        return 1.0, 0.0
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return float(slope or 1), float(intercept or 0)


def _window(dataset: Any) -> ValueRange | None:
    """Return the first display window as its darkest and brightest value (PS3.3 C.11.2.1.2)."""
    if not dataset.get("WindowWidth") or dataset.get("WindowCenter") is None:
        return None
    centre, width = (float(np.ravel(dataset[word].value)[0]) for word in ("WindowCenter", "WindowWidth"))
    if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR":
        centre, width = centre - 0.5, width - 1
    low, high = centre - width / 2, centre + width / 2
    return (low, high) if is_span(low, high) else None


def pydicom_or_refuse() -> Any:
    """Import pydicom; raises InputError if it is missing."""
    try:
        import pydicom
        import pydicom.encaps
        import pydicom.errors
        import pydicom.filereader
        import pydicom.pixels
    except ImportError:
        raise InputError("DICOM files need pydicom: pip install 'ddfm[medical]'") from None
    return pydicom
