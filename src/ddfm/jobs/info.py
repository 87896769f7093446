"""What the tool makes of a file, without fusing it: ``ddfm info``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddfm.errors import InputError
from ddfm.formats import heic, raster, raw, tiff, volumes
from ddfm.formats.dicom import scale
from ddfm.formats.files import is_folder, read_whole
from ddfm.formats.pictures import read_image, suffix_for
from ddfm.formats.volumes import Volume
from ddfm.jobs.slices import noise_levels
from ddfm.pictures.image import Image, range_remarks
from ddfm.pictures.ranges import ValueRange


@dataclass(frozen=True)
class FileInfo:
    """The facts of a picture or a volume, as fusion sees them.

    Attributes:
        path: as given.
        kind: PNG, JPEG, TIFF, BMP, WEBP, NIfTI or DICOM.
        width, height: of the upright picture, in pixels.
        slices: pages of a TIFF, slices of a volume; 1 for a picture.
        colour: whether it is not grey.
        alpha: whether it has an alpha channel.
        depth: of the samples that are written back: uint8, uint16, int16 or float32.
        stored: what a volume's samples are in the file, if that is something else; else empty.
        smallest, largest: values in the file's units.
        value_range: the values that stand for black and white.
        range_from: why these.
        orientation: EXIF's that was undone, 1 to 8, or where columns, rows and slices run to (LPS, say).
        spacing: of columns, rows and slices, in millimetres; None if unknown.
        affine: (column, row, slice) to millimetres, 4 x 4; None if unknown.
        exposure: the light that the camera gave it, time (s) x ISO / 100 / f-number^2; None if unknown.
        resolution: of a TIFF: pixels per unit across and down, and the unit; or None.
        icc_profile: whether there is a colour profile.
        noise: standard deviation, in 8-bit grey levels, if it is above the gate for clean sources; else 0.
        outlook: what fusion would do with it, one sentence each.
    """

    path: str
    kind: str
    width: int
    height: int
    slices: int
    colour: bool
    alpha: bool
    depth: str
    stored: str
    smallest: float
    largest: float
    value_range: ValueRange
    range_from: str
    orientation: int | str | None
    spacing: tuple[float, float, float] | None
    affine: list[list[float]] | None
    exposure: float | None
    resolution: tuple[float, float, str] | None
    icc_profile: bool
    noise: float
    outlook: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return lines for people: a title, and a line for each fact that is worth one."""
        size = f"{self.width}x{self.height}" + (f", {self.slices} slices" if self.slices > 1 else "")
        colour = ("colour" if self.colour else "grey") + (" with alpha" if self.alpha else "")
        low, high = self.value_range
        facts = {
            "size": f"{size}, {colour}, {self.depth}" + (", colour profile" if self.icc_profile else ""),
            "values": f"{self.smallest:g} to {self.largest:g}",
            "range": f"{low:g} to {high:g} ({self.range_from})",
            "stored as": self.stored,
            "orientation": "" if self.orientation == 1 else str(self.orientation or "unknown"),
            "spacing": "" if self.spacing is None else "x".join(f"{s:.4g}" for s in self.spacing) + " mm",
            "resolution": "" if self.resolution is None else "{:g} x {:g} per {}".format(*self.resolution),
            "exposure": "" if self.exposure is None else f"{self.exposure:.3g} (s x ISO / 100 / f-number^2)",
            "noise": f"{self.noise:.1f} grey levels" if self.noise else "",
        }
        shown = [f"  {word + ':':<13}{text}" for word, text in facts.items() if text]
        return [f"{self.path}: {self.kind}", *shown, *(f"  {sentence}" for sentence in self.outlook)]


