"""Read and write pictures without losing what is in them: depth, colour, alpha, orientation."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats import heic, raster, raw, tiff
from ddfm.formats.atomic import check_target, prepare_folder, write_whole
from ddfm.formats.files import decoding, entries, is_folder, read_whole
from ddfm.formats.radiometric import is_radiometric, readings_as_picture
from ddfm.pictures.image import Image, Resolution, from_array, from_stack
from ddfm.pictures.ranges import Range, RangeChoice, of_bits
from ddfm.timing import stage

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WebP",
}
READ_SUFFIXES = (*SUFFIXES, ".heic", ".heif", *raw.SUFFIXES)


def images_by_stem(folder: Path, suffixes: Collection[str] = READ_SUFFIXES) -> dict[str, Path]:
    """Return a folder's image files by their stem, sorted; hidden files are left out.

    Raises InputError if the folder is none, cannot be listed, or holds one stem twice.
    """
    if not is_folder(folder):
        raise InputError(f"{folder} is not a folder")
    found: dict[str, Path] = {}
    for path in entries(folder):
        if is_image_name(path.name, suffixes) and path.is_file():
            if path.stem in found:
                raise InputError(
                    f"{folder}: holds both {found[path.stem].name} and {path.name}, "
                    "which have the same stem; keep one of them"
                )
            found[path.stem] = path
    return found


def is_image_name(name: str, suffixes: Collection[str] = SUFFIXES.keys()) -> bool:
    """Tell whether a file of that name is taken for a picture: by its suffix, and if it is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes  # noqa: PTH122 - quick


def read_image(path: Path | str, value_range: RangeChoice = None) -> Image:
    """Read a PNG, JPEG, TIFF, BMP or WebP file of 8 to 16 bits, a float TIFF, HEIC or camera RAW.

    A thermal camera's radiometric JPEG gives its readings, in degrees Celsius where it is calibrated.

    The EXIF orientation is applied. Nothing is stretched: see `ranges.choose_range` for the range that
    is taken, and Image.range_from for why. A range that is asked for and does not hold all samples
    cuts them off with a warning, and Image.outside counts them.

    Raises InputError, naming the file, for anything that is not one whole picture: missing, empty,
    truncated, several pages (`read_pages` reads those), CMYK, non-finite samples.
    """
    pages = read_pages(path, value_range)
    if len(pages) > 1:
        raise InputError(
            f"{path}: has {len(pages)} pages and one is needed here; save it as a file of its own"
        )
    return pages[0]


@stage("read")
def read_pages(path: Path | str, value_range: RangeChoice = None) -> list[Image]:
    """Read the pages of a TIFF file, all of one size, depth and range; one of any other picture.

    Raises InputError as `read_image` does, and for pages that differ in size, depth or colours.
    """
    path = Path(path)
    data = read_whole(path)
    if path.suffix.lower() in raw.SUFFIXES:
        return [_read_raw(data, str(path), value_range)]
    if data.startswith(tiff.MAGIC):
        return _read_tiff(data, str(path), value_range)
    if is_radiometric(data):
        return [from_array(readings_as_picture(data, str(path)), str(path), value_range)]
    picture = (raster.of_heic if heic.is_heic(data) else raster.read)(data, str(path))
    image = from_array(picture.samples, str(path), value_range, picture.declared)
    return [replace(image, icc_profile=picture.icc_profile, exposure=picture.exposure)]


@stage("read")
def from_pil(image: PILImage.Image, name: str = "image", value_range: RangeChoice = None) -> Image:
    """Convert a PIL image of any mode but CMYK, LAB and HSV, its EXIF orientation applied.

    Raises InputError, also for one that is closed, or whose file is damaged or cut short.
    """
    with decoding(name, "cannot be read: it is closed, damaged or cut short"):
        raster.check_mode(image, name)
        samples = raster.unfold(image)
    return replace(from_array(samples, name, value_range), icc_profile=image.info.get("icc_profile"))


@stage("read")
def read_8bit(path: Path | str) -> NDArray[np.uint8]:
    """Read a picture of 8 bits as it is: (H, W) if it is stored as grey, (H, W, 3) if it is not.

    For measuring and training. The EXIF orientation is applied; alpha is dropped. Beside the formats of
    `read_image` PPM and PGM are read.

    Raises:
        InputError: as `read_image`, and for samples of other than 8 bits.
    """
    path = Path(path)
    data = read_whole(path)
    if data.startswith(tiff.MAGIC):
        pages = tiff.read_pages(data, str(path))
        if len(pages) > 1:
            raise InputError(
                f"{path}: has {len(pages)} pages; save the one that is meant as a file of its own"
            )
        samples = raster.orient(pages[0].samples, pages[0].orientation)
        if pages[0].palette:
            samples = (samples >> 8).astype(np.uint8)
    else:
        samples = raster.read(data, str(path), (*raster.READABLE, "PPM")).samples
    if samples.dtype != np.uint8:
        raise InputError(
            f"{path}: has {samples.dtype} samples; 8 bits are needed here (metrics are defined on them)"
        )
    if samples.ndim == 3 and samples.shape[2] in (1, 2):
        samples = samples[..., 0]
    # A copy, because what a decoder returns may be read-only.
    return np.array(samples[..., :3] if samples.ndim == 3 else samples, order="C")


