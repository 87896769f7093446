"""A labelled set that the program draws: aligned visible and thermal streets, by day and by night.

People and cyclists are warm: by night the thermal camera alone shows them. Lamps, signs and lane marks have
the temperature of the air: the visible camera alone shows them. Cars show in both, parked ones hardly in the
thermal picture. Headlights glare, both cameras have noise. Masks and boxes are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ddfm.downstream.boxes import Boxes, make_boxes, write_yolo
from ddfm.downstream.layouts.night_drive import BOXES, CLASSES, OBJECTS
from ddfm.errors import InputError
from ddfm.formats.atomic import prepare_folder

WIDTH, HEIGHT = 160, 120  # pixels
HORIZON = 0.38  # of the height
SHARES = {"val": 0.1, "test": 0.2}  # the rest is for training
LEAST_VISIBLE = 0.4  # share of an object that must not be covered for it to keep its box
LEAST_PIXELS = 12
NIGHT_LIGHT = 0.13  # of daylight, on what no lamp shines at
NOISE = {"day": 0.012, "night": 0.035}  # of the visible camera, standard deviation in shares of white
THERMAL_NOISE = 0.02

Region = NDArray[np.bool_]  # (H, W)
Thing = Callable[["Street", np.random.Generator, float, bool], None]
"""Draws itself into a street, at a depth from 0 (far) to 1 (near), by day or by night."""


@dataclass
class Street:
    """A scene while it is drawn; values in 0..1, before light and noise.

    Attributes:
        colour: what daylight would show, (H, W, 3).
        light: what shines by itself, (H, W, 3), added whatever the time of day.
        heat: (H, W).
        labels: class of each pixel.
        owner: number of the object that covers each pixel, from 1.
        objects: class and region of each object, as if nothing covered it.
    """

    colour: NDArray[np.float64]
    light: NDArray[np.float64]
    heat: NDArray[np.float64]
    labels: NDArray[np.uint8]
    owner: NDArray[np.int64]
    objects: list[tuple[int, Region]] = field(default_factory=list)

    def paint(self, region: Region, colour: NDArray[np.float64] | float, heat: float) -> None:
        """Give a region one colour and one temperature; what shone there is hidden."""
        self.colour[region], self.heat[region], self.light[region] = colour, heat, 0.0

    def name(self, region: Region, kind: str) -> None:
        """Label a region as one object; lane marks are labelled only."""
        self.labels[region] = CLASSES.index(kind)
        if kind in OBJECTS:
            self.objects.append((OBJECTS.index(kind), region))
            self.owner[region] = len(self.objects)


@dataclass(frozen=True)
class Drawn:
    """A finished scene: visible (H, W, 3) and infrared (H, W), uint8; labels (H, W); boxes."""

    visible: NDArray[np.uint8]
    infrared: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    boxes: Boxes


def synthesize(folder: Path, scenes: int, seed: int = 3407) -> None:
    """Write a set in MFNet's layout, with boxes as YOLO text, into an empty or new folder.

    Args:
        folder: gets ``images`` (four channels), ``labels``, ``boxes`` and the lists of the splits.
        scenes: how many, at least 10; every other one at night.
        seed: of everything.

    Raises InputError: too few scenes, a folder that holds something.
    """
    if scenes < 10:
        raise InputError(f"{scenes} scenes: at least 10 are needed, for all splits to have day and night")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; name a new folder")
    for part in ("images", "labels", BOXES):
        prepare_folder(folder / part)
    names = []
    for number in range(scenes):
        night = number % 2 == 1
        name = f"{number:05d}{'N' if night else 'D'}"
        drawn = draw(np.random.default_rng((seed, number)), night)
        four = np.dstack([drawn.visible, drawn.infrared])
        Image.fromarray(four, "RGBA").save(folder / "images" / f"{name}.png")
        Image.fromarray(drawn.labels).save(folder / "labels" / f"{name}.png")
        write_yolo(folder / BOXES / f"{name}.txt", drawn.boxes, drawn.labels.shape)
        names.append(name)
    _write_lists(folder, names)


def draw(random: np.random.Generator, night: bool) -> Drawn:
    """Draw one scene."""
    street = _empty_street(random, night)
    _lane_marks(street, random)
    things: list[tuple[float, Thing]] = []
    for kind, most in ((_person, 4), (_cyclist, 2), (_car, 3), (_lamp, 3), (_sign, 3)):
        for _ in range(random.integers(0 if kind is _cyclist else 1, most + 1)):
            depth = random.uniform(0.12, 1.0) ** 1.3
            things.append((depth, kind))
    for depth, thing in sorted(things, key=lambda item: item[0]):  # the far ones first
        thing(street, random, depth, night)
    return _seen(street, random, night)


def _empty_street(random: np.random.Generator, night: bool) -> Street:
    """Return sky, walls and road; by day the ground is warm, by night the road keeps a little warmth."""
    rows = np.linspace(0, 1, HEIGHT)[:, None]
    shape = (HEIGHT, WIDTH)
    street = Street(
        np.empty((*shape, 3)),
        np.zeros((*shape, 3)),
        np.empty(shape),
        np.zeros(shape, np.uint8),
        np.zeros(shape, int),
    )
    street.colour[:] = (np.array([0.55, 0.7, 0.9]) * (1 - 0.3 * rows))[:, None]
    street.heat[:] = 0.12
    ground = _polygon([(0, HORIZON), (1, HORIZON), (1, 1), (0, 1)])
    street.paint(ground, np.array([0.38, 0.42, 0.3]), 0.34 if night else 0.5)
    road = _polygon([(0.42, HORIZON), (0.58, HORIZON), (1.15, 1), (-0.15, 1)])
    street.paint(road, random.uniform(0.3, 0.42), 0.4 if night else 0.55)
    left = 0.0
    while left < 1:
        right = left + random.uniform(0.08, 0.25)
        top = HORIZON * random.uniform(0.2, 0.8)
        wall = _polygon([(left, top), (right, top), (right, HORIZON), (left, HORIZON)])
        street.paint(wall, random.uniform(0.25, 0.7, 3), random.uniform(0.2, 0.35))
        left = right + random.uniform(0, 0.05)
    texture = random.normal(0, 1, shape)
    street.colour *= (1 + 0.06 * _blurred(texture, 1.0) / 0.28)[..., None]
    return street


def _lane_marks(street: Street, random: np.random.Generator) -> None:
    """Draw a dashed middle line and one at each side, all at the road's temperature."""
    white = random.uniform(0.75, 0.95)
    for side in (-1.0, 0.0, 1.0):
        for start in np.arange(0.1, 1.0, 0.2):
            ends = start, start + (0.2 if side else 0.11)
            rows = [HORIZON + (1 - HORIZON) * end for end in ends]
            middle = [0.5 + side * (0.07 + 0.5 * end) for end in ends]
            half = [0.002 + 0.014 * end for end in ends]
            region = _polygon(
                [
                    (middle[0] - half[0], rows[0]),
                    (middle[0] + half[0], rows[0]),
                    (middle[1] + half[1], rows[1]),
                    (middle[1] - half[1], rows[1]),
                ]
            )
            street.colour[region] = white
            street.name(region, "lane")


