"""OpenCV, or a plain line that says how to get it: all of this folder imports it from here."""

from __future__ import annotations

from ddfm.errors import InputError

try:
    import cv2
except ImportError as missing:
    raise InputError("registration needs OpenCV: pip install 'ddfm[register]'") from missing

__all__ = ["cv2"]
