"""The public interface as text: every public name of Python with its signature, every option of the command.

    python -m tools.public_api

writes docs/reference/public_api.txt. A test compares that file with the code, so that no name or signature
changes unseen. docs/develop/release.md says what may change in which version.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any, get_origin

from typer.main import get_command

from ddfm.cli import app

LISTED = Path(__file__).parents[1] / "docs" / "reference" / "public_api.txt"
# The doors to the package: all that `__all__` names, or the names given here.
PUBLIC: dict[str, tuple[str, ...]] = {
    "ddfm": (),
    "ddfm.demo.scenes": ("exposure", "focus", "night", "scenes"),
    "ddfm.formats.radiometric": ("Overrides", "Thermogram", "read_thermogram"),
    "ddfm.fusion.options": ("Options",),
    "ddfm.fusion.pipeline": ("Fusion",),
    "ddfm.likelihoods.base": ("DataTerm", "Likelihood"),
    "ddfm.likelihoods.tasks": ("TASKS",),
    "ddfm.metrics": (),
    "ddfm.pictures.image": ("Image",),
    "ddfm.priors": (),
    "ddfm.priors.diffusion": ("DiffusionPrior",),
    "ddfm.registration": (),
    "ddfm.sampling.loop": ("Sampler", "Step", "sample"),
    "ddfm.sampling.schedulers": ("DDIM", "DDPM", "DPMSolver2M", "Scheduler"),
    "ddfm.thermal.draw": ("drawn",),
    "ddfm.thermal.options": ("ThermalOptions",),
    "ddfm.thermal.place": ("Placed", "place"),
    "ddfm.video": (),
}
NONE = inspect.Parameter.empty


def public_names() -> dict[str, list[str]]:
    """Return the public names by module."""
    return {
        module: sorted(names or import_module(module).__all__, key=str.casefold)
        for module, names in PUBLIC.items()
    }


def public_api() -> str:
    """Return the whole list, ending in a line break."""
    lines: list[str] = []
    homes: dict[int, str] = {}
    for module, names in public_names().items():
        lines.append(f"# {module}")
        for name in names:
            value = getattr(import_module(module), name)
            home = homes.setdefault(id(value), module)
            lines += described(name, value) if home == module else [f"{name}: as in {home}"]
        lines.append("")
    lines += ["# The command", *described_command("ddfm", get_command(app))]
    return "\n".join(lines) + "\n"


def described(name: str, value: Any) -> Iterator[str]:
    """Yield the lines of one name: a function, a class with its members, or a constant."""
    if inspect.isclass(value):
        yield from [f"protocol {name}"] if is_protocol(value) else signature(f"class {name}", value)
        for member, inside in sorted(members(value).items()):
            if isinstance(inside, property):
                yield f"    property {member}{returned(inside.fget)}"
            else:
                yield from (f"    {line}" for line in signature(member, getattr(value, member)))
    elif inspect.isroutine(value):
        yield from signature(name, value)
    elif isinstance(value, Mapping):
        yield f"{name}: {', '.join(map(str, value))}"
    else:
        yield f"{name}: {value if get_origin(value) else type(value).__name__}"


def is_protocol(of: type) -> bool:
    """Tell whether a class is a protocol; the standard library says so from 3.13 on."""
    return bool(getattr(of, "_is_protocol", False))


def members(of: type) -> dict[str, Any]:
    """Return the public methods and properties of a class, and of those of its bases that are ddfm's."""
    return {
        name: value
        for base in reversed(of.__mro__)
        if base.__module__.startswith("ddfm.")
        for name, value in vars(base).items()
        if isinstance(value, property | classmethod | staticmethod | FunctionType)
        and (not name.startswith("_") or (name == "__call__" and is_protocol(of)))
        and name not in getattr(of, "__dataclass_fields__", {})
    }


def signature(name: str, function: Any) -> Iterator[str]:
    """Yield a signature, one parameter a line, so that the change of one is the change of one line."""
    parameters = list(inspect.signature(function).parameters.values())
    shown = [parameter(each) for each in parameters if each.name != "self"]
    keywords = [n for n, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY]
    if keywords and not any(each.kind is each.VAR_POSITIONAL for each in parameters):
        shown.insert(keywords[0] - (len(parameters) - len(shown)), "*")
    end = "" if inspect.isclass(function) else returned(function)
    if len(shown) < 2:
        yield f"{name}({', '.join(shown)}){end}"
    else:
        yield from (f"{name}(", *(f"    {each}," for each in shown), f"){end}")


def returned(function: Any) -> str:
    """Return what a function returns, as its source says it."""
    answer = inspect.signature(function).return_annotation
    return "" if answer is inspect.Signature.empty else f" -> {answer}"


def parameter(of: inspect.Parameter) -> str:
    """Return a parameter with its type and default; a default that is no plain value is three dots."""
    stars = "*" * (of.kind is of.VAR_POSITIONAL) + "**" * (of.kind is of.VAR_KEYWORD)
    kind = "" if of.annotation is NONE else f": {of.annotation}"
    plain = isinstance(of.default, str | int | float | tuple | None)
    default = "" if of.default is NONE else f" = {of.default!r}" if plain else " = ..."
    return f"{stars}{of.name}{kind}{default}"


def described_command(name: str, command: Any) -> Iterator[str]:
    """Yield a command with its arguments, options and their defaults, then the commands below it."""
    below = getattr(command, "commands", {})
    if not below or name == "ddfm":
        yield name
        for option in command.params:
            if option.param_type_name == "argument":
                yield f"    {option.name.upper()}"
            else:
                names = ", ".join([*option.opts, *option.secondary_opts])
                yield f"    {names}" + ("" if option.is_flag else f" = {option.default}")
    for inside in sorted(below):
        yield from described_command(f"{name} {inside}", below[inside])


def main() -> None:
    """Write the list."""
    LISTED.parent.mkdir(parents=True, exist_ok=True)
    LISTED.write_text(public_api())
    print(LISTED)


if __name__ == "__main__":
    main()
