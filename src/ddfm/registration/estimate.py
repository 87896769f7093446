"""Registration: a source of another size, view or camera is brought onto another one.

    registration = register(thermal, visible, "affine")
    registration.check("thermal.png", "visible.png")  # InputError if it is doubtful
    aligned = registration.warp(thermal, visible)

`alignment` finds the alignment, and `orientation` says what it compares. docs/use/registration.md has
measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.pictures.colour import WEIGHTS
from ddfm.pictures.holes import with_stand_in
from ddfm.registration.alignment import (
    SIDES,
    Floats,
    ParametricModel,
    View,
    align,
    bend,
    enlarging,
    positions,
    pulled,
    remapped,
    shrunk,
    spacing,
    transformed,
)
from ddfm.registration.features import matched
from ddfm.registration.models import REGISTRATIONS, Registering
from ddfm.registration.opencv import cv2
from ddfm.registration.orientation import Plane, displaced_agreement

Pixels = NDArray[np.float32]
LEAST_CONFIDENCE = 0.15
JUDGED_SIDE, JUDGED_CELL, JUDGED_REACH = SIDES[0], 16, 12
NEIGHBOURHOOD = 1.0  # cells, of the Gaussian in which votes are counted together
IN_PLACE = 2.5  # pixels from the alignment within which a vote is for it
CONFIRMED = 2  # parameters that one neighbourhood's vote can satisfy by itself: a shift has two
CELLS_A_VOTE = 4 * np.pi * NEIGHBOURHOOD**2  # a Gaussian averages as many as 4 pi sigma^2
FRAME_BORDER = 5  # pixels, side of the square by which a frame is widened: warping mixed what lies next to it
SHOWN_BORDER = 3  # pixels, side of the square by which what is shown is narrowed: interpolation mixes there
PARAMETERS = {"affine": 6, "homography": 8}
LARGEST = 32767  # pixels of a side, by OpenCV


@dataclass(frozen=True)
class Registration:
    """Map each pixel of the fixed picture to the moving one.

    Attributes:
        flow: (H, W, 2) float32, (x, y) in pixels: what the fixed picture shows at (x, y), the moving one
            shows at (x, y) + flow[y, x].
        model: ``"affine"``, ``"homography"`` or ``"dense"``.
        matrix: the affine map or homography, from pixel coordinates (x, y, 1) of the fixed picture to those
            of the moving one; for the model dense, the affine map that the bending started from.
        confidence: within [0, 1], a share of the fixed picture, beyond what the model's parameters can force.
            Its neighbourhoods ask, each of itself, for this alignment rather than for another one near it.
        shown: (H, W) bool, what of the fixed picture the moving one covers.
    """

    flow: NDArray[np.float32]
    model: Registering
    matrix: Floats
    confidence: float
    shown: NDArray[np.bool_]

    @property
    def inside(self) -> float:
        """Return the share of the fixed picture that the moving one covers."""
        return float(self.shown.mean())

    def check(self, moving: str, fixed: str, least: float = LEAST_CONFIDENCE) -> None:
        """Raise InputError, naming the two sources, if the confidence is below ``least``."""
        if self.confidence >= least:
            return
        other = "affine" if self.model == "homography" else "homography"
        raise InputError(
            f"{moving} does not register with {fixed}: confidence {self.confidence:.2f}, needed {least:.2f}; "
            f"make sure that both show the same scene, turned by less than 20 degrees, "
            f"try --register {other}, or align them by hand"
        )

    def warp(self, pixels: Pixels, fixed: Pixels) -> Pixels:
        """Warp the moving picture onto the fixed one, (H, W, C) in [0, 1]; Lanczos, with antialiasing.

        Where it shows nothing, the fixed picture stands in, at the brightness that the moving one has nearby.
        So fusion takes no frame for content.

        Args:
            pixels: the moving picture as it was registered, (H', W', C) in [0, 1].
            fixed: the fixed picture, (H, W, 1 or 3) in [0, 1].
        """
        moved = sampled(pixels, all_positions(fixed) + self.flow)
        if self.shown.all():
            return moved
        other = fixed if fixed.shape[2] == moved.shape[2] else grey_of(fixed)[..., None]
        return _completed(moved, np.broadcast_to(other, moved.shape), self.shown)


def register(
    moving: Pixels, fixed: Pixels, model: Registering = "affine", one_camera: bool = False
) -> Registration:
    """Find where each pixel of ``fixed`` lies in ``moving``, for any sensors, sizes and aspects.

    Same inputs, same result. `Registration.check` says whether it can be trusted.

    Args:
        moving: (H', W', 1 or 3) in [0, 1].
        fixed: (H, W, 1 or 3) in [0, 1].
        model: ``"affine"``, ``"homography"`` or ``"dense"``. A homography has eight parameters, for a plane
            or a far scene. A dense one is an affine map and a smooth field on top, for lenses and parallax.
        one_camera: whether both come from one camera, as exposures and focus stacks do. Then features are
            matched, which is exact to fractions of a pixel; what has too few is aligned as any sensors.

    Raises:
        InputError: an unknown model, or a side of more than 32767 pixels.
    """
    if model not in REGISTRATIONS:
        raise InputError(f"register {model!r}: not one of {', '.join(REGISTRATIONS)}")
    if max(*moving.shape[:2], *fixed.shape[:2]) > LARGEST:
        raise InputError(f"register: sources of more than {LARGEST} pixels a side are not supported")
    still, mover = _view(fixed), _view(moving)
    kind: ParametricModel = "homography" if model == "homography" else "affine"
    best, confidence = _aligned(still, mover, kind, one_camera)
    matrix = resizing(moving, fixed) if best is None else best
    here = all_positions(fixed)
    bent = here + bend(still, mover, matrix) if model == "dense" and best is not None else here
    at = transformed(matrix, bent)
    shown = cv2.erode(pulled(mover, at).shown, np.ones((SHOWN_BORDER, SHOWN_BORDER), np.uint8)) > 0
    return Registration((at - here).astype(np.float32), model, matrix, confidence, shown)


def _aligned(
    fixed: View, moving: View, model: ParametricModel, one_camera: bool
) -> tuple[Floats | None, float]:
    """Return the map by features if they are of one camera and it can be trusted, else by orientations."""
    by_features = matched(fixed, moving, model) if one_camera else None
    if by_features is not None:
        confidence = _confidence(fixed, moving, by_features, PARAMETERS[model])
        if confidence >= LEAST_CONFIDENCE:
            return by_features, confidence
    best = align(fixed, moving, model)
    return best, 0.0 if best is None else _confidence(fixed, moving, best, PARAMETERS[model])


def all_positions(pixels: Pixels) -> NDArray[np.float32]:
    """Return the coordinates (x, y) of a picture's pixels, (H, W, 2)."""
    return positions((pixels.shape[1], pixels.shape[0]))


