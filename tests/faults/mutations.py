"""Small files of every kind that is read, and ways to damage them; for the tests and benchmarks/fuzz.py."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import tifffile
from PIL import Image as PILImage

from ddfm.errors import InputError
from ddfm.formats.pictures import read_8bit, read_image, read_pages
from ddfm.formats.volumes import is_volume, read_volume
from ddfm.jobs.info import describe
from ddfm.priors.guided_diffusion import network_config, read_config
from ddfm.training.recipe import read_recipe
from tests.formats.medical import hounsfield, write_series


class Kind(NamedTuple):
    """A kind of file: its name, a whole one, and what reads it."""

    name: str
    whole: bytes
    read: Callable[[Path], object]


def smooth(channels: int = 3, dtype: type = np.uint8) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """A small picture."""
    ramp = np.add.outer(np.arange(20), np.arange(24)) * (np.iinfo(dtype).max // 64)
    return np.dstack([ramp.astype(dtype)] * channels) if channels > 1 else ramp.astype(dtype)


def pil(kind: str, channels: int = 3) -> bytes:
    """A picture as Pillow writes it."""
    data = io.BytesIO()
    PILImage.fromarray(smooth(channels)).save(data, kind)
    return data.getvalue()


def tiff(pages: int = 1, dtype: type = np.uint8, **options: object) -> bytes:
    """A TIFF as tifffile writes it."""
    data = io.BytesIO()
    stack = np.stack([smooth(1, dtype)] * pages)
    tifffile.imwrite(data, stack, photometric="minisblack", resolution=(300, 300), **options)
    return data.getvalue()


def nifti() -> bytes:
    """A NIfTI-1 file."""
    image = nibabel.Nifti1Image(hounsfield(3, 16, 16).T.copy(), np.eye(4))
    return bytes(image.to_bytes())


def dicom(folder: Path) -> bytes:
    """A DICOM file of one slice."""
    write_series(folder, hounsfield(1, 16, 16))
    return next(folder.iterdir()).read_bytes()


def read_any(path: Path) -> object:
    """Read a picture or a volume, as the commands do."""
    return read_volume(path) if is_volume(path) else read_pages(path)


def kinds(folder: Path) -> list[Kind]:
    """One whole file of every kind; the folder is for making some of them."""
    recipe = b"channels = [8, 16]\nnorm_groups = 4\ncrop = 16\nsteps = 6\nlearning_rate = 0.001\n"
    config = b'{"num_channels": 64, "channel_mult": "1,2", "num_res_blocks": 1, "image_size": 64}'
    return [
        Kind("a.png", pil("PNG"), read_image),
        Kind("b.png", pil("PNG", 1), read_8bit),
        Kind("a.jpg", pil("JPEG"), read_image),
        Kind("a.bmp", pil("BMP"), describe),
        Kind("a.webp", pil("WebP"), read_image),
        Kind("a.ppm", pil("PPM"), read_8bit),
        Kind("a.tif", tiff(), describe),
        Kind("b.tif", tiff(3, np.uint16, compression="zlib"), read_any),
        Kind("c.tif", tiff(2, bigtiff=True), read_any),
        Kind("d.tif", tiff(compression="jpeg"), read_8bit),
        Kind("e.tif", tiff(1, np.uint16, tile=(16, 16), compression="lzw"), read_image),
        Kind("a.nii", nifti(), read_any),
        Kind("a.nii.gz", gzip.compress(nifti(), mtime=0), read_any),
        Kind("a.dcm", dicom(folder / "series"), read_any),
        Kind("recipe.toml", recipe, read_recipe),
        Kind("model.json", config, lambda path: network_config(read_config(path))),
    ]


INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one to four ways, nearer its beginning more often: there the headers are."""
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        place = int(rng.integers(len(data)) * rng.random() ** 2)
        way = int(rng.integers(7))
        if way == 0:  # a bit
            data[place] ^= 1 << int(rng.integers(8))
        elif way == 1:  # a number that means something
            number = int(rng.choice(INTERESTING))
            order = "<" if rng.random() < 0.5 else ">"
            packed = (
                struct.pack(order + "I", number)
                if rng.random() < 0.5
                else struct.pack(order + "H", number & 0xFFFF)
            )
            data[place : place + len(packed)] = packed
        elif way == 2:  # the end
            del data[place:]
        elif way == 3:  # something left out
            del data[place : place + int(rng.integers(1, 40))]
        elif way == 4:  # something said twice
            data[place:place] = data[place : place + int(rng.integers(1, 200))]
        elif way == 5:  # noise
            length = int(rng.integers(1, 20))
            data[place : place + length] = rng.bytes(length)
        else:  # nothing
            length = int(rng.integers(1, 100))
            data[place : place + length] = bytes(len(data[place : place + length]))
    return bytes(data)


def outcome(kind: Kind, path: Path) -> str | None:
    """Read a file; return why it was refused, None if it was read. Any other error is let through."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(path)
    except InputError as error:
        return str(error)
    return None
