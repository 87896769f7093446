"""What a client may ask for: the options of a fusion, checked without torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ddfm.serve.problems import Problem, validation_detail

Form = Literal["ddfm", "released", "paper"]
Level = Annotated[float, Field(ge=0, lt=255)]


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
    deblur: Literal["off"] | list[Level] = Field(
        "off", description="How far each source's lens blurs it, in pixels: docs/use/noisy.md."
    )
    deghost: Literal["auto", "off"] = Field("auto", description="What to do about motion between exposures.")
    stretch: Literal["auto", "none"] = Field("auto", description="Contrast.")
    balance: float = Field(0.5, ge=0, le=1, description="0 natural (visible) to 1 thermal.")
    uncertainty: bool = Field(False, description="Find out how far the luminance can be relied on.")
    prior: str = Field("natural", max_length=64, description="A prior of /v1/priors.")
    register_: Literal["affine", "homography", "dense"] | None = Field(
        None, alias="register", description="Bring the sources onto the first one in colour."
    )
    resize: bool = Field(False, description="Resample sources whose sizes differ.")

    @field_validator("prior")
    @classmethod
    def _known_prior(cls, value: str) -> str:
        if value not in bundled_priors():
            raise ValueError("no such prior; /v1/priors lists them")
        return value

    def stored(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, ready for JSON."""
        return self.model_dump(by_alias=True, exclude_defaults=True)

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
        if name == "uncertainty":
            words += [flag, "uncertainty.tif"]
        elif value is True:
            words.append(flag)
        else:
            words += [flag, ",".join(f"{v:g}" for v in value) if isinstance(value, list) else str(value)]
    return f"OMP_NUM_THREADS={threads} {shlex.join(words)}"
