"""Reading and writing pictures without losing what is in them: depth, colour, alpha, orientation."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import putchunk

from ddfm.errors import InputError

READABLE = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WebP",
}
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = 33  # bytes of signature and IHDR; a colour profile comes right behind them
MINIMUM_SIDE = 16


@dataclass(frozen=True)
class Image:
    """A picture as the fusion sees it.

    Attributes:
        pixels: float32 in [0, 1], shape (H, W, 1) if it is grey, (H, W, 3) RGB if it is not. A file
            with three equal channels is grey.
        depth: what the samples were stored as: uint8, uint16 or float32.
        alpha: float32 in [0, 1], shape (H, W), or None.
        icc_profile: the file's colour profile, or None.
        name: where it came from, for messages.
    """

    pixels: NDArray[np.float32]
    depth: np.dtype[Any]
    alpha: NDArray[np.float32] | None = None
    icc_profile: bytes | None = None
    name: str = "image"

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def is_colour(self) -> bool:
        return self.pixels.shape[2] == 3

    def to_array(self) -> NDArray[Any]:
        """Samples at the image's own depth, shape (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) with alpha."""
        samples = self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])
        if self.depth != np.float32:
            top = np.iinfo(self.depth).max
            samples = np.rint(samples.astype(np.float64) * top).clip(0, top)
        return np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples).astype(self.depth)


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


def read_image(path: Path | str) -> Image:
    """Read a PNG, JPEG, TIFF, BMP or WebP file of 8 or 16 bits, or a float TIFF within [0, 1].

    The EXIF orientation is applied. Raises InputError, naming the file, for anything that is not
    one whole picture: missing, empty, truncated, several pages, CMYK, non-finite samples.
    """
    path = Path(path)
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
    if data.startswith(TIFF_MAGIC):
        return _read_tiff(data, str(path))
    return _read_with_pillow(data, str(path))


def from_array(samples: NDArray[Any], name: str = "array") -> Image:
    """An array as an image: uint8, uint16, or floats in [0, 1]; (H, W) or (H, W, 1 | 2 | 3 | 4).

    Two and four channels are grey and RGB with alpha. Raises InputError for other shapes, types and ranges.
    """
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4):
        raise InputError(f"{name}: shape {samples.shape} is not H x W or H x W x (1 to 4 channels)")
    if min(samples.shape[:2]) < MINIMUM_SIDE:
        height, width = samples.shape[:2]
        raise InputError(
            f"{name}: is {width}x{height} pixels; at least {MINIMUM_SIDE}x{MINIMUM_SIDE} are needed"
        )
    if samples.dtype in (np.uint8, np.uint16):
        depth = samples.dtype
        scaled = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    elif np.issubdtype(samples.dtype, np.floating):
        depth = np.dtype(np.float32)
        scaled = samples.astype(np.float32)
        if bad := int((~np.isfinite(samples)).sum()):
            raise InputError(
                f"{name}: {bad} of {samples.size} samples are NaN or infinite; replace them first"
            )
        if samples.min() < 0 or samples.max() > 1:
            raise InputError(
                f"{name}: float samples must lie in [0, 1], these are in "
                f"[{samples.min():g}, {samples.max():g}]; rescale them first"
            )
    else:
        raise InputError(
            f"{name}: samples are {samples.dtype}; 8- or 16-bit unsigned or float ones are needed"
        )
    has_alpha = samples.shape[2] in (2, 4)
    pixels = scaled[..., :-1] if has_alpha else scaled
    if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    return Image(pixels, depth, scaled[..., -1] if has_alpha else None, name=name)


def from_pil(image: PILImage.Image, name: str = "image") -> Image:
    """A PIL image of any mode but CMYK, LAB and HSV, its EXIF orientation applied. Raises InputError."""
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise InputError(f"{name}: has {frames} frames; save the one to fuse as a file of its own")
    if image.mode in ("CMYK", "LAB", "HSV"):
        raise InputError(f"{name}: is in {image.mode} colours; convert it to RGB first")
    samples = np.asarray(_plain_mode(ImageOps.exif_transpose(image)))
    return replace(from_array(samples, name), icc_profile=image.info.get("icc_profile"))


def _read_with_pillow(data: bytes, name: str) -> Image:
    try:
        with PILImage.open(io.BytesIO(data), formats=READABLE) as file:
            file.load()
            image = from_pil(file, name)
            if data.startswith(PNG_MAGIC) and data[24] == 16:
                # Pillow cuts 16-bit colour down to 8; libpng through imagecodecs keeps it.
                samples = _orient(imagecodecs.png_decode(data), file.getexif().get(0x0112, 1))
                image = replace(from_array(samples, name), icc_profile=image.icc_profile)
            return image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: is not a PNG, JPEG, TIFF, BMP or WebP image") from error
    except PILImage.DecompressionBombError as error:
        raise InputError(f"{name}: is too large ({error})") from error
    except (OSError, SyntaxError, ValueError, imagecodecs.PngError) as error:
        raise InputError(f"{name}: is damaged or cut short ({error})") from error