def _person(street: Street, random: np.random.Generator, depth: float, night: bool) -> None:
    x, foot, size = _place(random, depth, 0.42, (0.05, 0.95))
    region = _body(x, foot, size)
    street.paint(region, random.uniform(0.12, 0.4, 3), random.uniform(0.8, 0.95))
    street.name(region, "person")


def _cyclist(street: Street, random: np.random.Generator, depth: float, night: bool) -> None:
    x, foot, size = _place(random, depth, 0.42, (0.1, 0.9))
    wheel = 0.2 * size
    wheels = _rings(x, foot, size, wheel)
    rider = _body(x, foot - 0.25 * size, 0.8 * size)
    street.paint(wheels, 0.1, 0.42)
    street.paint(rider, random.uniform(0.12, 0.4, 3), random.uniform(0.75, 0.9))
    street.name(wheels | rider, "cyclist")


def _car(street: Street, random: np.random.Generator, depth: float, night: bool) -> None:
    x, foot, size = _place(random, depth, 0.3, (0.15, 0.85))
    width = size * random.uniform(0.95, 1.3)
    moving, oncoming = random.random() < 0.6, random.random() < 0.5
    body = _box(x, foot - 0.1 * size, width, 0.45 * size)
    cabin = _polygon(
        [
            (x - 0.4 * width, foot - 0.5 * size),
            (x - 0.3 * width, foot - 0.95 * size),
            (x + 0.3 * width, foot - 0.95 * size),
            (x + 0.4 * width, foot - 0.5 * size),
        ]
    )
    wheels = _box(x - 0.35 * width, foot, 0.2 * width, 0.2 * size) | _box(
        x + 0.35 * width, foot, 0.2 * width, 0.2 * size
    )
    street.paint(wheels, 0.08, 0.7 if moving else 0.4)
    street.paint(body, random.uniform(0.15, 0.9, 3), 0.62 if moving else 0.41)
    street.paint(cabin, 0.2, 0.35)
    street.name(body | cabin | wheels, "car")
    if moving:
        colour = np.array([1.0, 0.95, 0.8]) if oncoming else np.array([0.9, 0.1, 0.05])
        for side in (-0.38, 0.38):
            _shine(street, x + side * width, foot - 0.38 * size, 0.05 * size, colour)
            if oncoming and night:
                _glare(street, x + side * width, foot - 0.38 * size, 0.35 * size, colour)


