"""Volumes for tests, written with nibabel and pydicom, not with the code under test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

OBLIQUE = np.array(
    [[-0.8, 0.1, 0.0, 30.0], [0.12, 0.9, -0.3, -40.0], [0.0, 0.2, 2.5, 7.0], [0.0, 0.0, 0.0, 1.0]]
)
COSINES = (0.6, 0.8, 0.0, 0.0, 0.0, -1.0)  # of rows and columns; their normal is (-0.8, 0.6, 0)
POSITION, SPACING, GAP = (-100.5, 20.25, 300.0), (0.7, 0.9), 2.5
PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19700102",
    "PatientAddress": "1 Main Street",
    "InstitutionName": "General Hospital",
    "ReferringPhysicianName": "Welby^Marcus",
    "AccessionNumber": "ACC-0815",
    "StudyDate": "20240229",
    "SeriesDescription": "Jane's head",
    "OperatorsName": "Ratched^Mildred",
    "DeviceSerialNumber": "SN-99",
    "PatientComments": "knows Doe",
}


def hounsfield(depth: int, height: int = 20, width: int = 24, seed: int = 0) -> NDArray[np.int16]:
    """A smooth volume (D, H, W) of whole Hounsfield units, -1000 to 2000."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(0, 3, n) for n in (depth, height, width)), indexing="ij")
    a, b, c = rng.uniform(0, 6, 3)
    waves = np.sin(2 * x + a + z) + np.sin(3 * y + b) + np.sin(x * y + c - z)
    return np.rint(-1000 + 3000 * (waves - waves.min()) / np.ptp(waves)).astype(np.int16)


def write_nifti(path: Path, samples: NDArray[Any], affine: Any = OBLIQUE, **fields: Any) -> Path:
    """Samples (X, Y, Z); ``slope`` and others are fields of the header."""
    slope, intercept = fields.pop("slope", None), fields.pop("intercept", None)
    image = nibabel.Nifti1Image(samples, affine)
    for field, value in fields.items():
        image.header[field] = value
    image.header.set_slope_inter(slope, intercept)
    image.to_filename(path)
    return path


def write_series(folder: Path, stored: NDArray[Any], *, order: Any = None, **tags: Any) -> Path:
    """Stored samples (D, H, W) or (D, H, W, 3), one file a slice, named in an order that says nothing.

    Tags that are functions are called with the slice's number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = (generate_uid() for _ in range(3))
    normal = np.cross(COSINES[:3], COSINES[3:])
    names = np.random.default_rng(1).permutation(len(stored))
    for k, samples in enumerate(stored):
        dataset = pydicom.Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, study
        dataset.FrameOfReferenceUID, dataset.Modality = frame, "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Rows, dataset.Columns = samples.shape[:2]
        dataset.SamplesPerPixel = 1 if samples.ndim == 2 else 3
        dataset.PhotometricInterpretation = "MONOCHROME2" if samples.ndim == 2 else "RGB"
        if samples.ndim == 3:
            dataset.PlanarConfiguration = 0
        bits = 8 * samples.dtype.itemsize
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(samples.dtype.kind == "i")
        dataset.ImageOrientationPatient = list(COSINES)
        dataset.ImagePositionPatient = [round(float(p), 6) for p in POSITION + k * GAP * normal]
        dataset.PixelSpacing, dataset.SliceThickness = list(SPACING), GAP
        dataset.InstanceNumber = len(stored) - k  # against the order along the normal
        for word, value in PATIENT.items():
            setattr(dataset, word, value)
        dataset.add_new(0x00091001, "LO", "private Doe")
        dataset.PixelData = samples.tobytes()
        dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for word, value in tags.items():
            value = value(k) if callable(value) else value
            if word == "TransferSyntaxUID":
                dataset.file_meta.TransferSyntaxUID = value
            elif value is None:
                delattr(dataset, word)
            else:
                setattr(dataset, word, value)
                if word == "BitsStored":
                    dataset.HighBit = value - 1
        dataset.save_as(folder / f"{names[k]:03d}.dcm", enforce_file_format=True)
    return folder
