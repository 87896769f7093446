"""Priors: `ddfm priors`, `ddfm convert` and `ddfm train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ddfm.commands.options import DeviceOption
from ddfm.commands.terminal import say, stderr


def priors(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """List the priors that --prior takes by name: bundled, cached from the hub, and to be had elsewhere."""
    import json

    from ddfm.priors.loading import list_priors

    rows = list_priors()
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    for row in rows:
        say(f"{row['name']:<28} {row['where']:<8} {row['what']}")


def convert_guided_diffusion(
    checkpoint: Annotated[Path, typer.Argument(help="OpenAI's checkpoint, a state dict (.pt).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Its configuration, JSON or YAML; default: the one beside it, or OpenAI's 256x256."
        ),
    ] = None,
) -> None:
    """Turn an OpenAI guided-diffusion checkpoint into a prior for --prior."""
    from ddfm.priors import guided_diffusion as converter

    settings = converter.read_config(config) if config else None
    prior = converter.convert_guided_diffusion(checkpoint, output, settings)
    say(f"{output}: {sum(p.numel() for p in prior.network.parameters()):,} parameters")


def train(
    images: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    held_out: Annotated[
        list[Path] | None, typer.Option(help="Photographs that are measured and never trained on.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Settings of the run, TOML.")] = None,
    begin_with: Annotated[
        str | None,
        typer.Option(help="Prior whose weights a new run starts from: of the same widths, no deeper."),
    ] = None,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")] = False,
) -> None:
    """Train an unconditional luminance prior; it is left in OUTPUT/prior.

    Several GPUs or machines: torchrun --nproc-per-node N -m ddfm.cli train ... (the batch is shared out).
    """
    from ddfm.devices import pick_device
    from ddfm.priors.loading import load_prior
    from ddfm.training import run
    from ddfm.training.crops import find_images
    from ddfm.training.recipe import PriorRecipe, read_recipe

    settings = read_recipe(recipe) if recipe else PriorRecipe()

    def show(record: dict[str, Any]) -> None:
        minutes = (settings.steps - record["step"]) * settings.batch / record["images_per_second"] / 60
        line = (
            f"step {record['step']}/{settings.steps}  loss {record['loss']:.4f}  "
            f"{record['images_per_second']:.0f} images/s  {minutes:.0f} min left"
        )
        if "held_out" in record:
            losses = " ".join(f"{loss:.4f}" for loss in record["held_out"])
            say(f"{line}  held out {losses}")
        else:
            live.update(line)

    with stderr().status("first steps") as live, run.process_group(str(pick_device(device))) as chosen:
        run.train(
            find_images(images),
            output,
            settings,
            held_out=find_images(held_out) if held_out else None,
            device=chosen,
            resume=resume,
            begin_with=load_prior(begin_with) if begin_with else None,
            progress=show,
        )
    say(f"{output / 'prior'}: done")
