"""Options that several commands have, and what is made of their texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ddfm.commands.importing import importing
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.formats.volumes import VolumeRange
    from ddfm.fusion.options import Blurs, NoiseLevels
    from ddfm.pictures.tiles import Tile
    from ddfm.registration.models import Registering

MOST_DIGITS = 18
BackendOption = Annotated[str, typer.Option(help="What evaluates the network: torch or openvino.")]
BalanceOption = Annotated[
    float,
    typer.Option(
        metavar="0..1", help="From what the visible camera saw, and what is hot, to what the thermal one saw."
    ),
]
DeghostOption = Annotated[
    str,
    typer.Option(help="Exposures: auto takes what moves from one of them; off leaves it as it is."),
]
DeblurOption = Annotated[
    str,
    typer.Option(
        metavar="auto|off|S1,S2,...",
        help="Blur of the sources' lenses to take out: found out, left alone, or given as standard "
        "deviations in pixels, 0 for a sharp one.",
    ),
]
MaskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mask",
        metavar="N:FILE",
        help="Missing pixels of source number N: a picture of its size, white where they are. Other "
        "sources take their place, or the prior fills them. Repeatable.",
        show_default=False,
    ),
]
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
        "(of a volume's display); of source number N, or of all. Degrees Celsius of thermograms. Repeatable.",
        show_default="what the file says",
    ),
]


def parse_ranges(texts: Sequence[str], sources: int) -> list[VolumeRange]:
    """Return the range asked for of each source; None where none is. Raises InputError."""
    with importing():
        from ddfm.pictures.ranges import check_range

    chosen: list[VolumeRange] = [None] * sources
    for text in texts:
        number, _, wanted = text.rpartition(":")
        if number and not (is_count(number) and 1 <= int(number) <= sources):
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


def is_count(text: str) -> bool:
    """Tell whether a text is a whole number of a size that counts have; Python has a limit of its own."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def parse_noise(text: str | None) -> NoiseLevels | None:
    """Return auto and off as they are, "10,2.5" as numbers."""
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


def parse_deblur(text: str) -> Blurs:
    """Return auto and off as they are, "2,0" as numbers."""
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    try:
        return [float(blur) for blur in text.split(",")]
    except ValueError:
        raise InputError(f"--deblur {text}: not auto, off or the blur of each source, as in 2,0") from None


def parse_masks(texts: Sequence[str], sources: int) -> list[Path | None] | None:
    """Return the mask of each source, of "2:mask.png"; None for one without, or if there is none at all."""
    chosen: list[Path | None] = [None] * sources
    for text in texts:
        number, _, name = text.partition(":")
        if not (name and is_count(number) and 1 <= int(number) <= sources):
            raise InputError(
                f"--mask {text}: not the number of a source, 1 to {sources}, and a file, as in 2:mask.png"
            )
        if chosen[int(number) - 1] is not None:
            raise InputError(f"--mask {text}: source {number} has a mask already; join them in one picture")
        chosen[int(number) - 1] = Path(name)
    return chosen if texts else None


def parse_tile(text: str) -> Tile:
    """Return auto and off as they are, "512" as a number."""
    if text in ("auto", "off"):
        return cast("Tile", text)
    if not is_count(text):
        raise InputError(f"--tile {text[:80]}: not auto, off or a number of pixels, as in 512")
    return int(text)


def parse_register(model: str | None, report: str | None) -> Registering | None:
    """Return the model of registration. Raises InputError for an unknown one, or a report without one."""
    with importing():
        from ddfm.registration.models import REGISTRATIONS

    if report and not model:
        raise InputError(f"{report}: --register-report needs --register")
    if model is not None and model not in REGISTRATIONS:
        raise InputError(f"register {model!r}: not one of {', '.join(REGISTRATIONS)}")
    return cast("Registering | None", model)
