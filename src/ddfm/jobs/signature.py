"""What a folder's outputs depend on besides its pictures, as one number: other options, other outputs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfm.errors import InputError, reason_of
from ddfm.formats.volumes import VolumeRange
from ddfm.fusion.options import Options
from ddfm.thermal.options import ThermalOptions

if TYPE_CHECKING:
    from ddfm.priors.lazy import PriorSource

WEIGHTS = (".json", ".yaml", ".yml", ".safetensors", ".pt", ".pth", ".bin")


def signature(
    options: Options,
    ranges: Sequence[VolumeRange],
    prior: PriorSource,
    task: str,
    thermal: ThermalOptions,
    more: Sequence[str],
) -> tuple[str, str]:
    """Return the SHA-256 of all that decides the outputs, hexadecimal, and the same for people, JSON.

    Functions and classes of the caller's go by their names: a change in their code is not seen.

    Args:
        options: as they were asked for.
        ranges: of the sources.
        prior: a name or path; what its files hold is part of the number.
        task: that was chosen for the folder.
        thermal: what only radiometric sources have.
        more: what else is made: uncertainty, reports, temperatures, metrics.
    """
    facts: dict[str, Any] = {field.name: plain(getattr(options, field.name)) for field in fields(options)}
    asked = options.evaluations > 0 or options.noise != "off"
    facts |= {"task": task, "ranges": plain(list(ranges)), "prior": about(prior) if asked else None}
    facts |= {"thermal": plain(thermal), "more": sorted(more)}
    readable = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(readable.encode()).hexdigest(), readable


def plain(value: Any) -> Any:
    """Return a value as JSON knows it; of functions and objects, the names."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in fields(value)})
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def is_weights(path: Path) -> bool:
    """Tell whether a file is part of a prior; OpenVINO's copies beside it are not."""
    return path.suffix in WEIGHTS and "openvino" not in path.parts


def about(prior: PriorSource) -> str:
    """Return what a prior is known by: the contents of its files, else its name. Raises InputError."""
    if not isinstance(prior, str | os.PathLike):
        return str(plain(prior))
    from ddfm.priors.loading import path_of

    path = path_of(prior)
    if path is None:  # on the hub, or not there: loading it says so
        return str(prior)
    whole = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if is_weights(p))
    try:
        for file in files:
            with file.open("rb") as opened:
                whole.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason_of(error)})") from error
    return whole.hexdigest()
