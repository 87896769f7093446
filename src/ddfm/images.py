"""Reading and writing pictures without losing what is in them: depth, colour, alpha, orientation."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from ddfm import raster, tiff
from ddfm.errors import InputError
from ddfm.ranges import (
    SENSOR_BITS,
    Range,
    RangeChoice,
    ValueRange,
    choose_range,
    full_range,
    row_chunks,
    to_pixels,
    to_values,
    warn_outside,
)
from ddfm.stages import stage

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WebP",
}
MINIMUM_SIDE = 16
LITTLE_USED = 0.25  # of a range: below, say how to have it used


@dataclass(frozen=True)
class Image:
    """A picture as the fusion sees it.

    Attributes:
        pixels: float32 in [0, 1], shape (H, W, 1) if it is grey, (H, W, 3) RGB if it is not. A file
            with three equal channels is grey.
        depth: what the samples were stored as: uint8, uint16, int16 or float32.
        alpha: float32 in [0, 1], shape (H, W), or None.
        icc_profile: the file's colour profile, or None.
        name: where it came from, for messages.
        value_range: the values that pixels 0 and 1 stand for, in the file's units (see `ranges`); None
            for 0 to 255, 0 to 65535, 0 to 1.
        range_from: why it is this range, in words.
        outside: how many samples lay outside a range that was asked for and were set to its ends.
        resolution: of a TIFF, pixels per unit across and down, and the unit's tag; or None.
    """

    pixels: NDArray[np.float32]
    depth: np.dtype[Any]
    alpha: NDArray[np.float32] | None = None
    icc_profile: bytes | None = None
    name: str = "image"
    value_range: ValueRange | None = None
    range_from: str = ""
    outside: int = 0
    resolution: tiff.Resolution | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def is_colour(self) -> bool:
        return self.pixels.shape[2] == 3

    @property
    def is_display(self) -> bool:
        """Whether the range is that of display: all of 8 to 16 bits, or floats from 0 to 1."""
        tops = [2**bits - 1 for bits in SENSOR_BITS] if self.depth.kind == "u" else [1]
        return self.limits[0] == 0 and self.limits[1] in tops

    @property
    def limits(self) -> ValueRange:
        """The values that pixels 0 and 1 stand for."""
        return full_range(self.depth) if self.value_range is None else self.value_range

    def values(self) -> NDArray[np.float64]:
        """Pixels in the file's units, not rounded, shape (H, W, 1) or (H, W, 3)."""
        return to_values(self.pixels, self.limits)

    def to_array(self) -> NDArray[Any]:
        """Samples in the file's units and depth: (H, W) or (H, W, 3), with alpha (H, W, 2) or (H, W, 4)."""
        channels = self.pixels.shape[2] + (self.alpha is not None)
        stored = np.empty((*self.size, channels), self.depth)
        for rows in row_chunks(len(stored)):
            stored[rows] = self._samples(rows)
        return stored[..., 0] if channels == 1 else stored

    def _samples(self, rows: slice) -> NDArray[np.float64]:
        """What `to_array` stores of some rows, (h, W, C): whole numbers unless it stores floats."""
        pixels = self.pixels[rows]
        if self.depth == np.float32:
            samples = to_values(pixels, self.limits)
        else:
            samples = to_values(pixels.clip(0, 1), self.limits)
        if self.alpha is not None:
            alpha = self.alpha[rows].astype(np.float64) * alpha_top(self.depth, self.limits)
            samples = np.dstack([samples, alpha])
        if self.depth == np.float32:
            return samples
        stored = np.iinfo(self.depth)
        return np.rint(samples).clip(stored.min, stored.max)


def alpha_top(depth: np.dtype[Any], limits: ValueRange) -> float:
    """What an opaque sample of alpha is: that of 12-bit data is 4095, that of floats 1."""
    if depth == np.float32:
        return 1.0
    return limits[1] if depth == np.uint16 and limits[0] == 0 else float(np.iinfo(depth).max)


