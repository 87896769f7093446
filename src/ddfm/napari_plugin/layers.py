"""Fuse the arrays of layers, step by step: what the widget does, without napari and without Qt."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ddfm.errors import InputError
from ddfm.fusion.options import Options
from ddfm.fusion.pipeline import Fusion
from ddfm.fusion.sources import match_sizes
from ddfm.pictures.image import Image, from_stack
from ddfm.registration.bring import registered


class Layer(Protocol):
    """What of a napari image layer is used."""

    name: str
    data: Any
    rgb: bool


class Progress(NamedTuple):
    """Tell how many of how many steps are done."""

    done: int
    total: int


Output = NDArray[Any] | BaseException
Fusing = Generator[Progress, None, NDArray[Any]]


class Cancelled(BaseException):
    """End a fusion that nobody waits for any more."""


def fused_layers(layers: Sequence[Layer], options: Options, prior: str = "natural") -> Fusing:
    """Fuse layers; yield after every step, return the array of the fused layer.

    The fusion runs in a thread of its own. It ends at its next step when this generator is closed.

    Args:
        layers: two or more, planes or stacks of planes; stacks are fused plane by plane.
        options: as for `ddfm.fuse`.
        prior: the same.

    Returns:
        (H, W) or (H, W, 3), or the same with a first axis of planes.

    Raises:
        InputError: the layers do not go together, or cannot be fused.
    """
    scenes = scenes_of(layers)
    stop, steps = Event(), SimpleQueue[Progress | Output]()
    total = len(scenes) * max(1, options.evaluations)

    def work() -> None:
        done = 0

        def step(_: object = None) -> None:
            nonlocal done
            if stop.is_set():
                raise Cancelled
            done += 1
            steps.put(Progress(min(done, total), total))

        try:
            steps.put(_fused(scenes, options, prior, step))
        except BaseException as error:  # carried over to the thread that waits, whatever it is
            steps.put(error)

    thread = Thread(target=work, name="ddfm", daemon=True)
    thread.start()
    try:
        while isinstance(found := steps.get(), Progress):
            yield found
    finally:
        stop.set()
        thread.join()
    if isinstance(found, BaseException):
        raise found
    return found


def scenes_of(layers: Sequence[Layer]) -> list[list[Image]]:
    """Return the sources of each plane. Raises InputError if the layers do not go together."""
    if len(layers) < 2:
        raise InputError("choose two layers or more")
    sources = [_planes(layer) for layer in layers]
    if len({len(planes) for planes in sources}) > 1:
        counts = ", ".join(f"{layer.name} has {len(s)}" for layer, s in zip(layers, sources, strict=True))
        raise InputError(f"the layers need as many planes: {counts}")
    return [list(scene) for scene in zip(*sources, strict=True)]


def _planes(layer: Layer) -> list[Image]:
    """Return the pictures of a layer, of one range."""
    samples = np.asarray(layer.data)
    plane = 3 if layer.rgb else 2
    if samples.ndim not in (plane, plane + 1):
        raise InputError(f"{layer.name}: has shape {samples.shape}; a plane, or a stack of planes, is needed")
    if not layer.rgb:
        samples = samples[..., None]
    return from_stack(samples if samples.ndim == 4 else samples[None], layer.name)


def _fused(scenes: list[list[Image]], options: Options, prior: str, step: Any) -> NDArray[Any]:
    fusion, planes = Fusion(options.but(sources=len(scenes[0])), prior), []
    choice = None
    for scene in scenes:
        if options.register is not None:
            scene = registered(scene, options.register)
        scene = match_sizes(scene, options.resize)
        choice = fusion.chosen([scene]) if choice is None else choice  # one task for all planes
        (result,) = fusion.of([scene], choice, step)
        if not options.evaluations:
            step()
        planes.append(result.to_array())
    return planes[0] if len(planes) == 1 else np.stack(planes)
