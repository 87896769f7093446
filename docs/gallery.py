"""Make the gallery: docs/gallery.md and its pictures, from scenes that the project draws itself.

python docs/gallery.py                    # the page and the pictures, docs/images/gallery
python docs/gallery.py --sources FOLDER   # the sources alone, for the page's commands
python docs/gallery.py --page             # the page alone, after a change of its words

Every picture is what its command wrote, beside the sources it was given.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from ddfm.cli import app
from ddfm.demo.brackets import walked
from ddfm.demo.scenes import exposure, focus, night
from ddfm.demo.thermogram import street_file
from ddfm.downstream.night_drive import draw

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "images" / "gallery"
PANEL = 320  # pixels, width of a strip's first picture
GAP = 6
SEED = 3407


@dataclass(frozen=True)
class Entry:
    """Hold one picture of the gallery.

    Attributes:
        name: of its file.
        caption: what there is to see, a sentence or two.
        command: what made it, run beside the sources.
        shown: files that the strip shows, left to right.
    """

    name: str
    caption: str
    command: str
    shown: tuple[str, ...]


def pair(name: str, caption: str, sources: str, options: str = "", *more: str) -> Entry:
    """Return an entry whose strip has the sources, the fused picture, and ``more`` files."""
    command = f"ddfm fuse {sources} -o {name}.png {options}".strip()
    return Entry(name, caption, command, (*sources.split(), f"{name}.png", *more))


NIGHT = "thermal.png visible.png"
SECTIONS: dict[str, Sequence[Entry]] = {
    "Infrared and visible": (
        pair(
            "night",
            "The person in the dark on the left is in the thermal picture alone, lettering and lane "
            "marks are in the visible one alone. Both are in the result.",
            NIGHT,
        ),
        pair(
            "likelihood",
            "Without the diffusion model: on clean sources hardly a difference.",
            NIGHT,
            "--steps 0",
        ),
        pair(
            "natural",
            "The balance at natural: the visible picture, and of the thermal one what is hot.",
            NIGHT,
            "--balance 0",
        ),
        pair("hot", "The balance at thermal.", NIGHT, "--balance 1"),
        pair("plain", "Contrast as it comes, not raised at the end.", NIGHT, "--stretch none"),
        pair(
            "paper",
            "The paper's equations. The L1 distance is the same for every value between the sources, "
            "so the prior decides.",
            "small-thermal.png small-visible.png",
            "--form paper",
        ),
        pair(
            "released",
            "What the authors' released code computes: close to the mean of both.",
            "small-thermal.png small-visible.png",
            "--form released",
        ),
        pair(
            "drive-day",
            "A drawn road by day, 160x120 pixels, of the set for detectors.",
            "day-thermal.png day-visible.png",
        ),
        pair(
            "drive-night",
            "The same by night: people and cyclists are in the thermal picture alone.",
            "dark-thermal.png dark-visible.png",
        ),
    ),
    "Noisy and blurred sources": (
        pair(
            "noisy",
            "Noise of 20 grey levels in the thermal picture. It is measured, and taken out by the prior.",
            "noisy-thermal.png visible.png",
        ),
        pair(
            "left-noisy", "The same, with the noise left in.", "noisy-thermal.png visible.png", "--noise off"
        ),
        pair(
            "striped",
            "Stripes, as the readout of thermal cameras adds them.",
            "striped-thermal.png visible.png",
        ),
        pair(
            "compressed",
            "A thermal picture in strong JPEG compression.",
            "compressed-thermal.jpg visible.png",
        ),
        pair(
            "deblurred",
            "A thermal lens that blurs by 2 pixels, undone.",
            "blurred-thermal.png visible.png",
            "--deblur 2,0",
        ),
        pair(
            "uncertain",
            "On the right, how far noise leaves each pixel open: bright is uncertain.",
            "noisy-thermal.png visible.png",
            "--uncertainty spread.tif",
            "spread.png",
        ),
    ),
    "Cameras that are not aligned": (
        pair(
            "registered",
            "The thermal camera is turned by 4 degrees, shifted and 5 % wider. Registered, and fused.",
            "turned-thermal.png visible.png",
            "--register affine",
        ),
        pair(
            "report",
            "The picture to judge a registration by: edges before and after.",
            "turned-thermal.png visible.png",
            "--register affine --register-report edges.png",
            "edges.png",
        ),
    ),
    "Raw counts": (
        pair(
            "counts",
            "Raw counts fill a small part of 16 bits: taken as they are, the thermal picture is flat.",
            "counts.tif visible.png",
            "--range 1:0,65535",
        ),
        pair(
            "stretched-counts",
            "With the file's own smallest and largest count for black and white.",
            "counts.tif visible.png",
            "--range 1:data",
        ),
    ),
    "A thermal camera's file": (
        Entry(
            "thermogram",
            "One file holds temperatures and photograph; the file is drawn, no camera made it.",
            "ddfm fuse street.jpg -o thermogram.png",
            ("street.jpg", "thermogram.png"),
        ),
        Entry(
            "iron",
            "Colour by temperature, with scale, spot, coldest and hottest place.",
            "ddfm fuse street.jpg -o iron.png --palette iron --annotate",
            ("street.jpg", "iron.png"),
        ),
        Entry(
            "arctic",
            "What lies between 20 and 30 degrees is marked in turquoise.",
            "ddfm fuse street.jpg -o arctic.png --palette arctic --isotherm 20 30",
            ("street.jpg", "arctic.png"),
        ),
        Entry(
            "lava",
            "Another palette, over a range of temperatures that is given.",
            "ddfm fuse street.jpg -o lava.png --palette lava --range 0,30",
            ("street.jpg", "lava.png"),
        ),
    ),
    "Exposures and focus": (
        pair(
            "exposures", "A room, and what lies outside its window.", "under.png over.png", "--task exposure"
        ),
        pair(
            "walker",
            "Somebody walks through three exposures. What moves is taken from one of them; "
            "a soft blot is left before the window.",
            "dark.png middle.png bright.png",
            "--task exposure",
        ),
        pair(
            "ghosts",
            "The same with movement left in.",
            "dark.png middle.png bright.png",
            "--task exposure --deghost off",
        ),
        pair("focus", "Near and far in focus.", "near.png far.png", "--task focus"),
        pair(
            "sources",
            "On the right, which source each pixel came from.",
            "near.png far.png",
            "--task focus --source-map map.png",
            "map.png",
        ),
    ),
    "Medical": (
        pair(
            "mri-pet",
            "A drawn head: structure in grey, activity in colour. The colour means something and stays.",
            "mri.png pet.png",
            "--task medical",
        ),
        pair("mri-ct", "The same head with a CT that shows bone.", "mri.png ct.png", "--task medical"),
    ),
}
ENTRIES = [entry for entries in SECTIONS.values() for entry in entries]


def write_sources(folder: Path) -> None:
    """Write the sources of all commands."""
    street = night()
    street.a.save(folder / "thermal.png")
    street.b.save(folder / "visible.png")
    for picture, name in ((street.a, "thermal"), (street.b, "visible")):
        picture.resize((320, 240), Image.Resampling.LANCZOS).save(folder / f"small-{name}.png")
    write_degraded(folder, street.a)
    for name, dark in (("day", False), ("dark", True)):
        drawn = draw(np.random.default_rng((SEED, 8 + dark)), dark)
        Image.fromarray(drawn.infrared).save(folder / f"{name}-thermal.png")
        Image.fromarray(drawn.visible).save(folder / f"{name}-visible.png")
    (folder / "street.jpg").write_bytes(street_file())
    for scene, names in ((exposure(), ("under", "over")), (focus(), ("near", "far"))):
        scene.a.save(folder / f"{names[0]}.png")
        scene.b.save(folder / f"{names[1]}.png")
    for picture, name in zip(walked((0.25, 0.45, 0.65)), ("dark", "middle", "bright"), strict=True):
        picture.save(folder / f"{name}.png")
    for name, head in draw_head().items():
        head.save(folder / f"{name}.png")


def write_degraded(folder: Path, thermal: Image.Image) -> None:
    """Write what cameras make of a clean thermal picture."""
    clean = np.asarray(thermal, np.float64)
    random = np.random.default_rng(SEED)
    save(clean + random.normal(0, 20, clean.shape), folder / "noisy-thermal.png")
    save(clean + random.normal(0, 8, (1, clean.shape[1])), folder / "striped-thermal.png")
    thermal.save(folder / "compressed-thermal.jpg", quality=12)
    thermal.filter(ImageFilter.GaussianBlur(2)).save(folder / "blurred-thermal.png")
    wider = thermal.rotate(4, Image.Resampling.BICUBIC, translate=(12, -8))
    wider.crop((16, 12, 624, 468)).resize(thermal.size, Image.Resampling.BICUBIC).save(
        folder / "turned-thermal.png"
    )
    tifffile.imwrite(folder / "counts.tif", (28_000 + clean * 16).astype(np.uint16))


def save(values: NDArray[np.float64], path: Path) -> None:
    """Save grey levels, rounded and limited to 8 bits."""
    Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8)).save(path)


def draw_head() -> dict[str, Image.Image]:
    """Draw a slice of a head as three modalities see it: soft tissue, bone, activity."""
    side, scale = 320, 4
    shapes: tuple[tuple[tuple[float, float, float, float], int, int, tuple[int, int, int]], ...] = (
        ((0.16, 0.08, 0.84, 0.92), 40, 230, (0, 0, 0)),  # box; grey in MRI and CT; colour in PET
        ((0.20, 0.12, 0.80, 0.88), 120, 70, (60, 20, 90)),
        ((0.25, 0.18, 0.75, 0.82), 90, 76, (170, 60, 40)),
        ((0.38, 0.32, 0.48, 0.66), 200, 60, (20, 10, 60)),
        ((0.52, 0.32, 0.62, 0.66), 200, 60, (20, 10, 60)),
        ((0.60, 0.56, 0.72, 0.70), 165, 80, (255, 220, 90)),
        ((0.30, 0.24, 0.36, 0.30), 60, 140, (90, 30, 80)),
    )
    modes: dict[str, tuple[str, Callable[[int, int, tuple[int, int, int]], int | tuple[int, int, int]]]] = {
        "mri": ("L", lambda mri, ct, pet: mri),
        "ct": ("L", lambda mri, ct, pet: ct),
        "pet": ("RGB", lambda mri, ct, pet: pet),
    }
    heads = {}
    for name, (mode, shade) in modes.items():
        canvas = Image.new(mode, (side * scale, side * scale))
        for box, mri, ct, pet in shapes:
            ImageDraw.Draw(canvas).ellipse([each * side * scale for each in box], shade(mri, ct, pet))
        blur = 6 if name == "pet" else 0.8
        heads[name] = canvas.resize((side, side), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(blur))
    return heads


def shown(path: Path) -> Image.Image:
    """Open what a strip shows; raw counts as a viewer shows them."""
    if path.suffix == ".tif":
        return Image.fromarray((tifffile.imread(path) / 257).astype(np.uint8)).convert("RGB")
    with Image.open(path) as picture:
        return picture.convert("RGB")


def strip(paths: Sequence[Path]) -> Image.Image:
    """Lay pictures side by side, all as high as the first one is at the width of a panel."""
    pictures = [shown(path) for path in paths]
    height = round(PANEL * pictures[0].height / pictures[0].width)
    widths = [round(height * picture.width / picture.height) for picture in pictures]
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), height), "grey")
    left = 0
    for picture, width in zip(pictures, widths, strict=True):
        sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, 0))
        left += width + GAP
    return sheet


def page() -> str:
    """Return docs/gallery.md."""
    parts = [
        "# Gallery",
        "Every picture is made by the command below it, from scenes that the project draws itself. From left "
        "to right: the sources, the result, and what else the command wrote.",
        "To run the commands, write the sources first:",
        "```bash\npython docs/gallery.py --sources gallery\ncd gallery\n```",
        "The page and its pictures are made by [`docs/gallery.py`](gallery.py).",
    ]
    for title, entries in SECTIONS.items():
        parts.append(f"## {title}")
        for entry in entries:
            parts += [
                f"![{entry.caption}](images/gallery/{entry.name}.jpg)",
                entry.caption,
                f"```bash\n{entry.command}\n```",
            ]
    return "\n\n".join(parts) + "\n"


def make_pictures(only: Sequence[str] | None) -> None:
    """Run the commands in a folder of their own, and keep their strips."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_sources(Path())
        for entry in ENTRIES:
            if only and entry.name not in only:
                continue
            print(entry.command, flush=True)
            if app(shlex.split(entry.command)[1:], standalone_mode=False):
                sys.exit(f"{entry.name}: failed")
            strip([Path(name) for name in entry.shown]).save(PICTURES / f"{entry.name}.jpg", quality=82)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sources", type=Path, metavar="FOLDER", help="write the sources there, and nothing else"
    )
    parser.add_argument("--page", action="store_true", help="write the page, and no picture")
    parser.add_argument("--only", nargs="*", help="names of pictures")
    arguments = parser.parse_args()
    if arguments.sources:
        arguments.sources.mkdir(parents=True, exist_ok=True)
        write_sources(arguments.sources)
        return
    if not arguments.page:
        make_pictures(arguments.only)
    (DOCS / "gallery.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