def _plain_mode(image: PILImage.Image) -> PILImage.Image:
    """Palettes, bitmaps and colour keys unfolded to L, LA, RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        keyed = "transparency" in image.info
        return image.convert({"L": "LA", "RGB": "RGBA"}.get(image.mode, image.mode)) if keyed else image
    if image.mode in ("F", "I;16", "I;16B", "I;16L"):
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if "transparency" in image.info or image.mode in ("PA", "RGBa") else "RGB")


def _read_tiff(data: bytes, name: str) -> Image:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            if len(tiff.pages) != 1:
                raise InputError(
                    f"{name}: has {len(tiff.pages)} pages; save the one to fuse as a file of its own"
                )
            page = tiff.pages[0]
            stored = zip(page.dataoffsets, page.databytecounts, strict=True)
            if any(start + count > len(data) for start, count in stored):
                raise InputError(f"{name}: is damaged or cut short (it ends before its last strip)")
            samples = _tiff_samples(page, name)
            tags = {code: page.tags[code].value for code in (274, 34675) if code in page.tags}
    except InputError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever they stumble on
        raise InputError(f"{name}: is damaged or cut short ({error})") from error
    return replace(from_array(_orient(samples, tags.get(274, 1)), name), icc_profile=tags.get(34675))


def _tiff_samples(page: Any, name: str) -> NDArray[Any]:
    samples: NDArray[Any] = page.asarray()
    if page.photometric.name not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR", "PALETTE"):
        raise InputError(f"{name}: is a TIFF in {page.photometric.name} colours; convert it to RGB first")
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * 255
    elif page.bitspersample not in (8, 16, 32, 64):
        raise InputError(f"{name}: has {page.bitspersample}-bit samples; save it with 8 or 16 bits first")
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    if page.photometric.name == "PALETTE":
        return np.moveaxis(page.colormap[:, samples], 0, -1)
    if page.photometric.name == "MINISWHITE":
        if not np.issubdtype(samples.dtype, np.unsignedinteger):
            raise InputError(f"{name}: float samples where white is zero; invert them first")
        samples = np.iinfo(samples.dtype).max - samples
    return samples


def _orient(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo EXIF orientation 1..8: mirror, then quarter turns."""
    if orientation in (2, 4, 5, 7):
        samples = samples[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.rot90(samples, turns)


def check_writable(path: Path, depth: np.dtype[Any], has_alpha: bool) -> None:
    """Find out before the work whether ``path`` can hold the result and can be written.

    Creates the folder it lies in. Raises InputError if the format is unknown, cannot hold the depth
    or the alpha channel, or the place cannot be written to.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: unknown output format; use one of {', '.join(SUFFIXES)}")
    if depth == np.float32 and kind != "TIFF":
        raise InputError(f"{path}: {kind} cannot hold float samples; write .tif")
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
        probe = folder / f".ddfm-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror})") from error


def write_image(path: Path, image: Image) -> None:
    """Write the image whole or not at all; the format follows the suffix (see `check_writable`)."""
    write_whole(path, _encode(image, SUFFIXES[path.suffix.lower()]))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; raises InputError if it cannot be."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _encode(image: Image, kind: str) -> bytes:
    samples, buffer = image.to_array(), io.BytesIO()
    if kind == "TIFF":
        tifffile.imwrite(
            buffer,
            samples,
            photometric="rgb" if image.is_colour else "minisblack",
            planarconfig="contig" if samples.ndim == 3 else None,
            extrasamples=None if image.alpha is None else ["unassalpha"],
            compression="zlib",
            iccprofile=image.icc_profile,
            software=False,
            metadata=None,
        )
    elif image.depth == np.uint16:
        png = imagecodecs.png_encode(samples)
        buffer.write(png[:PNG_HEADER])
        if image.icc_profile is not None:
            putchunk(buffer, b"iCCP", b"ICC\0\0", zlib.compress(image.icc_profile))
        buffer.write(png[PNG_HEADER:])
    else:
        options: dict[str, dict[str, Any]] = {
            "JPEG": {"quality": 95, "subsampling": 0},
            "WebP": {"lossless": True, "exact": True},
        }
        profile = {} if image.icc_profile is None or kind == "BMP" else {"icc_profile": image.icc_profile}
        PILImage.fromarray(samples).save(buffer, format=kind, **options.get(kind, {}), **profile)
    return buffer.getvalue()
