"""Small files of every kind that is read, and ways to damage them; for the tests and benchmarks/fuzz.py."""

from __future__ import annotations

import gzip
import io
import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import tifffile
import torch
from PIL import Image as PILImage
from safetensors.torch import save

from ddfm.demo.thermogram import flir_file
from ddfm.errors import InputError
from ddfm.formats.files import read_json
from ddfm.formats.pictures import read_8bit, read_image, read_pages
from ddfm.formats.volumes import is_volume, read_volume
from ddfm.jobs.info import describe
from ddfm.priors.guided_diffusion import network_config, read_config
from ddfm.priors.loading import read_weights
from ddfm.priors.network_config import read_unet_config
from ddfm.priors.schedule import NoiseSchedule
from ddfm.training.recipe import read_recipe
from ddfm.training.run import Run, load_checkpoint
from ddfm.video.reading import Reader
from tests.conftest import ROOT
from tests.formats.camera import dng, heic
from tests.formats.medical import hounsfield, write_series
from tests.priors.test_prior import small_config
from tests.training.test_run import SMALL
from tests.video.test_video import write_video


class Kind(NamedTuple):
    """A kind of file: its name, a whole one, and what reads it."""

    name: str
    whole: bytes
    read: Callable[[Path], object]


def smooth(channels: int = 3, dtype: type = np.uint8) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """A small picture."""
    ramp = np.add.outer(np.arange(20), np.arange(24)) * (np.iinfo(dtype).max // 64)
    return np.dstack([ramp.astype(dtype)] * channels) if channels > 1 else ramp.astype(dtype)


def ramp() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A small picture of light; LibRaw refuses fewer than 22 pixels a side."""
    return np.dstack([np.add.outer(np.arange(24), np.arange(32)) / 64] * 3)


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


def video(folder: Path, suffix: str) -> bytes:
    """A video of four frames."""
    path = folder / f"a{suffix}"
    return write_video(path, [smooth(3)[:16, :24]] * 4).read_bytes()


def checkpoint() -> bytes:
    """The checkpoint of a training run that has not begun."""
    data = io.BytesIO()
    torch.save(Run(SMALL, "cpu").state(), data)
    return data.getvalue()


def schedule() -> bytes:
    """The scheduler_config.json of the bundled prior."""
    return (ROOT / "src" / "ddfm" / "assets" / "natural" / "scheduler_config.json").read_bytes()


def layout() -> bytes:
    """The config.json of a network of the usual layout."""
    return json.dumps(small_config().as_json()).encode()


def read_layout(path: Path) -> object:
    """Read a config.json, as loading a prior does."""
    return read_unet_config(read_json(path), str(path))


def read_video(path: Path) -> object:
    """Decode all frames."""
    return list(Reader(path).frames(0.0, early=True))


def read_any(path: Path) -> object:
    """Read a picture or a volume, as the commands do."""
    return read_volume(path) if is_volume(path) else read_pages(path)


def kinds(folder: Path) -> list[Kind]:
    """One whole file of every kind; the folder is for making some of them."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = b"channels = [8, 16]\nnorm_groups = 4\ncrop = 16\nsteps = 6\nlearning_rate = 0.001\n"
    config = b'{"num_channels": 64, "channel_mult": "1,2", "num_res_blocks": 1, "image_size": 64}'
    return [
        Kind("a.png", pil("PNG"), read_image),
        Kind("b.png", pil("PNG", 1), read_8bit),
        Kind("a.jpg", pil("JPEG"), read_image),
        Kind("r.jpg", flir_file(np.add.outer(np.arange(20), np.arange(24)), pil("JPEG")), describe),
        Kind("a.bmp", pil("BMP"), describe),
        Kind("a.webp", pil("WebP"), read_image),
        Kind("a.ppm", pil("PPM"), read_8bit),
        Kind("a.tif", tiff(), describe),
        Kind("b.tif", tiff(3, np.uint16, compression="zlib"), read_any),
        Kind("c.tif", tiff(2, bigtiff=True), read_any),
        Kind("d.tif", tiff(compression="jpeg"), read_8bit),
        Kind("e.tif", tiff(1, np.uint16, tile=(16, 16), compression="lzw"), read_image),
        Kind("a.dng", dng(ramp()), read_image),
        Kind("a.heic", heic(smooth().astype(np.uint8)), describe),
        Kind("a.nii", nifti(), read_any),
        Kind("a.nii.gz", gzip.compress(nifti(), mtime=0), read_any),
        Kind("a.dcm", dicom(folder / "series"), read_any),
        Kind("a.mp4", video(folder, ".mp4"), read_video),
        Kind("a.mkv", video(folder, ".mkv"), read_video),
        Kind("checkpoint.pt", checkpoint(), lambda path: load_checkpoint(path, SMALL, "cpu")),
        Kind("scheduler_config.json", schedule(), NoiseSchedule.read),
        Kind("config.json", layout(), read_layout),
        Kind("weights.safetensors", save({"a": torch.ones(3, 4)}), read_weights),
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
