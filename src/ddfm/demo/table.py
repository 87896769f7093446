"""A table before a wall of books, drawn by a small ray tracer: light, and the distance of every pixel.

The same room makes two scenes. One is lit by a lamp, with balls at several distances. The other is lit by a
window, hundreds of times as strong as the room's light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ddfm.demo.rendering import Array, pink_noise, texture

Colour = tuple[float, float, float]
Point = tuple[float, float, float]

SUPER = 2  # rays a pixel, down and across
# A pinhole camera: metres, x to the right, y up from the table top, z along the table.
EYE, WALL = 0.9, 8.0
SHELF = 0.62  # from one board to the next, metres
WINDOW = (-1.65, 1.45, 0.42, 2.55)  # left, right, sill, lintel
OUTSIDE = 11.0  # light of the sky, where the lamp's is about 1
PENUMBRA = 0.12  # width of a shadow's border, for each metre from what casts it


class Ball(NamedTuple):
    """A glazed ball on the table: place, radius, two colours and the pattern of them."""

    x: float
    z: float
    radius: float
    colours: tuple[Colour, Colour]
    pattern: Callable[[Array], Array]

    @property
    def centre(self) -> Point:
        """Return the middle of the ball, which touches the table."""
        return self.x, self.radius, self.z


def _stripes(n: Array) -> Array:
    return np.sin(9 * (n[..., 0] + 0.6 * n[..., 1])) > 0


def _dots(n: Array) -> Array:
    across, down = np.arctan2(n[..., 0], -n[..., 2]), np.arcsin(n[..., 1].clip(-1, 1))
    return np.cos(6 * across) + np.cos(9 * down) > 0.9


def _marble(n: Array) -> Array:
    veins = np.sin(7 * n[..., 0] + 3 * np.sin(5 * n[..., 1] + 4 * n[..., 2]))
    return np.exp(-((veins / 0.35) ** 2))


def _checks(n: Array) -> Array:
    across, down = np.arctan2(n[..., 0], -n[..., 2]), np.arcsin(n[..., 1].clip(-1, 1))
    return (np.sin(8 * across) * np.sin(8 * down)) > 0


RED, CREAM, BLUE, GOLD, GREEN, WHITE = (
    (0.42, 0.03, 0.025), (0.72, 0.62, 0.44), (0.02, 0.07, 0.30), (0.70, 0.38, 0.03), (0.03, 0.20, 0.10),
    (0.75, 0.75, 0.72),
)  # fmt: skip
BY_LAMP = (
    Ball(-0.52, 2.75, 0.30, (RED, CREAM), _stripes),
    Ball(0.42, 3.15, 0.24, (BLUE, WHITE), _dots),
    Ball(1.05, 4.4, 0.36, (GREEN, GOLD), _marble),
    Ball(-1.05, 5.2, 0.40, (WHITE, BLUE), _checks),
    Ball(0.35, 6.4, 0.34, (GOLD, RED), _stripes),
)
BY_WINDOW = (
    Ball(-0.95, 3.4, 0.38, (WHITE, BLUE), _checks),
    Ball(0.05, 4.3, 0.30, (RED, CREAM), _stripes),
    Ball(1.15, 3.7, 0.42, (GREEN, GOLD), _marble),
    Ball(2.0, 5.6, 0.40, (BLUE, WHITE), _dots),
)


def by_lamp(height: int, width: int) -> tuple[Array, Array]:
    """Draw the room by lamp light: linear RGB (H, W, 3), and the distance in metres (H, W)."""
    return _drawn(height, width, 1.2 * width, 0.24 * height, BY_LAMP, window=False)


def by_window(height: int, width: int) -> tuple[Array, Array]:
    """Draw the room by day, with the window in sight: as `by_lamp`."""
    return _drawn(height, width, 1.1 * width, 0.50 * height, BY_WINDOW, window=True)


def _drawn(
    height: int, width: int, focal: float, horizon: float, balls: Sequence[Ball], window: bool
) -> tuple[Array, Array]:
    u = ((np.arange(width * SUPER, dtype=np.float32) + 0.5) / SUPER - width / 2) / focal
    v = ((np.arange(height * SUPER, dtype=np.float32) + 0.5) / SUPER - horizon) / focal
    u, v = np.broadcast_arrays(u[None, :], v[:, None])
    way: Array = np.stack([u, -v, np.ones_like(u)], -1).astype(np.float32)
    # 1. The wall, and the table before it.
    z = np.where(v * WALL > EYE, EYE / v.clip(1e-6), WALL).astype(np.float32)
    point: Array = (way * z[..., None] + np.array((0, EYE, 0), np.float32)).astype(np.float32)
    on_table = z < WALL
    light = _wall(point[..., 0], point[..., 1], window)
    light[on_table] = _table(point[on_table], way[on_table], balls, window)
    # 2. The balls, the farthest first.
    for ball in sorted(balls, key=lambda ball: -ball.z):
        centre = np.array(ball.centre, np.float32) - (0, EYE, 0)
        squared, along = (way**2).sum(-1), way @ centre
        inside = along**2 - squared * (centre @ centre - ball.radius**2)
        on = inside > 0
        near = (along[on] - np.sqrt(inside[on])) / squared[on]
        hit = way[on] * near[:, None] + np.array((0, EYE, 0), np.float32)
        light[on] = _glazed(ball, hit, way[on], balls, window)
        z[on] = hit[:, 2]
    return _mean(light), _mean(z[..., None])[..., 0]


def _lamp(point: Array, normal: Array, balls: Sequence[Ball], window: bool) -> Array:
    """Return the light that arrives at points (N, 3) of surfaces, (N, 3): lamp or window, and the room's."""
    place = np.array((0.0, 1.5, WALL) if window else (-2.6, 3.4, 1.2), np.float32)
    colour = np.array((0.80, 0.92, 1.1) if window else (1.25, 1.0, 0.72), np.float32)
    towards = place - point
    distance = np.linalg.norm(towards, axis=-1, keepdims=True)
    towards /= distance
    facing = ((towards * normal).sum(-1) + (0.25 if window else 0.0)).clip(0)  # a window is wide
    strength = 2.6 / (1 + 0.5 * distance[:, 0] ** 2) if window else 18 / (4 + distance[:, 0] ** 2)
    open_to_room = 1.0
    for ball in balls:
        away = np.array(ball.centre, np.float32) - point
        along = (away * towards).sum(-1)
        beside = np.sqrt(((away**2).sum(-1) - along**2).clip(0))
        border = PENUMBRA * (4 if window else 1) * along.clip(0.02)
        covered = (0.5 + 0.5 * (ball.radius - beside) / border).clip(0, 1)
        facing = facing * (1 - np.where(along > ball.radius * 0.3, covered, 0))
        # What the ball hides of the room: its share of the half sphere above the surface.
        far = np.linalg.norm(away, axis=-1)
        rises = ((away * normal).sum(-1) / far).clip(0)
        open_to_room = open_to_room * (1 - rises * (ball.radius / far.clip(ball.radius)) ** 2)
    room = np.array((0.022, 0.024, 0.030) if window else (0.16, 0.15, 0.15), np.float32)
    sky = 0.6 + 0.4 * normal[:, 1]
    return (strength * facing)[:, None] * colour + (sky * open_to_room)[:, None] * room


