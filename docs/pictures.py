"""Make the pictures of README and docs: from the project's own scenes and priors only.

python docs/pictures.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ddfm.demo.scenes import night
from ddfm.demo.thermogram import street_file
from ddfm.formats.radiometric import thermogram_of
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion, fuse
from ddfm.fusion.task import Choice
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior
from ddfm.thermal.draw import drawn
from ddfm.thermal.options import ThermalOptions
from ddfm.thermal.place import place
from ddfm.training.pictures import draw_samples

IMAGES = Path(__file__).parent / "images"


def night_strip(prior: Prior) -> Image.Image:
    """Thermal, visible and fused, side by side."""
    scene = night()
    fused = Image.fromarray(fuse(scene.a, scene.b, prior=prior).to_array())
    parts = [np.asarray(picture.convert("RGB")) for picture in (scene.a, scene.b, fused)]
    gap = np.full((parts[0].shape[0], 8, 3), 255, np.uint8)
    strip = Image.fromarray(np.concatenate([parts[0], gap, parts[1], gap, parts[2]], 1))
    return strip.resize((1280, round(strip.height * 1280 / strip.width)), Image.Resampling.LANCZOS)


def thermal_strip(prior: Prior) -> Image.Image:
    """Draw temperatures, photograph, fused, and fused in colours by temperature, side by side."""
    file = thermogram_of(street_file(), "street")
    placed = place(file, None, Options(), refine=True)
    (result,) = Fusion(Options(), prior).of([placed.images], Choice("infrared", ""))
    coloured = drawn(result.image, placed, ThermalOptions(palette="iron", annotate=True))
    images = (*placed.images, result.image, coloured)
    parts = [np.asarray(Image.fromarray(np.squeeze(i.to_array())).convert("RGB")) for i in images]
    gap = np.full((parts[0].shape[0], 8, 3), 255, np.uint8)
    strip = Image.fromarray(np.hstack([parts[0], *(half for part in parts[1:] for half in (gap, part))]))
    return strip.resize((1600, round(strip.height * 1600 / strip.width)), Image.Resampling.LANCZOS)


def main() -> None:
    prior = load_prior("natural")
    IMAGES.mkdir(exist_ok=True)
    night_strip(prior).save(IMAGES / "night.jpg", quality=90)
    thermal_strip(prior).save(IMAGES / "thermal.jpg", quality=90)
    draw_samples(prior, IMAGES / "natural-samples.png", rows=3, steps=250)


if __name__ == "__main__":
    main()
