"""The demonstration: fuse the project's own scenes and lay the results out on one sheet."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ddfm.demo.scenes import overview, scenes
from ddfm.formats.atomic import prepare_folder, write_whole
from ddfm.fusion.pipeline import fuse
from ddfm.priors.loading import load_prior


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
    sheet = folder / "overview.png"
    save(overview(rows), sheet)
    return sheet


def save(picture: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all. Raises InputError."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())