def _table(point: Array, way: Array, balls: Sequence[Ball], window: bool) -> Array:
    """Return the light from the varnished table at points (N, 3), seen along ``way``."""
    noise = pink_noise(np.random.default_rng(4))
    x, z = point[:, 0], point[:, 2]
    plank = np.floor((x + 10) / 0.42)
    grain = texture(noise, 10 * (x + 7.3 * plank), 1.1 * z + 3 * plank + 5, 22)
    fine = texture(noise, 40 * x, 2 * z + 9, 40)
    tone = (0.8 + 0.16 * np.sin(plank * 2.4) + 0.20 * grain + 0.08 * fine).clip(0.25, 1.6)
    tone = tone * (1 - 0.75 * (np.abs((x + 10) / 0.42 - plank - 0.5) > 0.488))
    albedo = tone[:, None] * np.array((0.24, 0.115, 0.048), np.float32)
    normal = np.broadcast_to(np.array((0, 1, 0), np.float32), point.shape)
    mirrored = way * np.array((1, -1, 1), np.float32)
    shine = 0.04 + 0.5 * (1 - mirrored[:, 1] / np.linalg.norm(mirrored, axis=-1)) ** 5
    return albedo * _lamp(point, normal, balls, window) + shine[:, None] * _seen(point, mirrored, window)


def _glazed(ball: Ball, point: Array, way: Array, balls: Sequence[Ball], window: bool) -> Array:
    """Return the light from a ball at points (N, 3), seen along ``way``."""
    normal = (point - np.array(ball.centre, np.float32)) / ball.radius
    turned = normal @ np.array(((0.8, 0.36, -0.48), (-0.6, 0.48, -0.64), (0, 0.8, 0.6)), np.float32)
    second = ball.pattern(turned).astype(np.float32)[:, None]
    albedo = (
        np.array(ball.colours[0], np.float32) * (1 - second) + np.array(ball.colours[1], np.float32) * second
    )
    others = [other for other in balls if other is not ball]
    way = way / np.linalg.norm(way, axis=-1, keepdims=True)
    cosine = -(way * normal).sum(-1, keepdims=True)
    mirrored = way + 2 * cosine * normal
    shine = 0.04 + 0.6 * (1 - cosine.clip(0, 1)) ** 5
    light = albedo * _lamp(point, normal, others, window) + shine * _seen(point, mirrored, window)
    if not window:  # the lamp itself, mirrored
        lamp = np.array((-2.6, 3.4, 1.2), np.float32) - point
        lamp /= np.linalg.norm(lamp, axis=-1, keepdims=True)
        light += 4 * np.exp(-(1 - (lamp * mirrored).sum(-1, keepdims=True)) / 0.002)
    return light


