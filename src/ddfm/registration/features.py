"""Find the map between pictures of one camera by features that both show.

Pictures of one camera show the same corners and blobs, whatever their exposure and focus. So features are
found and matched (SIFT, Lowe, IJCV 2004), in pictures whose local contrast is made alike. The map is that of
the most matches (MAGSAC++, Barath et al., CVPR 2020). Things that move have few of them, and no say.

What is out of focus has few features, and those not quite in place. So pictures of one brightness, as those
of a focus stack, are then fitted to each other themselves (ECC, Evangelidis and Psarakis, TPAMI 2008).
"""

from __future__ import annotations

import numpy as np

from ddfm.registration.alignment import (
    ROTATIONS,
    SCALES,
    SIDES,
    Floats,
    ParametricModel,
    View,
    transformed,
)
from ddfm.registration.opencv import cv2
from ddfm.registration.orientation import Plane

MOST_FEATURES = 4000  # of each picture: the strongest
LEAST_CONTRAST = 0.005  # of a feature, an eighth of SIFT's own: what is dark or out of focus has little
CLIP, SQUARES = 3.0, (8, 8)  # of the equalised contrast: its limit, and the squares it is measured in
DISTINCT = 0.8  # distance of the best match by that of the second best, at most (Lowe's test)
LEAST_MATCHES = 12  # that agree: twice as many as affine maps need parameters
WITHIN = 1.5  # pixels from its place in which a match agrees
TRIALS, CERTAINTY = 5000, 0.999  # of the random search for the map

SAME_BRIGHTNESS = 12 / 255  # difference of means up to which pictures count as of one exposure
AROUND = 8.0  # pixels that a grey value is compared with its surroundings over
FAINT = 0.004  # of the range: contrast below which there is only noise
MOST_CONTRAST = 3.0  # standard deviations of the surroundings: beyond, a light outweighs the rest
FITS, SETTLED = 50, 1e-7  # of the fit: steps at most, and the gain of correlation that ends it
FITTED = 1.5  # pixels that a fit may move a corner by; beyond, it has gone astray


def matched(fixed: View, moving: View, model: ParametricModel) -> Floats | None:
    """Find the map that most features agree on; None if too few do, or if it is beyond what is searched."""
    (still, to_still), (mover, to_mover) = (
        view.reduced(SIDES[-1] / max(view.size)) for view in (fixed, moving)
    )
    there, here = _matches(mover, still)
    if len(here) < LEAST_MATCHES:
        return None
    search = cv2.findHomography if model == "homography" else cv2.estimateAffine2D
    matrix, agree = search(
        here,
        there,
        method=cv2.USAC_MAGSAC,
        ransacReprojThreshold=WITHIN,
        maxIters=TRIALS,
        confidence=CERTAINTY,
    )
    if matrix is None or int(np.asarray(agree).sum()) < LEAST_MATCHES:
        return None
    whole = np.vstack([np.asarray(matrix, np.float64), [0, 0, 1]])[:3]
    found = np.linalg.inv(to_mover) @ _fitted(still, mover, whole, model) @ to_still
    return found if _is_searched(found, fixed, moving) else None


def _matches(moving: View, fixed: View) -> tuple[Floats, Floats]:
    """Return the places (N, 2) of features of both views that match."""
    sift = cv2.SIFT.create(MOST_FEATURES, contrastThreshold=LEAST_CONTRAST)
    equalised = cv2.createCLAHE(CLIP, SQUARES)
    found = []
    for view in (moving, fixed):
        grey = equalised.apply(np.rint(view.grey.clip(0, 1) * 255).astype(np.uint8))
        found.append(sift.detectAndCompute(grey, view.shown.astype(np.uint8)))
    (mover_points, mover), (still_points, still) = found
    none = np.zeros((0, 2), np.float32)
    if mover is None or still is None or len(mover) < 2:
        return none, none
    pairs = cv2.BFMatcher().knnMatch(still, mover, k=2)
    good = [best for best, second in pairs if best.distance < DISTINCT * second.distance]
    there = np.array([mover_points[match.trainIdx].pt for match in good], np.float32).reshape(-1, 2)
    here = np.array([still_points[match.queryIdx].pt for match in good], np.float32).reshape(-1, 2)
    return there, here


def _is_searched(matrix: Floats, fixed: View, moving: View) -> bool:
    """Tell whether a map turns and scales no more than the search for other sensors does."""
    x, y = (b / a for a, b in zip(fixed.size, moving.size, strict=True))
    linear = matrix[:2, :2] / matrix[2, 2] / np.sqrt(x * y)
    stretches = np.linalg.svd(linear, compute_uv=False)
    turn = np.rad2deg(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    within = stretches.min() >= SCALES[0] and stretches.max() <= SCALES[-1]
    return bool(within and abs(turn) <= ROTATIONS[-1] and np.linalg.det(linear) > 0)


def _fitted(fixed: View, moving: View, matrix: Floats, model: ParametricModel) -> Floats:
    """Improve a map by the grey values, if both are of one brightness and the fit finds one near it."""
    brought = moving.warped(matrix, fixed.size)
    both = (fixed.shown * brought.shown) > 0
    if not both.any() or abs(float((brought.grey - fixed.grey)[both].mean())) > SAME_BRIGHTNESS:
        return matrix
    start = (matrix / matrix[2, 2]).astype(np.float32)
    kind, rows = (cv2.MOTION_HOMOGRAPHY, 3) if model == "homography" else (cv2.MOTION_AFFINE, 2)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, FITS, SETTLED)
    mask = moving.shown.astype(np.uint8)
    try:
        _, fit = cv2.findTransformECC(
            _contrast(fixed.grey), _contrast(moving.grey), start[:rows], kind, criteria, mask, 3
        )
    except cv2.error:  # it does not converge: the map of the features stands
        return matrix
    found = np.vstack([fit, [0, 0, 1]])[:3].astype(np.float64)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * fixed.size
    off = np.linalg.norm(transformed(found, corners) - transformed(matrix, corners), axis=1)
    return found if float(off.max()) < FITTED else matrix


def _contrast(grey: Plane) -> Plane:
    """Return a grey picture less its surroundings, in standard deviations of those."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    apart = smooth - cv2.GaussianBlur(smooth, (0, 0), AROUND)
    scatter = np.sqrt(cv2.GaussianBlur(apart * apart, (0, 0), AROUND) + FAINT**2)
    return np.asarray((apart / scatter).clip(-MOST_CONTRAST, MOST_CONTRAST), np.float32)
