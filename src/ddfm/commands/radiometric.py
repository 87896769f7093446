"""Options of `ddfm fuse` that only radiometric sources have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ddfm.commands.importing import importing
from ddfm.commands.terminal import tell
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.jobs.files import Outputs
    from ddfm.thermal.options import ThermalOptions
    from ddfm.thermal.place import Placed

PANEL = "Radiometric sources (files of thermal cameras)"

PaletteOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=PANEL,
        help="Colours by temperature: grey, iron, lava, arctic, viridis or rainbow. Detail is the fusion's.",
        show_default="the photograph's colours",
    ),
]
AnnotateOption = Annotated[
    bool,
    typer.Option(
        "--annotate", rich_help_panel=PANEL, help="Draw scale, spot, coldest and hottest place into it."
    ),
]
IsothermOption = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="LOW HIGH", rich_help_panel=PANEL, help="Mark what lies between, in °C."),
]
TemperaturesOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIF", rich_help_panel=PANEL, help="Write each fused pixel's temperature, float, in °C."
    ),
]
TableOption = Annotated[
    str | None,
    typer.Option(metavar="CSV", rich_help_panel=PANEL, help="Write minimum, mean, maximum, a line a file."),
]
PlaceOption = Annotated[
    str,
    typer.Option(
        metavar="auto|file",
        rich_help_panel=PANEL,
        help="Correct the file's place for its photograph where both pictures agree on it, or keep it.",
    ),
]
EmissivityOption = Annotated[
    float | None,
    typer.Option(rich_help_panel=PANEL, help="Of the object, instead of the file's.", show_default=False),
]
DistanceOption = Annotated[
    float | None,
    typer.Option(rich_help_panel=PANEL, help="To the object, in metres, likewise.", show_default=False),
]
ReflectedOption = Annotated[
    float | None,
    typer.Option(rich_help_panel=PANEL, help="Reflected temperature in °C, likewise.", show_default=False),
]


def parse_thermal(
    palette: str | None,
    annotate: bool,
    isotherm: tuple[float, float] | None,
    place: str,
    emissivity: float | None,
    distance: float | None,
    reflected: float | None,
) -> ThermalOptions:
    """Return the options, checked. Raises InputError."""
    with importing():
        from ddfm.formats.radiometric import Overrides
        from ddfm.thermal.options import ThermalOptions

    overrides = Overrides(emissivity, distance, reflected)
    return ThermalOptions(
        palette=palette, annotate=annotate, isotherm=isotherm, place=place, overrides=overrides
    )


def check_no_thermal(thermal: ThermalOptions, outputs: Outputs) -> None:
    """Raise InputError for options that sources of another kind do not have."""
    from ddfm.jobs.files import temperature_outputs

    if asked := [*thermal.named, *temperature_outputs(outputs)]:
        raise InputError(f"{asked[0]} is for radiometric sources, files of thermal cameras; leave it out")


def tell_temperatures(placed: Placed) -> None:
    """Print a thermogram's temperatures, or why it has none."""
    from ddfm.thermal.measure import statistics

    thermogram = placed.thermogram
    tell(f"{thermogram.name}: {placed.how}")
    if thermogram.uncalibrated:
        tell(f"{thermogram.name}: no temperatures: {thermogram.uncalibrated}")
        return
    found = statistics(thermogram)
    tell(
        f"{thermogram.name}: {found.minimum:.1f} to {found.maximum:.1f} °C, mean {found.mean:.1f}; "
        f"emissivity {thermogram.conditions.emissivity:.2f}"  # type: ignore[union-attr]
    )
