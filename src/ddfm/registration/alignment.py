"""Finding the map that brings one picture onto another, coarse to fine.

1. `search`: every rotation, scale and shift within wide bounds, by correlation of small pictures.
2. `refine`: the affine map or homography with the best agreement, at growing resolution.
3. `bend`: a smooth field on top, cubic B-splines with a bending penalty.

What is maximised is the agreement of orientations (`orientation`). Steps 2 and 3 first table it in cells for
every small displacement, and then climb in that table (`climb`). So the parts of a picture vote for
displacements, and the map follows most votes.

A map is a 3x3 matrix from the pixel coordinates (x, y, 1) of the fixed picture to those of the moving one;
the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddfm.registration.opencv import cv2
from ddfm.registration.orientation import Field, Plane, displaced_agreement, orientation

Floats = NDArray[np.floating[Any]]
ParametricModel = Literal["affine", "homography"]

SEARCH_SIDE = 192  # longer side of the fixed picture in the search, in pixels
ROTATIONS = np.arange(-20, 21, 5)  # degrees
SCALES = 1.12 ** np.arange(-3, 4)  # beside that at which both pictures cover the same area
LEAST_OVERLAP = 0.4  # of the smaller picture
# Agreement is divided by what chance gives. Overlaps with next to no edges would win by rounding errors:
# those whose chance is below this share of the largest, or below this power.
LEAST_CHANCE, LEAST_POWER = 1e-3, 1e-6
CHANCE = 0.5  # variance of the agreement of independent orientations, in units of their power
PEAKS = 2  # shifts of each rotation and scale that are kept: the best one need not be right
PEAK_REACH = 3  # pixels around a peak that belong to it
SEARCH_REACH, SEARCH_CELL = 8, 8  # REACH and CELL in the search's small pictures
CANDIDATES = 4  # alignments of the search that are refined
ALIKE = 0.02  # aspect ratios that differ by less are the same

SIDES = (384, 768, 1536)  # longer sides at which maps are refined
REACH = (6, 5, 5)  # pixels that the map may be off at each of them
CELL = 16  # pixels, side of the squares that vote for a displacement
BEND_REACH = (6, 4, 4)  # likewise of the bend
BEND_CELLS = (8, 8, 16)
KNOTS = (32, 32, 64)  # pixels between the knots of the splines
STIFFNESS = 0.03  # units of agreement for the square of a bend of one pixel from knot to knot
TO_REST = 0.001  # likewise for a displacement, which settles what nothing is seen of

REFINEMENTS = 2  # times that a map is improved at each resolution: displacements are tabled anew
SETTLED = 0.2  # pixels: a correction by less needs no further one
WIDE_BLUR, NARROW_BLUR = 1 / 8, 1.0  # of the table: a share of its side to see far hills, then pixels
BEND_BLURS = (1.5, 0.8)  # pixels
WHOLLY_SHOWN = 0.99  # mean of the mask from which on a pixel of the reduced picture counts as shown

CLIMBS = 30  # steps uphill at most
STRIDES = (8, 4, 2, 1, 0.5, 0.25, 0.1)  # lengths that are tried, in units of the Newton-like step
LEAST_GAIN = 1e-5  # of the objective, below which the climb ends
DAMPING, LEAST_DAMPING = 1e-6, 1e-12  # of the mean curvature, and at least: it must be invertible
INSIDE = 1e-6  # pixels by which positions stay below the table's last entry, so that one follows
LEAST_SPACING = 1e-3  # pixels between neighbouring positions; a map that folds has less

INVERSE = cv2.WARP_INVERSE_MAP


@dataclass(frozen=True)
class View:
    """A grey picture (H, W) in [0, 1], and 1 where it is shown, 0 where there is nothing, (H, W)."""

    grey: Plane
    shown: Plane

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height, in OpenCV's order."""
        return self.grey.shape[1], self.grey.shape[0]

    def reduced(self, factor: float) -> tuple[View, Floats]:
        """Return a smaller view and the matrix to its pixels; the view itself for a factor of 1 and more."""
        if factor >= 1:
            return self, np.eye(3)
        width, height = (max(1, round(side * factor)) for side in self.size)
        grey, shown = shrunk(self.grey, (width, height)), shrunk(self.shown, (width, height))
        return View(grey, (shown > WHOLLY_SHOWN).astype(np.float32)), enlarging(
            width / self.size[0], height / self.size[1]
        )

    def warped(self, to_this: Floats, size: tuple[int, int]) -> View:
        """Return the view of ``size`` (width, height) whose pixels the matrix takes to this one's."""
        view, to_view = self.reduced(1 / np.sqrt(abs(np.linalg.det(to_this[:2, :2]))))
        matrix = to_view @ to_this
        grey = cv2.warpPerspective(
            view.grey, matrix, size, flags=cv2.INTER_LINEAR | INVERSE, borderMode=cv2.BORDER_REPLICATE
        )
        shown = cv2.warpPerspective(view.shown, matrix, size, flags=cv2.INTER_NEAREST | INVERSE)
        return View(np.asarray(grey, np.float32), np.asarray(shown, np.float32))

    def field(self) -> Field:
        """Return the view's orientation field."""
        return orientation(self.grey, self.shown)


