"""The models of registration by name; imports nothing."""

from __future__ import annotations

from typing import Literal, get_args

Registering = Literal["affine", "homography", "dense"]
REGISTRATIONS = get_args(Registering)
