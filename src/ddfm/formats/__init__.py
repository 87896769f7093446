"""Bytes to pictures and back: raster formats, TIFF, NIfTI, DICOM."""