def enlarging(x: float, y: float) -> Floats:
    """Return the matrix from a picture's pixels to those of it enlarged, which keeps its outer borders."""
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def transformed(matrix: Floats, points: Floats) -> Floats:
    """Map points (..., 2)."""
    result = points @ matrix[:, :2].T + matrix[:, 2]
    return result[..., :2] / result[..., 2:]


def align(fixed: View, moving: View, model: ParametricModel) -> Floats | None:
    """Find the map of the best agreement; None if there is nothing to compare."""
    candidates = search(fixed, moving)
    if not candidates:
        return None
    refined = [
        refine(fixed, moving, matrix, "affine", SEARCH_SIDE, SEARCH_REACH, SEARCH_CELL)
        for matrix in candidates
    ]
    matrix, _ = max(refined, key=lambda result: result[1])
    for side, reach in zip(SIDES, REACH, strict=True):
        matrix, _ = refine(fixed, moving, matrix, model, side, reach, CELL)
        if side >= max(fixed.size):
            break
    return matrix


def search(fixed: View, moving: View) -> list[Floats]:
    """Find the most promising maps, best first, by correlation of small pictures over all shifts."""
    small, to_small = fixed.reduced(SEARCH_SIDE / max(fixed.size))
    width, height = small.size
    side = cv2.getOptimalDFTSize(2 * max(width, height))
    area, power, spectrum = _spectra(small, side)
    candidates: list[tuple[float, Floats]] = []
    for base in _same_area(small, moving):
        for scale in SCALES:
            for degrees in ROTATIONS:
                turn = _turn(float(scale), float(degrees)) @ base
                corners = _corners(moving.size) @ turn.T
                low, high = corners.min(0), corners.max(0)
                canvas = tuple(int(length) for length in np.ceil(high - low))
                if max(canvas) > side:
                    continue
                to_canvas = np.eye(3)
                to_canvas[:2, :2], to_canvas[:2, 2] = turn, -low - 0.5
                from_canvas = np.linalg.inv(to_canvas)
                turned = moving.warped(from_canvas, (canvas[0], canvas[1]))
                other_area, other_power, other_spectrum = _spectra(turned, side)
                overlap = np.fft.irfft2(area * other_area.conj(), (side, side))
                chance = np.fft.irfft2(power * other_power.conj(), (side, side))
                agreement = np.fft.ifft2(spectrum * other_spectrum.conj()).real
                least = LEAST_OVERLAP * min(float(small.shown.sum()), float(turned.shown.sum()))
                usable = (overlap > least) & (chance > max(LEAST_CHANCE * float(chance.max()), LEAST_POWER))
                score = np.where(usable, agreement / np.sqrt(CHANCE * np.where(usable, chance, 1)), -np.inf)
                for _ in range(PEAKS):
                    row, column = np.unravel_index(int(score.argmax()), score.shape)
                    if score[row, column] == -np.inf:
                        break
                    shift = np.eye(3)
                    shift[0, 2] = column - (column >= width) * side
                    shift[1, 2] = row - (row >= height) * side
                    matrix = from_canvas @ np.linalg.inv(shift) @ to_small
                    candidates.append((float(score[row, column]), matrix))
                    rows, columns = (
                        np.arange(at - PEAK_REACH, at + PEAK_REACH + 1) % side for at in (row, column)
                    )
                    score[np.ix_(rows, columns)] = -np.inf
    candidates.sort(key=lambda candidate: -candidate[0])
    return [matrix for _, matrix in candidates[:CANDIDATES]]


