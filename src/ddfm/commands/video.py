"""`ddfm video`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ddfm.commands.options import (
    BackendOption,
    BalanceOption,
    DeblurOption,
    DeviceOption,
    DtypeOption,
    MaskOption,
    PriorOption,
    TaskOption,
    parse_deblur,
    parse_masks,
    parse_noise,
)
from ddfm.commands.terminal import progress_bars, say, tell, tell_task


def video(
    a: Annotated[Path, typer.Argument(metavar="A", help="First video (infrared, say).")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Second video (visible, say).")],
    output: Annotated[Path, typer.Option("-o", "--output", help=".mp4, .m4v, .mov or .mkv to write.")],
    task: TaskOption = "auto",
    every: Annotated[int, typer.Option(help="Fuse every N-th frame.")] = 1,
    start: Annotated[float, typer.Option(help="Seconds to leave out at the start.")] = 0.0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds to fuse.", show_default="to the end")
    ] = None,
    steps: Annotated[int, typer.Option(help="Network evaluations a frame; 0 for the likelihood alone.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the starting noise, the same for all frames.")] = 3407,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="auto|off|S1,S2",
            help="Noise of the sources: found out and averaged over time, left alone, or given.",
            show_default="auto; off for task medical",
        ),
    ] = None,
    deblur: DeblurOption = "off",
    masks: MaskOption = None,
    stretch: Annotated[str, typer.Option(help="Contrast: auto (what the task does) or none.")] = "auto",
    balance: BalanceOption = 0.5,
    prior: PriorOption = "natural",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    backend: BackendOption = "torch",
) -> None:
    """Fuse two aligned videos of one scene, in step by their timestamps and without flicker.

    Frame times follow the video in colour. The sound is kept. Until it is complete the output is called
    OUT.partial-<random>.mp4 (or .mkv); what an interruption leaves there can be played.
    """
    from ddfm.fusion.options import Options
    from ddfm.video import fuse_videos, partial_paths

    began = time.perf_counter()
    options = Options.among(
        locals(),
        noise=parse_noise(noise),
        deblur=parse_deblur(deblur),
        masks=parse_masks(masks or [], 2),
    )
    try:
        with progress_bars() as bars:
            bar = bars.add_task("frames", total=None)
            result = fuse_videos(
                a,
                b,
                output,
                options,
                prior=prior,
                every=every,
                start=start,
                duration=duration,
                progress=lambda frame, total: bars.update(bar, completed=frame, total=total),
            )
    except KeyboardInterrupt:
        for partial in partial_paths(output):
            tell(f"interrupted: what is done can be played, {partial}")
        raise
    tell_task(str(output), result.settings["task"], result.settings["why"])
    for note in result.notes:
        tell(note)
    height, width = result.size
    seconds = time.perf_counter() - began
    say(f"{output}: {width}x{height}, {result.frames} frames, {result.seconds:.2f} s, in {seconds:.1f} s")