def _lamp(street: Street, random: np.random.Generator, depth: float, night: bool) -> None:
    x, foot, size = _place(random, depth, 0.75, (0.02, 0.98))
    pole = _box(x, foot, max(0.02 * size, 1 / WIDTH), size)
    head = _box(x, foot - 0.95 * size, 0.14 * size, 0.07 * size)
    street.paint(pole, 0.5, _air(street, pole))
    street.paint(head, 0.75, _air(street, head))
    street.name(pole | head, "lamp")
    if night:
        street.light[head] = (1.0, 0.9, 0.6)
        _glare(street, x, foot - 0.95 * size, 0.3 * size, np.array([1.0, 0.85, 0.55]))


def _sign(street: Street, random: np.random.Generator, depth: float, night: bool) -> None:
    x, foot, size = _place(random, depth, 0.5, (0.02, 0.98))
    pole = _box(x, foot, max(0.03 * size, 1 / WIDTH), 0.7 * size)
    plate = _disc(x, foot - 0.8 * size, 0.2 * size)
    street.paint(pole, 0.45, _air(street, pole))
    colour = np.array([(0.85, 0.1, 0.1), (0.1, 0.2, 0.85), (0.9, 0.8, 0.1)])[random.integers(3)]
    street.paint(plate, colour, _air(street, plate))
    if night:
        street.light[plate] = 0.45 * colour  # it throws headlights back
    street.name(pole | plate, "sign")


def _seen(street: Street, random: np.random.Generator, night: bool) -> Drawn:
    """Return what the two cameras make of a street, and its labels."""
    light = NIGHT_LIGHT if night else random.uniform(0.8, 1.0)
    visible = street.colour * light + street.light
    visible = np.stack([_blurred(visible[..., channel], 0.5) for channel in range(3)], -1)
    visible += random.normal(0, NOISE["night" if night else "day"], visible.shape)
    heat = _blurred(street.heat, 0.8) + random.normal(0, THERMAL_NOISE, street.heat.shape)
    return Drawn(_as_bytes(visible), _as_bytes(heat), street.labels, _boxes(street))


def _as_bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _boxes(street: Street) -> Boxes:
    """Return the boxes of the objects that are not too small and not mostly covered."""
    rows, classes = [], []
    for number, (kind, region) in enumerate(street.objects, 1):
        seen = int((street.owner == number).sum())
        if seen < LEAST_PIXELS or seen < LEAST_VISIBLE * region.sum():
            continue
        y, x = np.nonzero(region)
        rows.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        classes.append(kind)
    return make_boxes(rows, classes)