def _spectra(view: View, side: int) -> tuple[NDArray[np.complexfloating], ...]:
    """Return Fourier transforms of mask, field power and field, padded to ``side``."""
    z = view.field()
    shape = (side, side)
    return (
        np.fft.rfft2(view.shown, shape),
        np.fft.rfft2((z * z).sum(2), shape),
        np.fft.fft2(z[..., 0] + 1j * z[..., 1], shape),
    )


def _corners(size: tuple[int, int]) -> Floats:
    width, height = size
    return np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5


def _turn(scale: float, degrees: float) -> Floats:
    cosine, sine = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _same_area(fixed: View, moving: View) -> list[Floats]:
    """Return 2x2 scalings of ``moving`` to the area of ``fixed``; for other aspects, one that stretches."""
    x, y = (a / b for a, b in zip(fixed.size, moving.size, strict=True))
    uniform = np.sqrt(x * y) * np.eye(2)
    return [uniform] if abs(np.log(x / y)) < ALIKE else [uniform, np.diag([x, y])]


def refine(
    fixed: View, moving: View, matrix: Floats, model: ParametricModel, side: int, reach: int, cell: int
) -> tuple[Floats, float]:
    """Improve ``matrix`` at a resolution; returns the map and its agreement."""
    small, to_small = fixed.reduced(side / max(fixed.size))
    current, agreement = matrix @ np.linalg.inv(to_small), 0.0
    z = small.field()
    for _ in range(REFINEMENTS):
        table = displaced_agreement(z, moving.warped(current, small.size).field(), reach, cell)
        unit = np.hypot(*small.size) / 2
        centre = (np.array(small.size) - 1) / 2
        basis = _basis((_cell_centres(table, cell) - centre) / unit, model)
        parameters: Floats = np.zeros(basis.shape[2])
        table = table.reshape(*table.shape[:2], -1)
        for blur in (table.shape[0] * WIDE_BLUR, NARROW_BLUR):
            parameters = climb(table, blur, basis, parameters, np.zeros((parameters.size, parameters.size)))
        agreement = float(looked_up(table, basis @ parameters).sum())
        to_unit = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, unit]]) / unit
        current = current @ np.linalg.inv(to_unit) @ _step(parameters / unit) @ to_unit
        if np.abs(parameters).max() < SETTLED:
            break
    return current @ to_small, agreement


def _cell_centres(table: NDArray[np.float32], cell: int) -> Floats:
    rows, columns = table.shape[2:]
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    return (np.stack([x.ravel(), y.ravel()], -1) + 0.5) * cell - 0.5


def _basis(points: Floats, model: ParametricModel) -> Floats:
    """Return the derivatives of the displacements at (N, 2) points to the parameters, (N, 2, P)."""
    x, y = points.T
    one, none = np.ones_like(x), np.zeros_like(x)
    u, v = [x, y, one, none, none, none], [none, none, none, x, y, one]
    if model == "homography":
        u, v = [*u, x * x, x * y], [*v, x * y, y * y]
    return np.stack([np.stack(u, -1), np.stack(v, -1)], 1)


