"""The demonstration: fuse the project's own scenes and lay the results out on one sheet."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ddfm.demo.scenes import DrawnScene, overview, scenes
from ddfm.demo.thermogram import street_file
from ddfm.formats.atomic import prepare_folder, write_whole
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion, fuse
from ddfm.jobs.files import Outputs, fuse_files
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from ddfm.thermal.options import ThermalOptions


def run(folder: Path, device: str = "auto", progress: Callable[[str], None] = lambda line: None) -> Path:
    """Fuse every scene, write sources, results and ``overview.png``; returns the overview's path.

    Raises InputError if the folder cannot be written to.
    """
    prepare_folder(folder)
    prior, rows = load_prior(), []
    for scene in scenes():
        progress(f"{scene.title}: {' + '.join(scene.labels)}")
        result = fuse(scene.a, scene.b, prior=prior, task=scene.task, device=device)
        fused = Image.fromarray(result.to_array())
        for label, picture in zip((*scene.labels, "fused"), (scene.a, scene.b, fused), strict=True):
            save(picture, folder / f"{scene.name}-{label.replace(' ', '-')}.png")
        rows.append((scene, fused))
    progress("A thermal camera's own file, made up: temperatures and photograph")
    rows.append(thermogram(folder, prior, device))
    sheet = folder / "overview.png"
    save(overview(rows), sheet)
    return sheet


def thermogram(folder: Path, prior: Prior, device: str) -> tuple[DrawnScene, Image.Image]:
    """Write a made-up file of a thermal camera and what comes of it; return both sources and the result."""
    file = folder / "thermogram.jpg"
    write_whole(file, street_file())
    outputs = Outputs(
        folder / "thermogram-fused.png",
        temperatures=folder / "thermogram-temperatures.tif",
        table=folder / "thermogram.csv",
    )
    drawing = ThermalOptions(palette="iron", annotate=True)
    fusion = Fusion(Options(device=device), prior)
    _, given = fuse_files([file], outputs, fusion, [None], thermal=drawing)
    a, b = (Image.fromarray(np.squeeze(image.to_array())) for image in given.images)
    with Image.open(outputs.fused) as drawn:
        fused = drawn.crop((0, 0, *a.size))  # without the scale at its right
    title = "A thermal camera's own file: temperatures and photograph"
    return DrawnScene("thermogram", title, a, b, ("temperatures", "photograph"), "infrared"), fused


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all. Raises InputError."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())
