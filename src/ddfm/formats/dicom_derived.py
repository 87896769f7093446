"""Writing a DICOM series that is derived from another: its geometry and units, new UIDs, no patient.

References: PS3.3 C.7.6.1 (derived images); PS3.15 annex E (what identifies a patient).
"""

from __future__ import annotations

import copy
import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.formats.dicom import pydicom_or_refuse, scale

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# What is kept of the source's tags unless all are asked for. Nothing here says who, where or when;
# what is not named here is left out, private tags among it, so that an unknown tag cannot leak.
GEOMETRY = [
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "SpacingBetweenSlices",
    "SliceLocation",
    "PatientPosition",
    "PixelAspectRatio",
    "ImagerPixelSpacing",
    "InstanceNumber",
]
VALUES = [
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "Units",
]
ACQUISITION = [
    "Modality",
    "BodyPartExamined",
    "KVP",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "EchoTrainLength",
    "MagneticFieldStrength",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "BurnedInAnnotation",
]
# Type 2: has to be there, may be empty.
EMPTY = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "SeriesNumber",
    "Manufacturer",
    "PositionReferenceIndicator",
    "Laterality",
]
# What describes the samples of the source, not of the result.
STALE = [
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "VOILUTSequence",
    "IconImageSequence",
    "RedPaletteColorLookupTableDescriptor",
    "OriginalAttributesSequence",
    "NumberOfFrames",
]


def check_writable(path: Path, depth: np.dtype[Any], colour: bool) -> None:
    """Raise InputError if a series cannot hold the result."""
    if colour and depth != np.uint8:
        raise InputError(
            f"{path}: DICOM holds colours of 8 bits only; give the series in colour as the first source"
        )


def encode(values: NDArray[np.float64], sources: list[Any], copy_patient: bool) -> list[bytes]:
    """Encode a derived series, one file a slice, from physical values (D, H, W, C).

    Geometry, units and window are the source's. UIDs are new, made from the source's and the samples, so that
    the same input gives the same bytes. Unless ``copy_patient``, only the tags named at the top of this
    module are taken over. The UIDs of study and frame of reference are then replaced, too: equal ones by
    equal ones.
    """
    stored = _stored(values, sources)
    series = (
        str(sources[0].get("SeriesInstanceUID", "")) + hashlib.sha256(stored.samples.tobytes()).hexdigest()
    )
    return [
        _encode_slice(stored._replace(samples=stored.samples[k]), source, k, series, copy_patient)
        for k, source in enumerate(sources)
    ]


class Stored(NamedTuple):
    """Samples as they are stored, (D, H, W, C) or one slice of them."""

    samples: NDArray[Any]
    slope: float
    intercept: float
    bits: int
    signed: bool


def _stored(values: NDArray[np.float64], sources: list[Any]) -> Stored:
    if values.shape[-1] == 3:
        return Stored(np.rint(values).clip(0, 255).astype(np.uint8), 1, 0, 8, False)
    bits, signed = max(int(s.BitsStored) for s in sources), bool(sources[0].get("PixelRepresentation"))
    (slope, intercept), *others = {scale(source) for source in sources}
    if others:  # PET has a slope for each slice; here is one for all of them, in 16 bits
        low, high = float(values.min()), float(values.max())
        # DICOM writes numbers in 16 characters at most
        slope, intercept = float(f"{(high - low) / 65535 or 1:.10g}"), float(f"{low:.10g}")
        bits, signed = 16, False
    limits = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    samples = np.rint((values - intercept) / slope).clip(*limits).astype(kind)
    return Stored(samples, slope, intercept, bits, signed)


def _encode_slice(stored: Stored, source: Any, index: int, series: str, copy_patient: bool) -> bytes:
    pydicom = pydicom_or_refuse()
    uid = pydicom.uid.generate_uid
    colour = stored.samples.shape[-1] == 3
    result = _copied(source) if copy_patient else _without_patient(source)
    result.ImageType = ["DERIVED", "SECONDARY", *list(source.get("ImageType") or [])[2:3]]
    result.DerivationDescription = "Image fusion (ddfm)"
    result.SeriesDescription = "Fused (ddfm)"
    result.SOPClassUID = SECONDARY_CAPTURE if colour else source.get("SOPClassUID", SECONDARY_CAPTURE)
    result.SOPInstanceUID = uid(entropy_srcs=["ddfm", series, str(index)])
    result.SeriesInstanceUID = uid(entropy_srcs=["ddfm", series])
    result.InstanceNumber = index + 1
    if "StudyInstanceUID" not in result:
        result.StudyInstanceUID = uid(entropy_srcs=["ddfm", "study", series])
    _set_pixels(result, stored)
    result.file_meta = pydicom.dataset.FileMetaDataset()
    result.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = result.SOPClassUID
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, result, enforce_file_format=True)
    return buffer.getvalue()


def _copied(source: Any) -> Any:
    result = copy.deepcopy(source)
    overlays = [element.tag for element in result if 0x6000 <= element.tag.group <= 0x60FF]
    for tag in [*(word for word in STALE if word in result), *overlays]:
        del result[tag]
    return result


def _without_patient(source: Any) -> Any:
    pydicom = pydicom_or_refuse()
    result = pydicom.Dataset()
    for word in GEOMETRY + VALUES + ACQUISITION + ["PhotometricInterpretation"]:
        if word in source:
            result[word] = copy.deepcopy(source[word])
    for word in EMPTY:
        setattr(result, word, None)
    for word in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if source.get(word):
            entropy = ["ddfm", str(source[word].value)]
            setattr(result, word, pydicom.uid.generate_uid(entropy_srcs=entropy))
    result.PatientIdentityRemoved = "YES"
    result.DeidentificationMethod = "ddfm: only geometry, units and acquisition taken over"
    return result


def _set_pixels(result: Any, stored: Stored) -> None:
    samples = stored.samples
    result.Rows, result.Columns, result.SamplesPerPixel = samples.shape
    result.BitsAllocated = 8 * samples.dtype.itemsize
    result.BitsStored, result.HighBit = stored.bits, stored.bits - 1
    result.PixelRepresentation = int(stored.signed)
    if samples.shape[-1] == 3:
        result.PhotometricInterpretation, result.PlanarConfiguration = "RGB", 0
        for word in VALUES:
            result.pop(word, None)
    else:
        result.pop("PlanarConfiguration", None)
        if not result.PhotometricInterpretation.startswith("MONOCHROME"):  # colours that are all grey
            result.PhotometricInterpretation = "MONOCHROME2"
        if "RescaleSlope" in result or (stored.slope, stored.intercept) != (1, 0):
            result.RescaleSlope, result.RescaleIntercept = stored.slope, stored.intercept
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    result.PixelData = data + b"\0" * (len(data) % 2)
    result["PixelData"].VR = "OB" if samples.dtype.itemsize == 1 else "OW"
