"""Frames as planes of luma and chroma: upright, in one matrix, one range."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NEUTRAL = 2.5 / 112  # chroma (of 1) up to which a picture is grey
HIGH = 576  # rows above which a video that does not tell its matrix is BT.709, else BT.601
STUDIO, FULL = 1, 2  # ranges of samples: 16 to 235, 0 to 255
RGB, BT709, UNSPECIFIED, BT601 = 0, 1, 2, 6  # matrices by their number in ITU-T H.273 ...
RED_AND_BLUE = {1: (0.2126, 0.0722), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # ... and what luma has of them
RED_AND_BLUE_BT601 = (0.299, 0.114)


class Frame(NamedTuple):
    """A decoded frame.

    Attributes:
        time: seconds from the start of its file.
        pts: the same in the stream's units, from wherever those count.
        video: PyAV's frame.
        group: how many keyframes that others depend on came before or with it.
    """

    time: float
    pts: int
    video: Any
    group: int = 0


class Orientation(NamedTuple):
    """Hold the steps that make a stored frame upright: a transposition, then mirror images."""

    transposed: bool
    left_right: bool
    up_down: bool

    def apply(self, plane: Tensor) -> Tensor:
        """Make a plane upright."""
        plane = plane.mT if self.transposed else plane
        sides = [side for side, mirrored in ((-1, self.left_right), (-2, self.up_down)) if mirrored]
        return plane.flip(sides) if sides else plane


UPRIGHT = Orientation(False, False, False)


def orientation(video: Any) -> Orientation:
    """Read the orientation from the display matrix: x' = a x + c y, y' = b x + d y (ISO 14496-12, 6.2.2)."""
    matrix = video.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)


class Planes(NamedTuple):
    """A frame: luma (1, 1, H, W) in [-1, 1]; chroma, Cb and Cr, (1, 2, h, w) in [-1, 1], None if grey.

    ``group`` is that of the `Frame`.
    """

    luma: Tensor
    chroma: Tensor | None
    group: int = 0


def read_planes(frame: Frame, size: tuple[int, int], matrix: int, device: torch.device) -> Planes:
    """Read a frame as upright planes on a device.

    Args:
        frame: decoded, in any format.
        size: height and width of the leading video. Chroma gets half the resolution if both are even.
        matrix: of the leading video; all colours are brought into it.
        device: where the planes are wanted.
    """
    video = frame.video
    name = video.format.name
    if name.startswith(("gray", "mono", "ya")):
        full = video.color_range != STUDIO
        video = video if name == "gray" else video.reformat(format="gray")
    else:
        video, full = planar(video, size, matrix)
    turn = orientation(frame.video)
    luma, *chroma = (turn.apply(plane.to(device).float()) for plane in samples(video))
    luma = luma / 127.5 - 1 if full else (luma - 16) / 109.5 - 1
    if not chroma:
        return Planes(luma[None, None], None, frame.group)
    return Planes(luma[None, None], (torch.stack(chroma)[None] - 128) / (127.5 if full else 112), frame.group)


def planar(video: Any, size: tuple[int, int], matrix: int) -> tuple[Any, bool]:
    """Return a colour frame in 8-bit planes of a matrix, and whether they have the full range."""
    name = video.format.name
    full = name.startswith("yuvj") or video.color_range == FULL
    wanted = "yuv420p" if is_even(size) else "yuv444p"
    rgb = video.format.is_rgb or name == "pal8"
    own = matrix if video.colorspace == UNSPECIFIED else video.colorspace
    if not rgb and own == matrix and name.replace("yuvj", "yuv") == wanted:
        return video, full
    planes = video.reformat(
        format=wanted,
        src_colorspace=None if rgb else scaler_matrix(own),
        dst_colorspace=scaler_matrix(matrix),
        src_color_range="JPEG" if rgb or full else "MPEG",
        dst_color_range="JPEG" if full and not rgb else "MPEG",
    )
    return planes, full and not rgb


def samples(video: Any) -> list[Tensor]:
    """Return the planes of an 8-bit planar frame, uint8, without a copy: they live as long as the frame."""
    return [torch.from_numpy(plane_array(plane)) for plane in video.planes]


def plane_array(plane: Any) -> NDArray[np.uint8]:
    """Return a plane's samples, (H, W), without a copy."""
    rows = np.frombuffer(plane, np.uint8, plane.height * plane.line_size)
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]


def matrix_of(video: Any, size: tuple[int, int]) -> int:
    """Return the matrix of the frame's YUV; for RGB and where unknown, the one that players assume."""
    if video.colorspace in (RGB, UNSPECIFIED):
        return BT709 if size[0] > HIGH else BT601
    return int(video.colorspace)


def scaler_matrix(matrix: int) -> str:
    """Return the scaler's name for a matrix, or that of the closest one it knows."""
    return {BT709: "ITU709", 4: "FCC", 7: "SMPTE240M", 9: "ITU709"}.get(matrix, "ITU601")


def is_even(size: tuple[int, int]) -> bool:
    """Tell whether height and width are even."""
    return size[0] % 2 == 0 and size[1] % 2 == 0


def is_coloured(chroma: Tensor) -> bool:
    """Tell whether chroma has any colour."""
    return bool(chroma.abs().amax() > NEUTRAL)