def grey_of(pixels: Pixels) -> Plane:
    """Return a picture's luminance, (H, W)."""
    grey = pixels[..., 0] if pixels.shape[2] == 1 else pixels @ np.array(WEIGHTS, np.float32)
    return np.ascontiguousarray(grey, np.float32)


def _view(pixels: Pixels) -> View:
    """Return a view without its black frame: exact zeros that touch the border show nothing."""
    black = (pixels == 0).all(2).astype(np.uint8)
    _, labels = cv2.connectedComponents(black, connectivity=4)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    frame = np.isin(labels, border[border > 0]).astype(np.uint8)
    widened = cv2.dilate(frame, np.ones((FRAME_BORDER, FRAME_BORDER), np.uint8))
    return View(grey_of(pixels), 1 - widened.astype(np.float32))


def resizing(moving: Pixels, fixed: Pixels) -> Floats:
    """Return the map of a picture that merely has another size."""
    height, width = (a / b for a, b in zip(moving.shape[:2], fixed.shape[:2], strict=True))
    return enlarging(width, height)


def _confidence(fixed: View, moving: View, matrix: Floats, parameters: int) -> float:
    """Return the share of neighbourhoods whose own best displacement is next to none.

    All of them count, since a few that happen to overlap agree easily. But the map's parameters can satisfy
    some votes whatever the pictures show, two parameters a vote. So many are subtracted. The map is that
    before any bending, which could make anything agree a little.
    """
    small, to_small = fixed.reduced(JUDGED_SIDE / max(fixed.size))
    warped = moving.warped(matrix @ np.linalg.inv(to_small), small.size)
    table = displaced_agreement(small.field(), warped.field(), JUDGED_REACH, JUDGED_CELL)
    side, _, rows, columns = table.shape
    cells = table.reshape(side * side, rows, columns)
    votes = np.stack([cv2.GaussianBlur(cell, (0, 0), NEIGHBOURHOOD) for cell in cells])
    best = votes.argmax(0)
    distance = np.hypot(best // side - JUDGED_REACH, best % side - JUDGED_REACH)
    in_place = int(((distance <= IN_PLACE) & (votes.max(0) > 0)).sum())
    free = parameters / CONFIRMED * CELLS_A_VOTE  # cells that agree whatever the pictures show
    return max(0.0, float(in_place - free)) / max(rows * columns - free, free)


def sampled(pixels: Pixels, at: Floats) -> Pixels:
    """Sample ``pixels`` at positions (H, W, 2), the border repeated; a much larger one is shrunk first."""
    factor = 1 / spacing(at)
    if factor < 1:
        height, width = pixels.shape[:2]
        size = max(1, round(width * factor)), max(1, round(height * factor))
        pixels = shrunk(pixels, size)
        at = (at + 0.5) * (np.array(size) / (width, height)) - 0.5
    moved = remapped(pixels, at, cv2.INTER_LANCZOS4)
    return np.clip(moved.reshape(*at.shape[:2], -1), 0, 1)


def _completed(moved: Pixels, other: Pixels, shown: NDArray[np.bool_]) -> Pixels:
    """Fill in ``other`` where nothing is shown, at the brightness of ``moved`` nearby."""
    own, fixed = (torch.from_numpy(np.array(x)).movedim(-1, 0)[None] for x in (moved, other))
    known = torch.from_numpy(shown.astype(np.float32))[None, None]
    return with_stand_in(own, known, fixed)[0].movedim(0, -1).clamp(0, 1).contiguous().numpy()