def _seen(point: Array, way: Array, window: bool) -> Array:
    """Return the light that arrives along ``way`` reversed: of wall, table or room."""
    seen = np.full(point.shape, 0.01 if window else 0.10, np.float32)
    ahead = way[:, 2] > 1e-3
    far = (WALL - point[ahead, 2]) / way[ahead, 2]
    x, y = (point[ahead, k] + far * way[ahead, k] for k in (0, 1))
    wall = _wall(x, y, window)
    seen[ahead] = np.where((y > 0)[:, None], wall, 0.3 * np.array((0.24, 0.115, 0.048), np.float32))
    return seen


def _wall(x: Array, y: Array, window: bool) -> Array:
    """Return the light from the wall at places in metres: shelves full of books, and the window in them."""
    rng = np.random.default_rng(8)
    shape = x.shape
    row = np.floor(y / SHELF).clip(0, 15).astype(np.int64)
    height = y - row * SHELF
    widths = rng.uniform(0.05, 0.13, (16, 200))
    starts = widths.cumsum(1) - 8.0
    book, left = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for shelf in np.unique(row):
        on = row == shelf
        book[on] = np.searchsorted(starts[shelf], x[on]).clip(1, 199)
        left[on] = (x[on] - starts[shelf][book[on] - 1]) / widths[shelf][book[on]]
    tall, tone = rng.uniform(0.38, 0.53, (16, 200))[row, book], rng.integers(0, 8, (16, 200))[row, book]
    cloth = np.array(
        [(0.30, 0.05, 0.04), (0.05, 0.10, 0.20), (0.06, 0.16, 0.08), (0.42, 0.30, 0.14), (0.16, 0.10, 0.06),
         (0.50, 0.44, 0.34), (0.10, 0.05, 0.12), (0.36, 0.15, 0.05)], np.float32,
    )[tone]  # fmt: skip
    printed = (np.abs(left - 0.5) < 0.3) & (np.abs(height / tall - 0.62) < 0.2)
    words = printed & (np.sin(90 * height + 5 * tone) + np.sin(210 * height + 3 * book) > 0.2)
    band = np.abs(np.abs(height / tall - 0.5) - 0.38) < 0.012
    albedo = cloth * (0.35 + 0.65 * np.sin(np.pi * left.clip(0.01, 0.99)) ** 0.5)[..., None]
    albedo[words | band] = albedo[words | band] * 0.3 + np.array((0.45, 0.36, 0.18), np.float32) * 0.7
    albedo[height > tall] *= 0.2  # the dark above the books
    board = height > SHELF - 0.045
    albedo[board] = (0.22, 0.12, 0.06)
    glow = (
        0.03 * np.exp(-((x / 4) ** 2))
        if window
        else 0.75 * np.exp(-(((x + 1.2) / 4.5) ** 2) - ((y - 1.3) / 2.5) ** 2)
    )
    light: Array = (albedo * glow[..., None]).astype(np.float32)
    if window:
        _open(light, x, y)
    return light


def _open(light: Array, x: Array, y: Array) -> None:
    """Put the window into the wall: what lies outside, the frame around and the bars across."""
    left, right, sill, lintel = WINDOW
    frame = (x > left - 0.12) & (x < right + 0.12) & (y > sill - 0.12) & (y < lintel + 0.12)
    light[frame] = (0.045, 0.043, 0.040)
    pane = (x > left) & (x < right) & (y > sill) & (y < lintel)
    third = (right - left) / 3
    pane &= np.abs((x - left) / third - np.round((x - left) / third)) > 0.05
    pane &= np.abs(y - 1.55) > 0.04
    light[pane] = _landscape(x[pane], y[pane])


def _landscape(x: Array, y: Array) -> Array:
    """Return the light from outside: sky with clouds, hills, trees and a field, (N, 3)."""
    noise = pink_noise(np.random.default_rng(6))
    clouds = (texture(noise, x + 4, 2.2 * y, 90) * 0.6 + 0.35).clip(0, 1)[:, None]
    rise = ((y - 0.9) / 1.5).clip(0, 1)[:, None]
    blue = (
        np.array((0.42, 0.62, 0.95), np.float32) * (1 - rise)
        + np.array((0.14, 0.34, 0.80), np.float32) * rise
    )
    light = OUTSIDE * (blue * (1 - clouds) + np.array((0.95, 0.95, 0.93), np.float32) * clouds)
    for base, tall, colour, scale in (
        (1.12, 0.16, (0.20, 0.27, 0.34), 20),
        (1.00, 0.14, (0.10, 0.17, 0.12), 34),
        (0.88, 0.10, (0.16, 0.24, 0.07), 60),
    ):
        ridge = base + tall * sum(np.sin(scale * k * x / 9 + 7 * base * k) / k for k in (1, 2.3, 5, 9)) / 2
        below = y < ridge
        rough = 1 + 0.28 * texture(noise, 3 * x[below], 9 * y[below], 60)
        light[below] = 0.4 * OUTSIDE * rough.clip(0.3, 2)[:, None] * np.array(colour, np.float32)
    return light.astype(np.float32)


def _mean(image: Array) -> Array:
    """Return the means of SUPER x SUPER blocks, (H, W, C)."""
    height, width = (side // SUPER for side in image.shape[:2])
    means: Array = image.reshape(height, SUPER, width, SUPER, -1).mean((1, 3))
    return means
