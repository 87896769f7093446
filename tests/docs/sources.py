"""What the commands of the pages name: small pictures, volumes, videos and folders, all drawn."""

from __future__ import annotations

from pathlib import Path

import av
import nibabel
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ddfm.demo.thermogram import flir_file
from ddfm.downstream.night_drive import draw
from tests.conftest import picture

SMALL, LARGE = (96, 72), (320, 240)  # large ones can be registered
SCENE = (3407, 11)  # a seed whose drawn road has much to see


def write_sources(folder: Path, size: tuple[int, int]) -> None:
    """Write all sources into an empty folder; most pictures have that width and height."""
    road = draw(np.random.default_rng(SCENE), night=False)
    thermal, visible = Image.fromarray(road.infrared), Image.fromarray(road.visible)
    write_pairs(folder, thermal.resize(size), visible.resize(size))
    write_brackets(folder, visible.resize(LARGE))
    write_thermograms(folder, thermal, visible)
    write_volumes(folder)
    write_videos(folder)


def write_pairs(folder: Path, thermal: Image.Image, visible: Image.Image) -> None:
    """Write pictures of one street as cameras see it, and folders of such pairs."""
    thermal.save(folder / "thermal.png")
    thermal.save(folder / "near-infrared.png")
    thermal.resize((thermal.width // 2, thermal.height // 2)).save(folder / "half-thermal.png")
    thermal.filter(ImageFilter.GaussianBlur(2)).save(folder / "blurred-thermal.png")
    visible.save(folder / "visible.png")
    dead = np.random.default_rng(1).random((thermal.height, thermal.width)) < 0.01
    Image.fromarray(dead).save(folder / "dead.png")
    clean = np.asarray(thermal, np.float64)
    noisy = clean + np.random.default_rng(0).normal(0, 20, clean.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / "noisy-thermal.png")
    tifffile.imwrite(folder / "counts.tif", (28_000 + clean * 16).astype(np.uint16))
    mean = Image.blend(thermal.convert("RGB"), visible, 0.5)
    folders = {
        "thermal": thermal,
        "visible": visible,
        "pairs/a": thermal,
        "pairs/b": visible,
        "outputs/mine": mean,
    }
    for name, each in folders.items():
        (folder / name).mkdir(parents=True)
        for number in (1, 2):
            each.save(folder / name / f"{number}.png")


def write_brackets(folder: Path, visible: Image.Image) -> None:
    """Write three exposures and a stack of three, as JPEG."""
    sharp = np.asarray(visible, np.float64)
    for name, light in (("short", 0.3), ("middle", 1.0), ("long", 2.5)):
        save_jpeg(sharp * light, folder / f"{name}.jpg")
    soft = np.asarray(visible.filter(ImageFilter.GaussianBlur(3)), np.float64)
    third = LARGE[0] // 3
    for k, name in enumerate(("near", "halfway", "far")):
        made = soft.copy()
        made[:, k * third : (k + 1) * third] = sharp[:, k * third : (k + 1) * third]
        save_jpeg(made, folder / f"{name}.jpg")


def save_jpeg(values: NDArray[np.float64], path: Path) -> None:
    """Save grey levels as a good JPEG."""
    Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8)).save(path, quality=95)


def write_thermograms(folder: Path, thermal: Image.Image, visible: Image.Image) -> None:
    """Write a thermal camera's file, two more in a folder, and a turned thermal picture."""
    warmth = np.asarray(thermal.resize((120, 90)), np.float64) / 8
    visible.resize(LARGE).save(folder / "photograph.jpg", quality=92)
    file = flir_file(warmth, (folder / "photograph.jpg").read_bytes(), real_to_ir=1.0, offset=(0, 0))
    (folder / "inspection").mkdir()
    for name in ("FLIR0123.jpg", "inspection/1.jpg", "inspection/2.jpg"):
        (folder / name).write_bytes(file)
    thermal.resize(LARGE).rotate(3, Image.Resampling.BICUBIC).save(folder / "turned-thermal.png")


def write_volumes(folder: Path) -> None:
    """Write two NIfTI volumes of three slices, and a slice of each as a picture."""
    for seed, name in enumerate(("mri", "pet")):
        values = np.zeros((40, 40, 3))
        values[8:32, 8:32] = np.random.default_rng(seed).random((24, 24, 3)) * 100 + 50
        nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.eye(4)), folder / f"{name}.nii.gz")
        Image.fromarray(values[:, :, 1].astype(np.uint8)).save(folder / f"{name}.png")


def write_videos(folder: Path) -> None:
    """Write two videos of a dozen frames at 25 a second."""
    for seed, name in enumerate(("thermal", "visible")):
        with av.open(folder / f"{name}.mp4", "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for k in range(12):
                pixels = np.roll(picture(48, 64, 3, np.uint8, seed), k, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode())