def _step(parameters: Floats) -> Floats:
    """Return the matrix whose displacements, for small parameters, are those of `_basis`."""
    matrix = np.eye(3)
    matrix[:2] += parameters[:6].reshape(2, 3)
    matrix[2, :2] -= parameters[6:] if parameters.size > 6 else 0
    return matrix


def climb(
    table: NDArray[np.float32], blur: float, basis: Floats, parameters: Floats, penalty: Floats
) -> Floats:
    """Maximise sum_n table(n, (basis p)_n) - p^T penalty p / 2 over parameters p, uphill from those given.

    Steps along the preconditioned gradient, of the best of several lengths, until none gains anything.

    Args:
        table: agreement (S, S, N) of N cells at the displacements -R .. R, S = 2 R + 1: y first, then x.
        blur: pixels by which the table is blurred over the displacements first; the more, the farther
            a hill is seen.
        basis: (N, 2, P), or (N, P) for parameters (P, 2), where x and y share it.
        parameters: (P,) or (P, 2).
        penalty: (P, P).
    """
    table = _blurred(table, blur)
    x_slope, y_slope = np.gradient(table, axis=1), np.gradient(table, axis=0)
    weight = np.ptp(table.reshape(-1, table.shape[2]), axis=0).astype(np.float64) / blur**2
    shared = basis.ndim == 2
    flat = basis if shared else basis.reshape(-1, basis.shape[2])
    weights = weight if shared else np.repeat(weight, 2)
    curvature = flat.T @ (weights[:, None] * flat) + penalty
    floor = DAMPING * float(np.trace(curvature)) / len(curvature) + LEAST_DAMPING
    inverse = np.linalg.inv(curvature + floor * np.eye(len(curvature)))

    def objective(p: Floats) -> float:
        return float(looked_up(table, basis @ p).sum() - 0.5 * (p * (penalty @ p)).sum())

    best = objective(parameters)
    for _ in range(CLIMBS):
        at = basis @ parameters
        slopes = np.stack([looked_up(x_slope, at), looked_up(y_slope, at)], -1)
        uphill = flat.T @ (slopes if shared else slopes.ravel()) - penalty @ parameters
        step = inverse @ uphill
        reached, length = max((objective(parameters + t * step), t) for t in STRIDES)
        if reached <= best + LEAST_GAIN * abs(best):
            break
        best, parameters = reached, parameters + length * step
    return parameters


