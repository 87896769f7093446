"""A wet street at night, drawn by a small ray caster: one geometry, read as light and as heat.

Every pixel gets a surface: its reflectance, emission, temperature and position in the world. The visible and
the thermal picture are two readings of that surface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ddfm.demo.rendering import Array, blur, developed, pink_noise, texture

Point = tuple[float, float, float]
Colour = tuple[float, float, float]

WIDTH, HEIGHT, SUPER = 640, 480, 2
# A pinhole camera on the road: metres, x to the right, y up from the ground, z along the street.
FOCAL, CENTRE_X, CENTRE_Y, EYE = 430.0 * SUPER, 270.0 * SUPER, 262.0 * SUPER, 1.6
LEFT, RIGHT, END = -5.2, 7.5, 75.0
KERBS = (-3.2, 5.0)
SHOP = (9.4, 15.8)
POSTS = ((-3.7, 56.0), (5.5, 45.0), (-3.7, 36.0), (5.5, 28.0), (-3.7, 22.0), (5.5, 13.0))
DRIVING, PARKED = (-1.2, 17.5), (3.85, 8.0)

SODIUM: Colour = (1.0, 0.62, 0.28)
WARM: Colour = (1.0, 0.66, 0.32)
HEADLIGHT: Colour = (0.92, 0.96, 1.0)
BLACK: Colour = (0.013, 0.014, 0.017)

# Lamps: place, colour, strength, the way they shine and how narrowly. One stands behind the camera.
LIGHTS: list[tuple[Point, Colour, float, Point, float]] = [
    *(((x - np.sign(x) * 1.1, 5.5, z), SODIUM, 40.0, (0, -1, 0), 1) for x, z in (*POSTS, (6.5, -2.0))),
    *(((DRIVING[0] + x, 0.68, DRIVING[1]), HEADLIGHT, 30.0, (0.05, -0.06, -1), 24) for x in (-0.62, 0.62)),
    *(((RIGHT - 0.3, 2.2, z), WARM, 5.0, (-0.9, -0.44, 0), 1) for z in (10.5, 12.6, 14.7)),
]
# What stands in the light: x, z, half widths in x and z, height, and the share of light it takes.
SHADOWS = (
    (PARKED[0], PARKED[1] + 2, 1.0, 2.4, 0.4, 0.9),
    (DRIVING[0], DRIVING[1] + 1, 1.0, 1.6, 0.3, 0.8),
    (6.2, 8.4, 0.35, 0.35, 0.2, 0.8),
    (1.9, 14.2, 0.35, 0.35, 0.2, 0.8),
    (-5.0, 11.0, 1.7, 4.2, 3.2, 0.97),
)
# Somebody walking: tapering limbs (x, y, x, y, radius, radius) in fractions of their height.
# fmt: off
PERSON = {
    "legs": ((-.045, .49, -.07, .26, .054, .036), (-.07, .26, -.13, .045, .035, .023),
             (.04, .49, .085, .27, .054, .036), (.085, .27, .10, .03, .035, .023),
             (-.13, .03, -.085, .015, .021, .015), (.10, .02, .145, .012, .021, .014)),
    "skin": ((-.075, .45, -.07, .42, .019, .015), (.135, .45, .14, .42, .019, .015),
             (0, .84, 0, .88, .027, .028), (.003, .905, .003, .945, .040, .044)),
    "coat": ((0, .78, 0, .62, .076, .066), (0, .62, 0, .46, .066, .080), (-.06, .788, .06, .788, .036, .036),
             (-.093, .775, -.118, .60, .035, .028), (-.118, .60, -.08, .46, .027, .021),
             (.093, .775, .122, .60, .035, .028), (.122, .60, .133, .46, .027, .021)),
    "hair": ((-.006, .962, .002, .966, .040, .040),),
}
# fmt: on


def draw() -> tuple[Image.Image, Image.Image]:
    """Draw the street in thermal (L) and in visible light (RGB): 480 x 640, aligned, always the same."""
    street, mirrored = _street(1), _street(-1)
    wet = _wetness(street)
    warmth = street.heat + 0.6 * wet * (blur(mirrored.heat, 6, 3) - street.heat)
    light = _shade(street) + wet[..., None] * _streaks(_shade(mirrored))
    rng = np.random.default_rng(5)
    return _thermal(warmth, rng), _photograph(light, rng)


class _Surface:
    """Describe each pixel of the supersampled picture; ``side`` is -1 for its mirror image in wet ground.

    ``albedo`` and ``glow`` (emitted light) are linear RGB (H, W, 3), ``heat`` is (H, W) in [0, 1],
    ``point`` and ``normal`` are world coordinates (H, W, 3).
    """

    def __init__(self, side: int) -> None:
        shape = (HEIGHT * SUPER, WIDTH * SUPER)
        self.side = side
        self.u = ((np.arange(shape[1], dtype=np.float32) + 0.5 - CENTRE_X) / FOCAL)[None, :]
        self.v = ((np.arange(shape[0], dtype=np.float32) + 0.5 - CENTRE_Y) / FOCAL)[:, None]
        self.heat = np.zeros(shape, np.float32)
        self.albedo, self.glow, self.point, self.normal = (
            np.zeros((*shape, 3), np.float32) for _ in range(4)
        )

    def project(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        """Project points of the world to pixels of the supersampled picture."""
        return [
            (CENTRE_X + FOCAL * x / z, CENTRE_Y + FOCAL * (EYE - self.side * y) / z) for x, y, z in points
        ]

    def mask(self, draw: Callable[[ImageDraw.ImageDraw], Any]) -> Array:
        """Rasterise the shape that ``draw`` paints, (H, W) in [0, 1]."""
        image = Image.new("L", (WIDTH * SUPER, HEIGHT * SUPER))
        draw(ImageDraw.Draw(image))
        painted: Array = np.asarray(image, np.float32) / np.float32(255)
        return painted

    def polygon(self, points: Sequence[Point]) -> Array:
        """Return the mask of a polygon given by points of the world."""
        corners = self.project(points)
        return self.mask(lambda d: d.polygon(corners, fill=255))

    def paint(
        self,
        mask: Array,
        z: float,
        albedo: Colour | Array,
        heat: float | Array,
        glow: Colour = (0, 0, 0),
        bulge: float = 0,
    ) -> None:
        """Put an upright object in front; ``bulge`` > 0 rounds its shading over that many metres."""
        on = rows, columns = np.nonzero(mask > 0.5)
        self.albedo[on] = albedo[on] if isinstance(albedo, np.ndarray) else albedo
        self.heat[on] = heat[on] if isinstance(heat, np.ndarray) else heat
        self.glow[on] = glow
        x, y = self.u[0, columns] * z, self.side * (EYE - self.v[rows, 0] * z)
        self.point[on] = np.stack([x, y, np.full_like(x, z)], -1)
        slope_x = slope_y = np.zeros_like(x)
        if bulge:
            sigma = bulge * FOCAL / z
            slopes = np.asarray(np.gradient(_soften(mask, sigma)))
            slope_y, slope_x = 3 * sigma * slopes[:, rows, columns]
        normal = np.stack([-slope_x, self.side * slope_y, np.full_like(x, -1)], -1)
        self.normal[on] = normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def _street(side: int) -> _Surface:
    """Draw the whole street, far to near; the same random draws for the street and its mirror image."""
    rng = np.random.default_rng(11)
    surface, noise = _Surface(side), pink_noise(rng)
    _houses(surface, noise, rng)
    if side > 0:
        _ground(surface, noise)
    _posts(surface)
    _tree(surface, rng, 5.9, 24.0, 5.0)
    _tree(surface, rng, -4.3, 26.0, 5.4)
    _hotel(surface)
    _car(surface, *DRIVING, lit=True)
    _person(surface, 1.9, 14.2, 1.74, (0.10, 0.13, 0.22), (0.07, 0.07, 0.09))
    _tree(surface, rng, -4.85, 9.6, 4.6)
    # the one whom only the thermal camera sees: in the tree's shade, as bright as the wall
    _person(surface, -4.35, 9.5, 1.78, (0.17, 0.14, 0.10), (0.16, 0.13, 0.10))
    _person(surface, 6.2, 8.4, 1.70, (0.30, 0.10, 0.07), (0.05, 0.06, 0.10))
    _car(surface, *PARKED, lit=False)
    return surface


def _soften(mask: Array, sigma: float) -> Array:
    """Blur of a mask in [0, 1], quick and to 8 bits."""
    image = Image.fromarray((255 * mask).astype(np.uint8))
    blurred: Array = np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)), np.float32) / np.float32(255)
    return blurred


def _houses(s: _Surface, noise: Array, rng: np.random.Generator) -> None:
    """Draw sky, houses on both sides and at the end: ``along`` a facade, ``y`` up, in metres."""
    wall = np.where(s.u > 0, RIGHT, LEFT)
    z = np.minimum(wall / s.u, END) + 0 * s.v
    x, y = s.u * z, s.side * (EYE - s.v * z)
    far = z >= END
    row = np.where(far, 2, s.u > 0).astype(np.int64)
    along = np.where(far, x + 40, z)
    house = np.minimum(along / 11, 7).astype(np.int64)
    tall = rng.uniform(8.5, 15, (3, 8))[row, house]
    tint = rng.uniform(0.10, 0.22, (3, 8, 1)) * rng.uniform((1.0, 0.75, 0.55), (1.1, 1.0, 0.95), (3, 8, 3))
    rough = texture(noise, along, y, 30)
    joint = ((y / 0.16) % 1 < 0.16) | ((along / 0.42 + (y / 0.16 // 1) % 2 / 2) % 1 < 0.06)
    s.albedo[:] = tint[row, house] * (1 + 0.18 * rough - 0.25 * (joint & (z < 30)))[..., None].clip(0.3, 2)
    s.heat[:] = 0.27 + 0.016 * rough + 0.04 * np.sin(house * 2.4 + 2 * row) - 0.006 * y
    s.point[:] = np.stack([x, y, z], -1)
    s.normal[:] = np.stack([np.where(far, 0, -np.sign(wall)), 0 * y, np.where(far, -1, 0)], -1)
    _windows(s, rng, row, along, y, tall)
    shutter = (y < 2.9) & (np.abs((along / 3.6) % 1 - 0.5) < 0.4) & ~far
    s.albedo[shutter] = (0.07 + 0.03 * ((y / 0.12) % 1 < 0.5))[shutter][:, None]
    s.albedo[(np.abs(y - 3.55) < 0.08) | (np.abs(y - tall + 0.2) < 0.2)] = 0.3
    _shop(s, row, along, y, noise)
    sky = y > tall
    height = (-s.side * s.v).clip(0, 1) + 0 * s.u
    cloud = texture(noise, s.u / (height + 0.15), 1 / (height + 0.15), 40)
    s.albedo[sky] = 0
    s.glow[sky] = ((0.016 + 0.003 * cloud - 0.012 * height)[..., None] * (0.75, 0.85, 1.25))[sky]
    s.heat[sky] = (0.13 - 0.11 * height + 0.008 * cloud)[sky]


def _windows(
    s: _Surface, rng: np.random.Generator, row: NDArray[np.int64], along: Array, y: Array, tall: Array
) -> None:
    """Draw a frame, panes and a cross bar; where somebody is at home light, curtains and a warm frame."""
    across, up = along / 2.75, (y - 3.9) / 3.1
    cell = row, across.astype(np.int64) % 32, np.clip(up, 0, 3).astype(np.int64)
    p, q = np.abs(across % 1 - 0.5), np.abs(up % 1 - 0.45)
    frame = (y > 3.9) & (y < tall - 0.7) & (p < 0.25) & (q < 0.33)
    glass = frame & (p < 0.21) & (q < 0.30) & (p > 0.012) & (np.abs(up % 1 - 0.6) > 0.012)
    home = (rng.random((3, 32, 4)) < 0.26)[cell]
    curtain = p > rng.uniform(0.06, 0.25, (3, 32, 4))[cell]
    bright = rng.uniform(0.15, 0.8, (3, 32, 4))[cell] * np.where(curtain, 0.4, 1) * (0.3 + 0.6 * (up % 1))
    hue = (np.array(WARM) ** rng.uniform(0.6, 1.6, (3, 32, 4, 1)))[cell]
    s.albedo[frame], s.albedo[glass] = 0.25, 0.012
    s.heat[frame] = np.where(home, 0.50, 0.31)[frame]
    s.heat[glass] = np.where(home, 0.38, 0.18)[glass]
    s.glow[glass & home] = (bright[..., None] * hue)[glass & home]


def _shop(s: _Surface, row: NDArray[np.int64], along: Array, y: Array, noise: Array) -> None:
    """Draw glazing with shelves behind it, and a sign above in letters that glow but are not warmer."""
    inside = (row == 1) & (along > SHOP[0]) & (along < SHOP[1])
    pane = inside & (y > 0.5) & (y < 2.75) & ((along / 1.6) % 1 > 0.05)
    books = texture(noise, along, np.floor(y / 0.55) * 3.7, 45)
    bright = np.where((y / 0.55) % 1 < 0.12, 0.15, 0.55 + 0.35 * np.tanh(-2 * books)) * (0.4 + 0.3 * y)
    s.glow[pane] = bright[pane][:, None] * WARM
    s.heat[inside & (y > 0.3) & (y < 2.9)] = 0.5
    s.heat[pane] = 0.43
    board = inside & (y > 2.95) & (y < 3.75)
    image = Image.new("1", (960, 120))
    ImageDraw.Draw(image).text((480, 60), "NIGHT BOOKS", 1, ImageFont.load_default(112), anchor="mm")
    across = ((SHOP[1] - along) / (SHOP[1] - SHOP[0]) * 960).clip(0, 959).astype(np.int64)
    down = ((3.75 - y) / 0.8 * 120).clip(0, 119).astype(np.int64)
    s.albedo[board] = (0.02, 0.05, 0.06)
    s.heat[board] = 0.35
    s.glow[board & np.asarray(image)[down, across]] = (0.9, 2.2, 2.0)


def _ground(s: _Surface, noise: Array) -> None:
    """Draw asphalt with markings and a crossing, kerbs, slabs; warm tracks where cars have driven."""
    z = EYE / np.maximum(s.v, 1e-3) + 0 * s.u
    x = s.u * z
    on = (s.v > 0) & (z < END) & (x > LEFT) & (x < RIGHT)
    road = (x > KERBS[0]) & (x < KERBS[1])
    fine, coarse = texture(noise, x, z, 90), texture(noise, x, z, 14)
    slab = ((x % 0.6) < 0.025) | ((z % 0.6) < 0.03)
    shade = np.where(road, 0.055 + 0.018 * fine + 0.008 * coarse, 0.14 + 0.02 * fine - 0.07 * slab)
    dash = (np.abs(x - 0.9) < 0.07) & (z % 4 < 2) & ((z < 11.5) | (z > 17))
    zebra = road & (z > 12.6) & (z < 15.6) & (x % 0.95 < 0.5)
    worn = dash | zebra | (np.abs(x - KERBS[1] + 0.5) < 0.06)
    shade = np.where(worn, 0.5 - 0.12 * fine - 0.06 * coarse, shade)
    kerb = (np.abs(x - KERBS[0]) < 0.12) | (np.abs(x - KERBS[1]) < 0.12)
    shade = np.where(kerb, 0.24 + 0.03 * fine, shade).clip(0.01, 1)
    tracks = np.exp(-(((x[..., None] - (-1.9, -0.5, 2.2, 3.6)) / 0.22) ** 2)).sum(-1)
    engine = np.exp(-(((x - DRIVING[0]) / 0.7) ** 2) - (z - DRIVING[1]) ** 2)
    warm = 0.30 + 0.012 * fine + 0.015 * coarse + 0.05 * tracks + 0.15 * engine
    heat = np.where(road, warm, 0.27 + 0.01 * fine)
    s.albedo[on] = shade[on][:, None] * np.array((1.0, 0.97, 0.93))
    s.heat[on], s.glow[on], s.normal[on] = heat[on], 0, (0, 1, 0)
    s.point[on] = np.stack([x, 0 * x, z], -1)[on]


def _posts(s: _Surface) -> None:
    for x, z in POSTS:
        head = x - np.sign(x) * 1.1
        path = s.project([(x, 0, z), (x, 5.4, z), ((x + head) / 2, 5.75, z), (head, 5.7, z)])
        s.paint(_line(s, path, 0.11, z), z, (0.1, 0.1, 0.1), 0.28, bulge=0.05)
        lamp = [(head + dx, y, z) for dx, y in ((-0.28, 5.72), (0.28, 5.72), (0.22, 5.58), (-0.22, 5.58))]
        s.paint(s.polygon(lamp), z, (0.1, 0.1, 0.1), 0.72, (14.0, 8.7, 3.9))


def _line(s: _Surface, path: Sequence[tuple[float, float]], width: float, z: float) -> Array:
    return s.mask(lambda d: d.line(path, 255, max(2, round(width * FOCAL / z)), "curve"))


def _hotel(s: _Surface) -> None:
    """Draw a sign in red letters one above the other, on the left."""
    z, x0, x1, y0, y1 = 17.0, -5.1, -4.0, 3.5, 7.3
    s.paint(s.polygon([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]), z, BLACK, 0.34)
    ((x, y),) = s.project([((x0 + x1) / 2, (y0 + y1) / 2, z)])
    font = ImageFont.load_default(0.72 * FOCAL / z)
    step = s.side * 0.73 * FOCAL / z

    def letters(d: ImageDraw.ImageDraw) -> None:
        for k, letter in enumerate("HOTEL"):
            d.text((x, y + (k - 2) * step), letter, 255, font, anchor="mm")

    s.paint(s.mask(letters), z, BLACK, 0.36, (3.0, 0.35, 0.28))


def _car(s: _Surface, x: float, z: float, lit: bool) -> None:
    """Draw a saloon: ``lit`` is driving towards us, engine and tyres warm; else parked, seen from behind."""
    coat: Colour = (0.05, 0.06, 0.08) if lit else (0.10, 0.013, 0.015)
    flank, glass = -0.86 * np.sign(x), 1.1 if lit else 0.7

    def part(points: Sequence[Point], look: Colour, cold: float, warm: float = 0, **more: Any) -> None:
        place = s.polygon([(x + px, py, z + pz) for px, py, pz in points])
        s.paint(place, z, look, cold + warm * lit, **more)

    def whole(half: Sequence[Point], *look: Any, **more: Any) -> None:
        part([*half, *((-px, py, pz) for px, py, pz in reversed(half))], *look, **more)

    def both(x0: float, x1: float, y0: float, y1: float, depth: float, *look: Any, **more: Any) -> None:
        for sign in (-1, 1):
            corners = [(x0, y0, depth), (x1, y0, depth), (x1, y1, depth), (x0, y1, depth)]
            part([(sign * px, py, pz) for px, py, pz in corners], *look, **more)

    side = ((0.22, 0), (0.93, 0), (0.97, 3), (0.85, 4), (0.6, 4.2), (0.22, 4.2))
    part([(flank, y, d) for y, d in side], coat, 0.31, 0.05)
    for axle in (0.8, 3.2):
        turn = np.linspace(0, 6.28, 24)
        part([(flank, 0.3 + 0.3 * np.sin(a), axle + 0.3 * np.cos(a)) for a in turn], BLACK, 0.30, 0.3)
    both(0.60, 0.84, 0.0, 0.4, 0.55, BLACK, 0.30, 0.35)
    window = ((1.0, 0.93, glass - 0.5), (0.68, 1.42, glass + 0.3), (0.68, 1.42, 2.5), (1.0, 0.93, 3.3))
    part([(flank * px, py, pz) for px, py, pz in window], BLACK, 0.25)
    whole([(0.6, 1.43, glass + 0.3), (0.5, 1.47, glass + 1)], coat, 0.29)
    whole([(0.86, 0.93, glass - 0.4), (0.59, 1.43, glass + 0.3)], coat, 0.30)
    whole([(0.74, 0.96, glass - 0.4), (0.53, 1.39, glass + 0.3)], BLACK, 0.23, 0.07)
    whole([(0.8, 0.9, 0), (0.84, 0.96, glass - 0.4)], tuple(2 * c for c in coat), 0.31, 0.42)
    body = [(0.8, 0.2, 0), (0.88, 0.28, 0), (0.9, 0.62, 0), (0.88, 0.86, 0), (0.84, 0.93, 0)]
    whole(body, coat, 0.33, 0.2, bulge=0.16)
    both(0.9, 1.02, 0.98, 1.11, 1.2, coat, 0.31)
    whole([(0.26, 0.42, 0), (0.26, 0.54, 0)], (0.45, 0.45, 0.42), 0.35)
    if lit:
        whole([(0.43, 0.58, 0), (0.43, 0.8, 0)], BLACK, 0.86)
        both(0.5, 0.8, 0.62, 0.76, 0, BLACK, 0.66, glow=(60.0, 63.0, 66.0))
    else:
        both(0.52, 0.85, 0.70, 0.84, 0, (0.35, 0.01, 0.01), 0.32, glow=(0.05, 0.0, 0.0))
        whole([(0.87, 0.60, 0), (0.87, 0.63, 0)], BLACK, 0.29)
        whole([(0.86, 0.2, 0), (0.88, 0.32, 0)], (0.03, 0.03, 0.03), 0.30)


def _person(s: _Surface, x: float, z: float, tall: float, coat: Colour, trousers: Colour) -> None:
    looks = {
        "legs": (trousers, 0.70),
        "skin": ((0.26, 0.17, 0.12), 0.95),
        "coat": (coat, 0.80),
        "hair": ((0.09, 0.07, 0.05), 0.92),
    }
    scale = tall * FOCAL / z
    for part, limbs in PERSON.items():

        def draw(d: ImageDraw.ImageDraw, limbs: Sequence[Sequence[float]] = limbs) -> None:
            for x0, y0, x1, y1, r0, r1 in limbs:
                for t in np.linspace(0, 1, 24):
                    dx, dy, r = x0 + t * (x1 - x0), y0 + t * (y1 - y0), (r0 + t * (r1 - r0)) * scale
                    ((px, py),) = s.project([(x + tall * dx, tall * dy, z)])
                    d.ellipse((px - r, py - r, px + r, py + r), 255)

        shape = _soften(s.mask(draw), 1.5)
        albedo, heat = looks[part]
        s.paint(shape, z, albedo, heat * (0.75 + 0.28 * _soften(shape, 0.028 * scale)), bulge=0.05)


def _tree(s: _Surface, rng: np.random.Generator, x: float, z: float, crown: float) -> None:
    """Draw a trunk with branches, and leaves in clumps; lighter leaves are nearer to us."""
    bend = rng.uniform(-0.15, 0.15, 6)
    trunk = [(x + bend[k] * k / 3, 0.15 * crown * k, z) for k in range(6)]
    s.paint(_line(s, s.project(trunk), 0.24, z), z, (0.05, 0.04, 0.03), 0.27, bulge=0.08)
    for k, (dx, dy) in enumerate(rng.normal(0, 0.75, (9, 2))):
        branch = s.project([trunk[3 + k % 3], (x + dx, crown + dy, z)])
        s.paint(_line(s, branch, 0.06, z), z, (0.05, 0.04, 0.03), 0.25)
    clump = rng.normal(0, 1, (26, 2)) * (0.85, 0.62)
    middle = clump[rng.integers(0, 26, 6000)] + rng.normal(0, 0.30, (6000, 2))
    radius = rng.uniform(0.024, 0.06, (6000, 2)) * FOCAL / z
    tone = np.sort(rng.integers(70, 255, 6000))

    def leaves(d: ImageDraw.ImageDraw) -> None:
        places = s.project([(x + mx, crown + my, z) for mx, my in middle])
        for (px, py), (rx, ry), shade in zip(places, radius, tone, strict=True):
            d.ellipse((px - rx, py - ry, px + rx, py + ry), int(shade))

    tones = s.mask(leaves)
    albedo = tones[..., None] ** 2 * np.array((0.55, 0.62, 0.22), np.float32)
    s.paint((tones > 0).astype(np.float32), z, albedo, 0.12 + 0.13 * _soften(tones, 1), bulge=0.2)


def _shade(s: _Surface) -> Array:
    """Return the light that reaches the camera, linear RGB (H, W, 3), unbounded."""
    arriving = np.array((0.020, 0.024, 0.038), np.float32) * (0.6 + 0.4 * s.normal[..., 1:2])
    for place, colour, strength, aim, narrow in LIGHTS:
        way = np.array(place, np.float32) - s.point
        distance = np.linalg.norm(way, axis=-1) + 0.1
        facing = ((way * s.normal).sum(-1) / distance).clip(0)
        beam = (-(way @ np.array(aim, np.float32)) / distance).clip(0) ** narrow
        arriving = arriving + (strength * facing * beam / (distance**2 + 0.5))[..., None] * np.array(
            colour, np.float32
        )
    x, y, z = np.moveaxis(s.point, -1, 0)
    for cx, cz, rx, rz, tall, dark in SHADOWS:
        away = ((x - cx) / rx) ** 2 + ((z - cz) / rz) ** 2
        arriving *= (1 - dark * np.exp(-(away**2) - (y / tall) ** 8))[..., None]
    return s.albedo * arriving + s.glow


def _wetness(s: _Surface) -> Array:
    """Return how mirror-like the ground is, (H, W) in [0, 1]."""
    x, y, z = np.moveaxis(s.point, -1, 0)
    pool = texture(pink_noise(np.random.default_rng(3)), x, z, 22)
    grazing = (1 - EYE / np.hypot(z, EYE)) ** 4
    road = (x > KERBS[0]) & (x < KERBS[1])
    ground = (s.normal[..., 1] == 1) & (y == 0)
    wet: Array = (
        ground * (0.06 + 0.6 * grazing) * (0.55 + 0.45 * np.tanh(1.5 * pool)) * np.where(road, 1, 0.4)
    )
    return wet


def _streaks(light: Array) -> Array:
    """Draw reflections in rough wet asphalt out towards the camera."""
    light = light.clip(0, 25)
    return 0.35 * blur(light, 5, 2) + 0.65 * blur(light, 34, 3)


def _photograph(light: Array, rng: np.random.Generator) -> Image.Image:
    """Add lens glare, a film-like shoulder and sensor noise: RGB of 480 x 640."""
    light = _halved(light.clip(0, 60))
    for weight, sigma_y, sigma_x in ((0.10, 2.5, 2.5), (0.06, 9, 9), (0.05, 34, 34), (0.025, 1, 42)):
        light = light + weight * blur(light, sigma_y, sigma_x)
    return developed(1 - np.exp(-1.5 * light), rng.normal(0, 3, light.shape).astype(np.float32))


def _thermal(heat: Array, rng: np.random.Generator) -> Image.Image:
    """Return the softer picture of a microbolometer: L of 480 x 640."""
    soft = 255 * _halved(blur(heat, 1.8, 1.8))
    return Image.fromarray((soft + rng.normal(0, 2, soft.shape)).round().clip(0, 255).astype(np.uint8))


def _halved(image: Array) -> Array:
    """Return the means of SUPER x SUPER blocks."""
    blocks = image.reshape(HEIGHT, SUPER, WIDTH, SUPER, *image.shape[2:])
    means: Array = blocks.mean((1, 3))
    return means