def _read_raw(data: bytes, name: str, value_range: RangeChoice) -> Image:
    developed = raw.read(data, name)
    image = from_array(developed.samples, name, value_range, of_bits(16, "16 bits, linear"))
    return replace(image, icc_profile=raw.linear_profile(), exposure=developed.exposure)


def _read_tiff(data: bytes, name: str, value_range: RangeChoice) -> list[Image]:
    pages = tiff.read_pages(data, name)
    upright = [raster.orient(page.samples, page.orientation) for page in pages]
    for k, samples in enumerate(upright):
        if (samples.shape, samples.dtype) != (upright[0].shape, upright[0].dtype):
            shown = [
                f"{'x'.join(map(str, s.shape[1::-1] + s.shape[2:]))} {s.dtype}" for s in (samples, upright[0])
            ]
            raise InputError(f"{name}: page {k + 1} is {shown[0]}, page 1 {shown[1]}; save them alike")
    stack = np.stack([samples[..., None] if samples.ndim == 2 else samples for samples in upright])
    if stack.shape[3] > 4:
        raise InputError(f"{name}: has {stack.shape[3]} channels; save those to fuse as grey or RGB pictures")
    declared = [page.declared for page in pages if page.declared is not None]
    images = from_stack(stack, name, value_range, _widest(declared) if len(declared) == len(pages) else None)
    names = [name] if len(pages) == 1 else [f"{name}, page {k + 1}" for k in range(len(pages))]
    return [
        replace(
            image,
            name=title,
            icc_profile=page.icc_profile,
            resolution=_turned(page.resolution, page.orientation),
            exposure=page.exposure,
        )
        for image, page, title in zip(images, pages, names, strict=True)
    ]


def _widest(declared: Sequence[Range]) -> Range:
    low, high = min(r.limits[0] for r in declared), max(r.limits[1] for r in declared)
    return Range((low, high), declared[0].reason)


def _turned(resolution: Resolution | None, orientation: int) -> Resolution | None:
    """Return the resolution after `raster.orient`: a quarter turn swaps across and down."""
    if resolution is None or orientation < 5:
        return resolution
    across, down, unit = resolution
    return down, across, unit


def suffix_for(depth: np.dtype[Any]) -> str:
    """Return the format for a result of this depth: PNG as far as it can hold it, TIFF otherwise."""
    return ".png" if depth in (np.uint8, np.uint16) else ".tif"


def check_writable(path: Path, depth: np.dtype[Any], has_alpha: bool) -> None:
    """Find out before the work whether ``path`` can hold the result and can be written.

    Creates the folder it lies in. Raises InputError if the format is unknown, cannot hold the depth
    or the alpha channel, or the place cannot be written to.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: unknown output format; use one of {', '.join(SUFFIXES)}")
    if depth not in (np.uint8, np.uint16) and kind != "TIFF":
        samples = "float" if depth == np.float32 else "signed"
        raise InputError(f"{path}: {kind} cannot hold {samples} samples; write .tif")
    if depth == np.uint16 and kind not in ("PNG", "TIFF"):
        raise InputError(
            f"{path}: {kind} cannot hold 16 bits, which the first source has; write .png or .tif"
        )
    if has_alpha and kind in ("JPEG", "BMP"):
        raise InputError(f"{path}: {kind} cannot hold the source's alpha channel; write .png, .tif or .webp")
    check_target(path)
    prepare_folder(path.parent)


@stage("write")
def write_image(path: Path, image: Image) -> None:
    """Write the image whole or not at all; the format follows the suffix (see `check_writable`)."""
    write_whole(path, _encode(image, SUFFIXES[path.suffix.lower()]))


@stage("write")
def write_pages(path: Path, images: Sequence[Image]) -> None:
    """Write pictures of one size, depth and range as the pages of a TIFF file, whole or not at all."""
    write_whole(path, _encode_tiff(images))


def _encode_tiff(images: Sequence[Image]) -> bytes:
    first = images[0]
    return tiff.encode(
        [image.to_array() for image in images],
        first.limits,
        colour=first.is_colour,
        alpha=first.alpha is not None,
        icc_profile=first.icc_profile,
        resolution=first.resolution,
    )


def _encode(image: Image, kind: str) -> bytes:
    if kind == "TIFF":
        return _encode_tiff([image])
    return raster.encode(image.to_array(), kind, image.icc_profile)