def looked_up(table: NDArray[np.float32], displacements: Floats) -> Floats:
    """Look up a table (S, S, N) at N displacements (x, y), bilinear; those beyond it count at its border."""
    size = table.shape[0]
    position = np.clip(displacements + size // 2, 0, size - 1 - INSIDE)
    corner = position.astype(np.intp)
    (x, y), (right, down) = corner.T, (position - corner).T
    n = np.arange(table.shape[2])
    upper = (1 - right) * table[y, x, n] + right * table[y, x + 1, n]
    lower = (1 - right) * table[y + 1, x, n] + right * table[y + 1, x + 1, n]
    return (1 - down) * upper + down * lower


def _blurred(table: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur by a Gaussian over the displacements; beyond the table there is nothing."""
    at = np.arange(table.shape[0])
    kernel = np.exp(-0.5 * ((at[:, None] - at) / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    return np.einsum("ab,cd,bdn->acn", kernel, kernel, table, optimize=True).astype(np.float32)


def bend(fixed: View, moving: View, matrix: Floats) -> NDArray[np.float32]:
    """Find displacements d (H, W, 2) in the fixed picture: the moving one fits best at matrix(x + d(x))."""
    width, height = fixed.size
    here = positions(fixed.size)
    total = np.zeros((height, width, 2), np.float32)
    for side, reach, cell, between in zip(SIDES, BEND_REACH, BEND_CELLS, KNOTS, strict=True):
        small, _ = fixed.reduced(side / max(fixed.size))
        bent = pulled(moving, transformed(matrix, here + total))
        z = bent.reduced(side / max(fixed.size))[0].field()
        table = displaced_agreement(small.field(), z, reach, cell)
        rows, columns = table.shape[2:]
        knots = [max(1, round(length / between)) for length in small.size]
        x, y = (
            _splines((np.arange(cells) + 0.5) * cell / length * count, count)
            for cells, length, count in zip((columns, rows), small.size, knots, strict=True)
        )
        basis = np.einsum("ia,jb->ijab", y, x).reshape(rows * columns, -1)
        coefficients = np.zeros((basis.shape[1], 2))
        table = table.reshape(*table.shape[:2], -1)
        for blur in BEND_BLURS:
            coefficients = climb(table, blur, basis, coefficients, _stiffness(knots[0] + 3, knots[1] + 3))
        x, y = (
            _splines((np.arange(length) + 0.5) / length * count, count)
            for length, count in zip((width, height), knots, strict=True)
        )
        grids = coefficients.T.reshape(2, knots[1] + 3, knots[0] + 3)
        field = np.dstack([y @ grid @ x.T for grid in grids]) * np.array([width, height]) / small.size
        step = field.astype(np.float32)
        total = step + remapped(total, here + step, cv2.INTER_LINEAR)
        if side >= max(fixed.size):
            break
    return total


def positions(size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the coordinates (x, y) of all pixels, (H, W, 2)."""
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
    return np.dstack([x, y])


def pulled(view: View, at: Floats) -> View:
    """Return the view whose pixels lie at the positions (H, W, 2) in this one."""
    view, to_view = view.reduced(1 / spacing(at))
    at = transformed(to_view, at)
    nothing = cv2.BORDER_CONSTANT
    return View(
        remapped(view.grey, at, cv2.INTER_LINEAR), remapped(view.shown, at, cv2.INTER_NEAREST, nothing)
    )


def remapped(
    pixels: Plane, at: Floats, interpolation: int, border: int = cv2.BORDER_REPLICATE
) -> NDArray[np.float32]:
    """Return ``pixels``, (H', W') or (H', W', C), at the positions (H, W, 2)."""
    x, y = (np.ascontiguousarray(at[..., k], np.float32) for k in (0, 1))
    return np.asarray(cv2.remap(pixels, x, y, interpolation, borderMode=border), np.float32)


def shrunk(pixels: Plane, size: tuple[int, int]) -> NDArray[np.float32]:
    """Shrink ``pixels`` to a smaller (width, height), averaged over areas."""
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)


def spacing(at: Floats) -> float:
    """Return the mean distance between neighbouring positions, in pixels of the other picture."""
    if min(at.shape[:2]) < 2:
        return 1.0
    across = (at[0, -1] - at[0, 0]) / (at.shape[1] - 1), (at[-1, -1] - at[-1, 0]) / (at.shape[1] - 1)
    down = (at[-1, 0] - at[0, 0]) / (at.shape[0] - 1), (at[-1, -1] - at[0, -1]) / (at.shape[0] - 1)
    (a, b), (c, d) = np.mean(across, 0), np.mean(down, 0)
    return max(float(np.sqrt(abs(a * d - b * c))), LEAST_SPACING)


def _splines(at: Floats, intervals: int) -> Floats:
    """Return uniform cubic B-splines at positions within [0, intervals], (N, intervals + 3)."""
    knot = np.minimum(at.astype(np.intp), intervals - 1)
    t = at - knot
    pieces = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    values = np.zeros((at.size, intervals + 3))
    for k, piece in enumerate(pieces):
        values[np.arange(at.size), knot + k] = piece / 6
    return values


def _stiffness(columns: int, rows: int) -> Floats:
    """Return the penalty matrix: squared second differences of coefficients, and some of their squares."""

    def squared(count: int, order: int) -> Floats:
        difference = np.diff(np.eye(count), order, axis=0)
        return difference.T @ difference

    bending = np.kron(np.eye(rows), squared(columns, 2)) + np.kron(squared(rows, 2), np.eye(columns))
    bending += 2 * np.kron(squared(rows, 1), squared(columns, 1))
    return STIFFNESS * bending + TO_REST * np.eye(len(bending))
