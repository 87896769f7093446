"""What a machine is shown: a source, a trivial fusion, ours, or the pictures that another program left.

Fused pictures are kept in a cache. A file's name is a digest of its sources and of the code that fused them,
so a change of either is computed anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ddfm
from ddfm.benchmark.evaluation import image_files
from ddfm.benchmark.methods import RULES, SEED, as_bytes, on_luminance
from ddfm.downstream.scenes import LabelledScene, RgbPixels, as_picture, read_picture, read_sources
from ddfm.errors import InputError
from ddfm.formats.atomic import prepare_folder
from ddfm.formats.pictures import write_image
from ddfm.fusion.pipeline import fuse
from ddfm.pictures.image import Image, from_array
from ddfm.priors.base import Prior
from ddfm.priors.loading import load_prior

FusePairs = Callable[[Sequence[Image], Sequence[Image]], list[RgbPixels]]
"""Infrared and visible images, all of one size, to a picture of each pair."""

OURS = "ddfm"
NAMES = ("visible", "infrared", "mean", "max", OURS)
BATCH_PIXELS = 2**18  # in one fusion: crops are fused many at a time, a camera's picture alone
NOT_FUSING = ("downstream", "benchmark", "commands", "demo", "jobs", "metrics", "training", "video", "cli.py")


@dataclass(frozen=True)
class Input:
    """One of the things to compare.

    Attributes:
        name: of the row in tables.
        fuse: how a batch of pairs becomes pictures; None if they lie in files.
        folder: where those lie.
    """

    name: str
    fuse: FusePairs | None = None
    folder: Path | None = None


def find_inputs(names: Sequence[str], device: str = "auto") -> list[Input]:
    """Return the inputs of those names: one of `NAMES`, or NAME=FOLDER with a picture for each pair.

    Raises InputError: an unknown name, one that comes twice, a folder without pictures.
    """
    found: list[Input] = []
    for name in names:
        if "=" in name:
            name, folder = name.split("=", 1)
            made = Input(name, folder=Path(folder))
            if not Path(folder).is_dir():
                raise InputError(f"{folder}: is not a folder; input {name} should have its pictures there")
        elif name in NAMES:
            made = Input(name, _fusion(name, device))
        else:
            raise InputError(f"unknown input {name!r}: {', '.join(NAMES)}, or NAME=FOLDER of pictures")
        if not name or any(other.name == name for other in found):
            raise InputError(f"input {name!r} is named twice" if name else "an input needs a name before =")
        found.append(made)
    if not found:
        raise InputError(f"no inputs given: {', '.join(NAMES)}, or NAME=FOLDER of pictures")
    return found


def pictures(made: Input, scenes: Sequence[LabelledScene], cached: Path | None = None) -> Iterator[RgbPixels]:
    """Yield the picture of each scene; fused ones are read from the cache, or written there.

    Raises InputError: a pair without its output, an output of another size than its pair.
    """
    outputs = {} if made.folder is None else image_files(made.folder)
    for scene in scenes:
        if made.fuse is None:
            yield _read_output(made.name, outputs, scene)
            continue
        infrared, visible = read_sources(scene)
        yield from fused_pictures(made, [infrared], [visible], cached)


def fused_pictures(
    made: Input, infrared: Sequence[Image], visible: Sequence[Image], cached: Path | None = None
) -> Iterator[RgbPixels]:
    """Yield the picture of each pair of images, all of one size, in batches, by way of the cache."""
    assert made.fuse is not None
    count = max(1, BATCH_PIXELS // (infrared[0].size[0] * infrared[0].size[1]))
    for start in range(0, len(infrared), count):
        parts = infrared[start : start + count], visible[start : start + count]
        if cached is None or made.name != OURS:  # the others take less time than reading a file
            yield from made.fuse(*parts)
        else:
            yield from _by_way_of_cache(made.fuse, *parts, cached / made.name)


def _by_way_of_cache(
    fusion: FusePairs, infrared: Sequence[Image], visible: Sequence[Image], folder: Path
) -> list[RgbPixels]:
    """Return the batch from one file of the cache, its pictures below each other, or make that file."""
    path = folder / f"{_key(infrared, visible)}.png"
    if path.is_file():
        return list(np.split(read_picture(path), len(infrared)))
    made = fusion(infrared, visible)
    prepare_folder(folder)
    write_image(path, from_array(np.concatenate(made), str(path)))
    return made


def _key(infrared: Sequence[Image], visible: Sequence[Image]) -> str:
    digest = hashlib.sha256(code_fingerprint().encode())
    for image in (*infrared, *visible):
        digest.update(repr(image.pixels.shape).encode() + as_bytes(image).tobytes())
    return digest.hexdigest()[:24]


@cache
def code_fingerprint() -> str:
    """Return a checksum of all code and weights that a fused picture may depend on."""
    root = Path(ddfm.__file__).parent
    digest = hashlib.sha256()
    for path in sorted((*root.rglob("*.py"), *root.rglob("*.safetensors"))):
        if path.relative_to(root).parts[0] not in NOT_FUSING:
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _fusion(name: str, device: str) -> FusePairs:
    if name == OURS:
        return partial(_ours, cache(load_prior), device)
    if name in RULES:
        rule = partial(on_luminance, RULES[name], SEED)
        return lambda infrared, visible: [
            as_picture(rule(a, b)) for a, b in zip(infrared, visible, strict=True)
        ]
    chosen = 0 if name == "infrared" else 1
    return lambda *sources: [as_picture(image) for image in sources[chosen]]


def _ours(
    prior: Callable[[], Prior], device: str, infrared: Sequence[Image], visible: Sequence[Image]
) -> list[RgbPixels]:
    """Fuse a batch by `ddfm.fuse` at its defaults, in float32 so that machines can be compared."""
    batches = [stacked(images) for images in (infrared, visible)]
    result = fuse(*batches, prior=prior(), task="infrared", device=device, dtype="float32")
    return [as_picture(image) for image in result.images]


def stacked(images: Sequence[Image]) -> Tensor:
    """Return images of one size as uint8 (B, C, H, W)."""
    arrays = [torch.from_numpy(as_bytes(image)).movedim(-1, 0) for image in images]
    channels = max(len(array) for array in arrays)
    return torch.stack([array.expand(channels, -1, -1) for array in arrays])


def _read_output(name: str, outputs: Mapping[str, Path], scene: LabelledScene) -> RgbPixels:
    path = outputs.get(scene.stem)
    if path is None:
        raise InputError(f"{name}: has no picture called {scene.stem}; each pair needs its own")
    picture = read_picture(path)
    _, visible = read_sources(scene)
    if picture.shape[:2] != visible.size:
        raise InputError(f"{path}: is {picture.shape[1]}x{picture.shape[0]} pixels, unlike {scene.visible}")
    return picture
