"""Options that several commands have, and what is made of their texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddfm.commands.importing import importing
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.formats.volumes import VolumeRange
    from ddfm.fusion.options import Noise
    from ddfm.priors.diffusion import Prior

BackendOption = Annotated[str, typer.Option(help="What evaluates the network: torch or openvino.")]
DtypeOption = Annotated[
    str, typer.Option(help="Of the network: float32, bfloat16, float16 or auto (what the device is fast at).")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")]
PriorOption = Annotated[str, typer.Option(help="Name, folder, .safetensors, .pt or hub id; see ddfm priors.")]
TaskOption = Annotated[
    str, typer.Option(help="What the sources are: auto, infrared, medical, exposure or focus.")
]
RangeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--range",
        metavar="[N:]LOW,HIGH|data|window",
        help="Values that stand for black and white: two numbers, data (smallest to largest) or window "
        "(of a volume's display); of source number N, or of all. Repeatable.",
        show_default="what the file says",
    ),
]


def parse_ranges(texts: Sequence[str], sources: int) -> list[VolumeRange]:
    """The range asked for of each source; None where none is. Raises InputError."""
    with importing():
        from ddfm.pictures.ranges import check_range

    chosen: list[VolumeRange] = [None] * sources
    for text in texts:
        number, _, wanted = text.rpartition(":")
        if number and not (number.isdecimal() and 1 <= int(number) <= sources):
            raise InputError(f"--range {text}: {number} is not the number of a source, 1 to {sources}")
        value: VolumeRange
        if wanted == "data":
            value = "data"
        elif wanted == "window":
            value = "window"
        else:
            try:
                value = check_range(wanted.split(","))
            except InputError as error:
                raise InputError(f"--range {text}: {error}") from None
        for k in range(sources) if not number else [int(number) - 1]:
            chosen[k] = value
    return chosen


def parse_noise(text: str | None) -> Noise | None:
    """auto and off as they are, "10,2.5" as numbers."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise InputError(
            f"--noise {text}: not auto, off or one level for each source, as in 10,2.5"
        ) from None


def parse_tile(text: str) -> str | int:
    """auto and off as they are, "512" as a number."""
    if text in ("auto", "off"):
        return text
    if not text.isdecimal():
        raise InputError(f"--tile {text}: not auto, off or a number of pixels, as in 512")
    return int(text)


def checked_prior(name: str, options: dict[str, Any], sources: int) -> Callable[[], Prior]:
    """What loads the prior once for all and moves it where it will work, if it is needed.

    Raises InputError for bad options and, if the prior surely is needed, for one that will not do.
    """
    from functools import cache
    from threading import Lock

    with importing():
        from ddfm.devices import pick_device, pick_dtype
        from ddfm.fusion.options import check_options
        from ddfm.fusion.pipeline import check_steps

    loading = Lock()  # folders are fused by several threads

    @cache
    def load() -> Prior:
        with importing():
            from ddfm.priors.loading import load_prior

        place = pick_device(options["device"], options["backend"])
        number = pick_dtype(options["dtype"], place, options["form"])
        return load_prior(name).to(place, number, options["backend"])

    def loaded() -> Prior:
        with loading:
            return load()

    check_options(**options, sources=sources)
    if options["steps"] != 0:
        check_steps(loaded(), options["form"], options["steps"])
    return loaded