def _place(
    random: np.random.Generator, depth: float, size: float, across: tuple[float, float]
) -> tuple[float, float, float]:
    """Return across, foot and height of a thing, in shares: far ones stand higher and are smaller."""
    foot = HORIZON + 0.06 + (0.98 - HORIZON - 0.06) * depth
    return random.uniform(*across), foot, size * (0.2 + 0.8 * depth)


def _air(street: Street, region: Region) -> float:
    """Return the temperature around a thing, so that the thermal camera does not see it."""
    return float(np.median(street.heat[region])) if region.any() else 0.3


def _shine(street: Street, x: float, y: float, radius: float, colour: NDArray[np.float64]) -> None:
    street.light[_disc(x, y, max(radius, 0.008))] = colour


def _glare(street: Street, x: float, y: float, radius: float, colour: NDArray[np.float64]) -> None:
    """Add a halo that falls off with the distance from a light."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    squared = ((rows / HEIGHT - y) ** 2 + ((columns / WIDTH - x) * WIDTH / HEIGHT) ** 2) / radius**2
    street.light += 0.7 * np.exp(-squared)[..., None] * colour


def _body(x: float, foot: float, size: float) -> Region:
    """Return a standing figure: head, trunk, two legs."""
    head = _disc(x, foot - 0.9 * size, 0.1 * size)
    trunk = _box(x, foot - 0.42 * size, 0.26 * size, 0.4 * size)
    legs = [_box(x + side * 0.07 * size, foot, 0.09 * size, 0.45 * size) for side in (-1, 1)]
    return head | trunk | legs[0] | legs[1]


def _rings(x: float, foot: float, size: float, radius: float) -> Region:
    regions = np.zeros((HEIGHT, WIDTH), bool)
    for side in (-0.28, 0.28):
        centre = x + side * size, foot - radius
        regions |= _disc(*centre, radius) & ~_disc(*centre, 0.6 * radius)
    return regions


def _box(x: float, foot: float, width: float, height: float) -> Region:
    """Return an upright rectangle; its width is in shares of the height, as its height is."""
    half = width / 2 * HEIGHT / WIDTH
    return _polygon(
        [(x - half, foot - height), (x + half, foot - height), (x + half, foot), (x - half, foot)]
    )


def _disc(x: float, y: float, radius: float) -> Region:
    image = Image.new("1", (WIDTH, HEIGHT))
    centre, pixels = (x * WIDTH, y * HEIGHT), radius * HEIGHT
    corners = (centre[0] - pixels, centre[1] - pixels, centre[0] + pixels, centre[1] + pixels)
    ImageDraw.Draw(image).ellipse(corners, fill=1)
    return np.array(image)


def _polygon(corners: list[tuple[float, float]]) -> Region:
    """Return the inside of a polygon, corners in shares of width and height."""
    image = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(image).polygon([(x * WIDTH, y * HEIGHT) for x, y in corners], fill=1)
    return np.array(image)


def _blurred(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Blur by a Gaussian of that many pixels, cut at three of them."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        size = values.shape[axis]
        padded = np.pad(values, [(reach, reach) if side == axis else (0, 0) for side in (0, 1)], "edge")
        values = sum(w * padded.take(range(k, k + size), axis) for k, w in enumerate(kernel))
    return values


def _write_lists(folder: Path, names: list[str]) -> None:
    """Write the splits: the first scenes are for training, the last for testing."""
    val, test = (max(2, round(share * len(names) / 2) * 2) for share in SHARES.values())
    lists = {
        "train": names[: -val - test],
        "val": names[-val - test : -test],
        "test": names[-test:],
        "test_day": [name for name in names[-test:] if name.endswith("D")],
        "test_night": [name for name in names[-test:] if name.endswith("N")],
    }
    for split, chosen in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in chosen))
