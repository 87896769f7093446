"""What a client may ask for: the options of a fusion, checked without torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from ddfm.serve.problems import Problem, validation_detail

THERMAL = ("palette", "annotate", "isotherm", "place", "emissivity", "distance", "reflected")
"""Options that only thermal cameras' files have."""
OUTPUTS = {
    "uncertainty": "uncertainty.tif",
    "source_map": "source-map.png",
    "temperatures": "temperatures.tif",
}
"""Options that ask for a further file, and the name of that file."""


def ascending(limits: list[float]) -> list[float]:
    """Return two numbers. Raises ValueError unless the lower one is first."""
    if limits[0] >= limits[1]:
        raise ValueError("two numbers are needed, the lower one first")
    return limits


Form = Literal["ddfm", "released", "paper"]
Level = Annotated[float, Field(ge=0, lt=255)]
Blur = Annotated[float, Field(ge=0, le=5)]
Span = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(ascending)]


def bundled_priors() -> list[str]:
    """List the priors that clients may name: those of the package, by folder, so no name is a path."""
    return sorted(entry.name for entry in (files("ddfm") / "assets").iterdir() if entry.is_dir())


class FusionOptions(BaseModel):
    """Hold the options of a fusion; they mean what those of `ddfm fuse` mean."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    task: Literal["auto", "infrared", "medical", "exposure", "focus"] = Field(
        "auto", description="What the sources are; auto finds out."
    )
    form: Form = Field("ddfm", description="Form of the likelihood.")
    steps: int | None = Field(
        None, ge=0, le=1000, description="Network evaluations: 5 by default for form ddfm, 100 for others."
    )
    seed: int = Field(3407, ge=0, lt=2**63, description="Of the starting noise.")
    scheduler: Literal["ddim", "ddpm", "dpm++"] = "ddim"
    colour_from: int | None = Field(None, ge=1, le=64, description="Take the chroma of that source alone.")
    noise: Literal["auto", "off"] | list[Level] | None = Field(
        None, description="Noise of the sources: found out, left alone, or a level for each, in grey levels."
    )
    deblur: Literal["off"] | list[Blur] = Field(
        "off",
        description="How far each source's lens blurs it, in pixels: docs/use/noisy.md.",
        examples=[[2, 0]],
    )
    deghost: Literal["auto", "off"] = Field(
        "auto", description="Take what moves between exposures from one of them, or leave it."
    )
    range: list[Span | Literal["data", "window"] | None] | None = Field(
        None,
        max_length=64,
        description="What is black and white in each source: two numbers, data (smallest to largest), "
        "window (of a volume's display), or null for what the file says. Degrees Celsius of thermograms.",
        examples=[[[20, 40], None]],
    )
    stretch: Literal["auto", "none"] = Field("auto", description="Contrast.")
    balance: float = Field(0.5, ge=0, le=1, description="0 natural (visible) to 1 thermal.")
    uncertainty: bool = Field(False, description="Find out how far the luminance can be relied on.")
    source_map: bool = Field(False, description="Find out which source counts most at each pixel.")
    prior: str = Field("natural", max_length=64, description="A prior of /v1/priors.")
    register_: Literal["affine", "homography", "dense"] | None = Field(
        None, alias="register", description="Bring the sources onto the first one in colour."
    )
    resize: bool = Field(False, description="Resample sources whose sizes differ.")

    palette: Literal["grey", "iron", "lava", "arctic", "viridis", "rainbow"] | None = Field(
        None,
        description="Thermal cameras' files: colours by temperature, detail by fusion.",
        examples=["iron"],
    )
    annotate: bool = Field(False, description="Likewise: draw scale, spot, coldest and hottest place.")
    isotherm: Span | None = Field(
        None, description="Likewise: mark what lies between, in °C.", examples=[[30, 40]]
    )
    temperatures: bool = Field(False, description="Likewise: hand out each fused pixel's, in °C.")
    place: Literal["auto", "file"] = Field(
        "auto", description="Likewise: correct the file's place for its photograph, or keep it."
    )
    emissivity: float | None = Field(None, gt=0, le=1, description="Instead of the file's.")
    distance: float | None = Field(None, ge=0, description="To the object, in metres, likewise.")
    reflected: float | None = Field(None, description="Reflected temperature in °C, likewise.")

    @field_validator("prior")
    @classmethod
    def _known_prior(cls, value: str) -> str:
        if value not in bundled_priors():
            raise ValueError("no such prior; /v1/priors lists them")
        return value

    def stored(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, ready for JSON."""
        return self.model_dump(by_alias=True, exclude_defaults=True)

    @property
    def thermal(self) -> list[str]:
        """List what is asked for that only thermal cameras' files have."""
        return [name for name in self.stored() if name in (*THERMAL, "temperatures")]

    def changed(self, changes: dict[str, Any]) -> FusionOptions:
        """Return these options with some changed, checked anew. Raises ValidationError."""
        return FusionOptions.model_validate(self.stored() | changes)


def parse_options(text: str | bytes) -> FusionOptions:
    """Return the options from JSON. Raises Problem."""
    try:
        return FusionOptions.model_validate_json(text or b"{}")
    except ValidationError as error:
        raise Problem(422, f"options: {validation_detail(error.errors())}") from None


def command_line(options: FusionOptions, names: Sequence[str], output: str, threads: int) -> str:
    """Return the command that makes the same bytes from the same files.

    Args:
        names: of the sources.
        threads: that the service computes with; sums round by their number.
    """
    words = ["ddfm", "fuse", *(f"./{name}" if name.startswith("-") else name for name in names), "-o", output]
    for name, value in options.stored().items():
        flag = f"--{name.replace('_', '-')}"
        if name in OUTPUTS:
            words += [flag, OUTPUTS[name]]
        elif name == "range":
            words += _ranges(value)
        elif name == "isotherm":
            words += [flag, *map(_number, value)]
        elif value is True:
            words.append(flag)
        else:
            words += [flag, ",".join(map(_number, value)) if isinstance(value, list) else str(value)]
    return f"OMP_NUM_THREADS={threads} {shlex.join(words)}"


def _ranges(ranges: Sequence[list[float] | str | None]) -> Iterator[str]:
    """Yield the command's words for the range of each source that has one."""
    for number, wanted in enumerate(ranges, 1):
        if wanted is not None:
            limits = wanted if isinstance(wanted, str) else ",".join(map(_number, wanted))
            yield from ("--range", f"{number}:{limits}")


def _number(value: float) -> str:
    """Return a number with all its digits."""
    return str(value).removesuffix(".0")