def describe(path: Path | str, value_range: volumes.VolumeRange = None) -> FileInfo:
    """Read a picture, a multi-page TIFF, a NIfTI file or a DICOM series and gather the facts.

    Args:
        value_range: as for `volumes.read_volume`.

    Raises:
        InputError: what fusion would refuse is refused here, in the same words.
    """
    path = Path(path)
    if volumes.is_volume(path):
        volume = volumes.read_volume(path, value_range)
        kind: str = volume.kind
        orientation: int | str | None = volume.axis_codes
    elif is_folder(path):
        raise InputError(f"{path}: is a folder without DICOM files; name files, or a folder of one series")
    else:
        if value_range == "window":
            raise InputError(f"{path}: has no display window; give the range in numbers, or data")
        volume = Volume((read_image(path, value_range),), "TIFF", name=str(path))
        kind, orientation = _format_and_orientation(path)
    if volume.kind == "TIFF" and len(volume.slices) > 1:
        kind, orientation = _format_and_orientation(path)
    first = volume.slices[0]
    values = [image.values() for image in volume.slices]
    smallest, largest = float(min(v.min() for v in values)), float(max(v.max() for v in values))
    noise = round(noise_levels([volume])[0], 2)
    affine = None if volume.affine is None else [[round(x, 6) for x in row] for row in volume.affine.tolist()]
    return FileInfo(
        path=str(path),
        kind=kind,
        width=first.size[1],
        height=first.size[0],
        slices=len(volume.slices),
        colour=first.is_colour,
        alpha=first.alpha is not None,
        depth=first.depth.name,
        stored=_stored(volume),
        smallest=_rounded(smallest, first),
        largest=_rounded(largest, first),
        value_range=first.limits,
        range_from=first.range_from,
        orientation=orientation,
        spacing=volume.spacing,
        affine=affine,
        exposure=first.exposure,
        resolution=_resolution(first),
        icc_profile=first.icc_profile is not None,
        noise=noise,
        outlook=_outlook(volume, kind, noise),
    )


def _outlook(volume: Volume, kind: str, noise: float) -> list[str]:
    first = volume.slices[0]
    sentences: list[str] = []
    if len(volume.slices) > 1:
        sentences.append("fused slice by slice, with one range and one noise level for all")
    sentences += range_remarks(volume.slices)
    if noise:
        sentences.append("noisy: denoised first, unless the task is medical or --noise is off")
    if kind == "NIfTI":
        sentences.append("written as NIfTI with this geometry, type and units; texts of the header left out")
    elif kind == "DICOM":
        sentences.append("written as a derived series with this geometry and units; patient tags left out")
    elif len(volume.slices) > 1:
        sentences.append(f"written as a multi-page TIFF of {first.depth.name}, in the same units")
    else:
        suffixes = ".png or .tif" if suffix_for(first.depth) == ".png" else ".tif"
        sentences.append(f"written as {first.depth.name} ({suffixes}), in the same units")
    return sentences


def _stored(volume: Volume) -> str:
    if volume.kind == "NIfTI":
        slope, intercept = volume.header.get_slope_inter()
        kind = volume.header.get_data_dtype()
        return "RGB" if kind.names else f"{kind}, slope {slope:g}, intercept {intercept:g}"
    if volume.kind == "DICOM":
        tags = volume.header[0]
        slope, intercept = scale(tags)
        sign = "signed" if tags.get("PixelRepresentation") else "unsigned"
        bits = f"{tags.BitsStored} of {tags.BitsAllocated} bits, {sign}, {tags.PhotometricInterpretation}"
        return f"{bits}, slope {slope:g}, intercept {intercept:g}"
    return ""


def _rounded(value: float, image: Image) -> float:
    """Round integers to whole numbers, floats to what 32 bits hold."""
    return float(round(value)) if image.depth != np.float32 else float(f"{value:.7g}")


def _resolution(image: Image) -> tuple[float, float, str] | None:
    if image.resolution is None:
        return None
    across, down, unit = image.resolution
    return across, down, {2: "inch", 3: "centimetre"}.get(unit, "unit")


def _format_and_orientation(path: Path) -> tuple[str, int]:
    data = read_whole(path)
    if path.suffix.lower() in raw.SUFFIXES:
        return "camera RAW", 1  # LibRaw has turned it
    if heic.is_heic(data):
        return "HEIC", 1  # libheif has turned it
    if data.startswith(tiff.MAGIC):
        return "TIFF", tiff.first_orientation(path)
    return raster.format_and_orientation(data, str(path))