def images_by_stem(folder: Path, suffixes: Collection[str] = SUFFIXES.keys()) -> dict[str, Path]:
    """The image files of a folder by their name before the suffix, sorted; hidden files are left out.

    Raises InputError if the folder is none, cannot be listed, or holds one stem twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from error
    found: dict[str, Path] = {}
    for path in entries:
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith("."):
            if path.stem in found:
                raise InputError(
                    f"{folder}: holds both {found[path.stem].name} and {path.name}, "
                    "which have the same stem; keep one of them"
                )
            found[path.stem] = path
    return found


def read_image(path: Path | str, value_range: RangeChoice = None) -> Image:
    """Read a PNG, JPEG, TIFF, BMP or WebP file of 8 to 16 bits, or a float TIFF.

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
    """The pages of a TIFF file, all of one size, depth and range; of any other picture, the one there is.

    Raises InputError as `read_image` does, and for pages that differ in size, depth or colours.
    """
    path = Path(path)
    data = read_whole(path)
    if data.startswith(tiff.MAGIC):
        return _read_tiff(data, str(path), value_range)
    picture = raster.read(data, str(path))
    image = from_array(picture.samples, str(path), value_range, picture.declared)
    return [replace(image, icc_profile=picture.icc_profile)]


def read_whole(path: Path) -> bytes:
    """The bytes of a file; InputError if there is none, or nothing in it."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, an image file is needed")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise InputError(f"{path}: is empty (0 bytes)")
    return data


def from_array(
    samples: NDArray[Any],
    name: str = "array",
    value_range: RangeChoice = None,
    declared: Range | None = None,
) -> Image:
    """An array as an image: uint8, uint16, int16 or floats; (H, W) or (H, W, 1 | 2 | 3 | 4).

    Two and four channels are grey and RGB with alpha. ``value_range`` and ``declared`` are what
    `ranges.choose_range` takes. Raises InputError for other shapes and types, and for non-finite samples.
    """
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4):
        raise InputError(f"{name}: shape {samples.shape} is not H x W or H x W x (1 to 4 channels)")
    return from_stack(samples[None], name, value_range, declared)[0]


@stage("read")
def from_stack(
    samples: NDArray[Any],
    name: str = "stack",
    value_range: RangeChoice = None,
    declared: Range | None = None,
) -> list[Image]:
    """Pictures of one range, shape (D, H, W, 1 to 4); otherwise as `from_array`."""
    if min(samples.shape[1:3]) < MINIMUM_SIDE:
        height, width = samples.shape[1:3]
        raise InputError(
            f"{name}: is {width}x{height} pixels; at least {MINIMUM_SIDE}x{MINIMUM_SIDE} are needed"
        )
    if samples.dtype in (np.uint8, np.uint16, np.int16):
        depth = samples.dtype
    elif np.issubdtype(samples.dtype, np.floating):
        depth = np.dtype(np.float32)
        if bad := int((~np.isfinite(samples)).sum()):
            raise InputError(
                f"{name}: {bad} of {samples.size} samples are NaN or infinite; replace them first"
            )
    else:
        raise InputError(f"{name}: samples are {samples.dtype}; 8- or 16-bit integers or floats are needed")
    has_alpha = samples.shape[3] in (2, 4)
    colours = samples[..., :-1] if has_alpha else samples
    if colours.shape[3] == 3 and (colours == colours[..., :1]).all():
        colours = colours[..., :1]
    # Floats of alpha are in [0, 1] whatever the colours' units are.
    chosen = choose_range(colours if depth.kind == "f" else samples, value_range, declared, name)
    pages, outside = zip(*(to_pixels(page, chosen.limits) for page in colours), strict=True)
    reason = chosen.reason
    if any(outside):
        reason += ", " + warn_outside(sum(outside), colours.size, chosen.limits, name)
    alphas: list[NDArray[np.float32] | None] = [None] * len(pages)
    if has_alpha:
        top = alpha_top(depth, chosen.limits)
        if samples[..., -1].min() < 0 or samples[..., -1].max() > top:
            raise InputError(f"{name}: alpha lies outside 0 to {top:g}, the depth's own; rescale it first")
        alphas = [(alpha / np.float64(top)).astype(np.float32) for alpha in samples[..., -1]]
    return [
        Image(page, depth, alpha, None, name, chosen.limits, reason, count)
        for page, alpha, count in zip(pages, alphas, outside, strict=True)
    ]


def range_remarks(images: Sequence[Image]) -> list[str]:
    """What a user should be told of the range of a picture or of a volume's slices, one sentence each."""
    low, high = images[0].limits
    used = max(float(i.pixels.max()) for i in images) - min(float(i.pixels.min()) for i in images)
    remarks = []
    if "taken for" in images[0].range_from:
        remarks.append(f"{images[0].range_from}; --range {low:g},65535 takes all 16")
    if 0 < used < LITTLE_USED:
        remarks.append(f"its values use {used:.0%} of the range; --range data makes them use all of it")
    if outside := sum(image.outside for image in images):
        remarks.append(f"{outside} samples lie outside the range {low:g} to {high:g} and are cut off")
    return remarks


