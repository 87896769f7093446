"""What is asked for of radiometric sources besides the fused picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

from ddfm.errors import InputError
from ddfm.formats.radiometric import Overrides
from ddfm.pictures.palettes import PALETTES

PLACES = ("auto", "file")


@dataclass(frozen=True, kw_only=True)
class ThermalOptions:
    """Hold the options that only radiometric sources have.

    Attributes:
        palette: name of the colours that stand for temperatures; None for the photograph's own colours.
        annotate: whether to draw the scale, the spot in the middle, the coldest and the hottest place.
        isotherm: two temperatures in degrees Celsius; what lies between them is marked.
        place: how a photograph in the same file is placed: ``"file"`` by the file's offsets, ``"auto"`` with
            what the pictures themselves say surely (`ddfm.thermal.place.refined`).
        overrides: conditions that hold instead of the file's.

    Raises:
        InputError: at once, for any value that is none of those documented.
    """

    palette: str | None = None
    annotate: bool = False
    isotherm: tuple[float, float] | None = None
    place: str = "auto"
    overrides: Overrides = field(default_factory=Overrides)

    def __post_init__(self) -> None:
        if self.palette is not None and self.palette not in PALETTES:
            raise InputError(f"palette {self.palette!r}: not one of {', '.join(PALETTES)}")
        if self.place not in PLACES:
            raise InputError(f"place {self.place!r}: not one of {', '.join(PLACES)}")
        if self.isotherm is not None:
            low, high = self.isotherm
            if not (isfinite(low) and isfinite(high) and low < high):
                raise InputError(f"isotherm {low:g} {high:g}: not two temperatures, the lower one first")

    @property
    def named(self) -> list[str]:
        """List the options that are not as by default, as the command line calls them."""
        given = {
            "--palette": self.palette is not None,
            "--annotate": self.annotate,
            "--isotherm": self.isotherm is not None,
            "--place": self.place != "auto",
            **{f"--{name}": True for name in self.overrides.given},
        }
        return [name for name, there in given.items() if there]

    @property
    def needs_temperatures(self) -> bool:
        """Tell whether anything is asked for that only calibrated readings have."""
        return self.annotate or self.isotherm is not None
