"""Part "sheets" of quality.py: contact sheets of real pairs, to be looked at and not to be handed on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw

from ddfm.benchmark.datasets import find_pairs, get_dataset
from ddfm.benchmark.methods import RULES, as_bytes, on_luminance
from ddfm.benchmark.report.sheet import most_different
from ddfm.formats.pictures import read_image
from ddfm.fusion.pipeline import fuse
from ddfm.jobs.matching import Group
from ddfm.priors.base import Prior
from quality.tables import FEW, LIKELIHOOD, OURS, Job, Table

WIDTH, CAPTION = 360, 18  # of a picture, and the height of its caption, in pixels
SHEETS = {"tno": 10, "roadscene": 10, "vifb": 6}


def sheets(job: Job) -> list[Table]:
    """A PNG for each of some pairs: the sources, baselines, the best peer and ours; whole and in part."""
    if job.sheets is None:
        sys.exit("sheets: --sheets FOLDER must say where to put them")
    job.sheets.mkdir(parents=True, exist_ok=True)
    for name, count in SHEETS.items():
        root = job.data / ("vifb" if name == "vifb" else f"ivf/{name}")
        pairs = find_pairs(get_dataset(name), root)
        for i in np.linspace(0, len(pairs) - 1, count).round().astype(int):
            pair = pairs[i]
            peer = {
                "tno": root / f"peers/SeAFusion/{pair.stem}.png",
                "vifb": root / f"fused/{pair.stem}_SeAFusion.jpg",
            }.get(name)
            contact_sheet(pair, peer, job.prior).save(job.sheets / f"{name}-{pair.stem}.png")
            print(f"  sheets: {name} {pair.stem}", flush=True)
    return []


def contact_sheet(pair: Group, peer: Path | None, prior: Prior) -> PILImage.Image:
    a, b = map(read_image, pair.files)
    pictures = {
        "first source": a,
        "second source": b,
        "max": on_luminance(RULES["max"], 0, a, b),
        "stretched mean": on_luminance(RULES["stretched-mean"], 0, a, b),
        f"released form, {FEW} steps": fuse(a, b, prior=prior, form="released", steps=FEW).image,
        **({"SeAFusion": read_image(peer)} if peer is not None and peer.exists() else {}),
        LIKELIHOOD: fuse(a, b, prior=prior, steps=0).image,
        OURS: fuse(a, b, prior=prior).image,
    }
    top, left, side = most_different(as_bytes(a), as_bytes(b))
    side = min(2 * side, *a.size)
    top, left = (
        max(0, min(at - side // 4, length - side)) for at, length in zip((top, left), a.size, strict=True)
    )
    height = round(WIDTH * a.size[0] / a.size[1])
    columns = (len(pictures) + 1) // 2
    tile = CAPTION + height + WIDTH
    sheet = PILImage.new("RGB", (columns * (WIDTH + 4), 2 * (tile + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (name, image) in enumerate(pictures.items()):
        x, y = index % columns * (WIDTH + 4), index // columns * (tile + 4)
        picture = PILImage.fromarray(as_bytes(image).repeat(3 // image.pixels.shape[2], 2))
        draw.text((x + 4, y + 3), f"{pair.stem}: {name}", fill="black")
        sheet.paste(picture.resize((WIDTH, height), PILImage.Resampling.LANCZOS), (x, y + CAPTION))
        part = picture.crop((left, top, left + side, top + side)).resize((WIDTH, WIDTH))
        sheet.paste(part, (x, y + CAPTION + height))
    return sheet