def with_shared_range(images: Sequence[Image]) -> list[Image]:
    """Pictures of one camera on one scale: the widest of their ranges for all of them.

    For exposures and focus stacks, where a range for each would undo what their brightness says.
    Sources of different depths are left as they are.
    """
    if len({image.depth for image in images}) > 1 or len({image.limits for image in images}) == 1:
        return list(images)
    shared = min(image.limits[0] for image in images), max(image.limits[1] for image in images)
    return [
        replace(
            image,
            pixels=to_pixels(image.values(), shared)[0],
            value_range=shared,
            range_from=f"the widest of the sources' ranges, {shared[0]:g} to {shared[1]:g}",
        )
        for image in images
    ]


@stage("read")
def from_pil(image: PILImage.Image, name: str = "image", value_range: RangeChoice = None) -> Image:
    """A PIL image of any mode but CMYK, LAB and HSV, its EXIF orientation applied. Raises InputError."""
    raster.check_mode(image, name)
    samples = raster.unfold(image)
    return replace(from_array(samples, name, value_range), icc_profile=image.info.get("icc_profile"))


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
        )
        for image, page, title in zip(images, pages, names, strict=True)
    ]


def _widest(declared: Sequence[Range]) -> Range:
    low, high = min(r.limits[0] for r in declared), max(r.limits[1] for r in declared)
    return Range((low, high), declared[0].reason)


def _turned(resolution: tiff.Resolution | None, orientation: int) -> tiff.Resolution | None:
    """The resolution after `raster.orient`: a quarter turn swaps across and down."""
    if resolution is None or orientation < 5:
        return resolution
    across, down, unit = resolution
    return down, across, unit


def suffix_for(depth: np.dtype[Any]) -> str:
    """The format for a result of this depth: PNG as far as it can hold it, TIFF otherwise."""
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
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    prepare_folder(path.parent)


def prepare_folder(folder: Path) -> None:
    """Create the folder and make sure that files can be created in it; else InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".ddfm-{os.getpid()}-{get_ident()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error


@stage("write")
def write_image(path: Path, image: Image) -> None:
    """Write the image whole or not at all; the format follows the suffix (see `check_writable`)."""
    write_whole(path, _encode(image, SUFFIXES[path.suffix.lower()]))


@stage("write")
def write_pages(path: Path, images: Sequence[Image]) -> None:
    """Write pictures of one size, depth and range as the pages of a TIFF file, whole or not at all."""
    write_whole(path, _encode_tiff(images))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half-written. Raises InputError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


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
