"""`ddfm fuse`: files, or folders of them."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from ddfm.commands.terminal import DeviceOption, PriorOption, progress_bars
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.fusion import FusionResult
    from ddfm.images import Image
    from ddfm.prior import Prior


def fuse(
    sources: Annotated[
        list[Path], typer.Argument(metavar="A B [C ...]", help="Two or more image files, or as many folders.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File or, for folders, folder to write.")],
    task: Annotated[
        str, typer.Option(help="What the sources are: auto, infrared, medical, exposure or focus.")
    ] = "auto",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Network evaluations; 0 for the likelihood alone (form ddfm).",
            show_default="5 for form ddfm, 100 for the others",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the starting noise.")] = 3407,
    form: Annotated[str, typer.Option(help="Form of the likelihood: ddfm, released or paper.")] = "ddfm",
    colour_from: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Take the chroma of source number N alone.",
            show_default="of all that are in colour",
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="auto|off|S1,S2,...",
            help="Noise of the sources: found out, left alone, or given in 8-bit grey levels.",
            show_default="auto; off for task medical and the other forms",
        ),
    ] = None,
    stretch: Annotated[str, typer.Option(help="Contrast: auto (what the form does) or none.")] = "auto",
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write how far the luminance can be relied on: a 16-bit TIFF, with a picture beside it.",
            show_default=False,
        ),
    ] = None,
    scheduler: Annotated[str, typer.Option(help="ddim, ddpm or dpm++.")] = "ddim",
    prior: PriorOption = "natural",
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="Of the network: float32, bfloat16 or float16.")] = "float32",
    resize: Annotated[bool, typer.Option("--resize", help="Resample sources whose sizes differ.")] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Folders: make finished outputs again instead of keeping them."),
    ] = False,
) -> None:
    """Fuse two or more aligned pictures of one scene, or those of as many folders.

    Luminance is fused, chroma comes from the sources in colour; the result has the sources' size and the
    first one's bit depth. Files of folders are matched by name; outputs are PNG (TIFF for float samples),
    finished ones are kept, and bad ones do not stop the rest.
    """
    if len(sources) < 2:
        raise InputError(f"two sources or more are needed, {len(sources)} given: ddfm fuse A B -o OUT")
    options: dict[str, Any] = {
        "steps": steps,
        "seed": seed,
        "form": form,
        "scheduler": scheduler,
        "task": task,
        "colour_from": colour_from,
        "noise": parse_noise(noise),
        "stretch": stretch,
        "uncertainty": uncertainty is not None,
        "device": device,
        "dtype": dtype,
        "resize": resize,
    }
    for path in sources:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    folders = [path.is_dir() for path in sources]
    if any(folders) and not all(folders):
        mixed = " and ".join(map(str, sources))
        raise InputError(f"{mixed}: either files or folders are needed, not some of each")
    for written in (output, uncertainty):
        if written and written.exists() and any(written.samefile(path) for path in sources):
            raise InputError(f"{written}: is one of the sources; name another output")
    if folders[0]:
        fuse_folders(sources, output, uncertainty, prior, overwrite, options)
    else:
        fuse_files(sources, output, uncertainty, prior, options)


def parse_noise(text: str | None) -> str | list[float] | None:
    """auto and off as they are, "10,2.5" as numbers."""
    if text is None or text in ("auto", "off"):
        return text
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise InputError(
            f"--noise {text}: not auto, off or one level for each source, as in 10,2.5"
        ) from None


def fuse_files(
    paths: Sequence[Path], output: Path, uncertainty: Path | None, prior: str, options: dict[str, Any]
) -> None:
    """One set of sources, with a progress bar over the steps."""
    start = time.perf_counter()
    model = checked_prior(prior, options, len(paths))
    images = read_sources(paths, options["resize"])
    check_outputs(output, uncertainty, images)
    with progress_bars() as bars:
        result = fuse_one(images, output, uncertainty, model, options, bars)
    if result.settings["why"]:
        print(tell_task(str(output), result.settings), file=sys.stderr)
    for path, level in zip(paths, result.settings["denoised"], strict=True):
        if level:
            print(f"{path}: noise of {level:.1f} grey levels taken out", file=sys.stderr)
    height, width = images[0].size
    print(f"{output}: {width}x{height}, {images[0].depth}, {time.perf_counter() - start:.1f} s")


def fuse_folders(
    folders: Sequence[Path],
    output: Path,
    uncertainty: Path | None,
    prior: str,
    overwrite: bool,
    options: dict[str, Any],
) -> None:
    """All that have one name in all folders; raises Exit(1) after naming those that failed."""
    from ddfm import batch
    from ddfm.images import prepare_folder

    for folder in filter(None, (output, uncertainty)):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; folders are fused into a folder")
    if uncertainty and uncertainty.absolute() == output.absolute():
        raise InputError(f"{uncertainty}: is the folder of the fused pictures, too; name another one")
    groups, lonely = batch.match_folders(*folders)
    model = checked_prior(prior, options, len(folders))
    prepare_folder(output)
    for path in lonely:
        print(f"no partner: {path}", file=sys.stderr)
    todo = [group for group in groups if overwrite or not batch.finished(group, output)]
    if kept := len(groups) - len(todo):
        print(
            f"{kept} of {len(groups)} finished before, kept (--overwrite makes them again)", file=sys.stderr
        )
    tasks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with progress_bars() as bars:
        overall = bars.add_task("pictures", total=len(todo))

        def fuse_group(group: batch.Group) -> None:
            try:
                images = read_sources(group.files, options["resize"])
                target = output / batch.output_name(group, images[0].depth)
                spread = uncertainty / f"{group.stem}.tif" if uncertainty else None
                check_outputs(target, spread, images)
                settings = fuse_one(images, target, spread, model, options, bars).settings
                tasks[settings["task"]].append({"stem": group.stem, **settings})
            finally:
                bars.advance(overall)

        failed = batch.run(todo, fuse_group)
    for made in tasks.values():
        if made[0]["why"]:
            others = f" and {len(made) - 1} more" if made[1:] else ""
            print(tell_task(f"{made[0]['stem']}{others}", made[0]), file=sys.stderr)
    print(f"{output}: {len(todo) - len(failed)} fused, {kept} kept, {len(failed)} failed")
    for group, reason in failed:
        print(f"failed: {group.stem}: {' '.join(reason.split())}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def tell_task(what: str, settings: dict[str, Any]) -> str:
    return f"{what}: task {settings['task']} ({settings['why']}); --task says otherwise"


def checked_prior(name: str, options: dict[str, Any], sources: int) -> Callable[[], Prior]:
    """What loads the prior once for all and moves it where it will work, if it is needed.

    Raises InputError for bad options and, if the prior surely is needed, for one that will not do.
    """
    from functools import cache

    from ddfm.devices import pick_device, pick_dtype
    from ddfm.fusion import check_steps
    from ddfm.options import check_options

    @cache
    def load() -> Prior:
        from ddfm.prior import load_prior

        return load_prior(name).to(pick_device(options["device"]), pick_dtype(options["dtype"]))

    check_options(**options, sources=sources)
    if options["steps"] != 0:
        check_steps(load(), options["form"], options["steps"])
    return load


def read_sources(paths: Sequence[Path], resize: bool) -> list[Image]:
    from ddfm.images import read_image
    from ddfm.sources import match_sizes

    return match_sizes([read_image(path) for path in paths], resize)


def check_outputs(output: Path, uncertainty: Path | None, images: Sequence[Image]) -> None:
    from ddfm.heatmap import check_spread
    from ddfm.images import check_writable

    check_writable(output, images[0].depth, any(image.alpha is not None for image in images))
    if uncertainty:
        check_spread(uncertainty, output)


def fuse_one(
    images: list[Image],
    output: Path,
    uncertainty: Path | None,
    prior: Callable[[], Prior],
    options: dict[str, Any],
    bars: Progress,
) -> FusionResult:
    """Fuse and write one set of sources, with a bar over its steps."""
    from ddfm.fusion import fuse as fuse_images
    from ddfm.heatmap import write_spread
    from ddfm.images import write_image
    from ddfm.options import DEFAULT_STEPS

    steps = DEFAULT_STEPS[options["form"]] if options["steps"] is None else options["steps"]
    bar = bars.add_task(output.name, total=steps)
    try:
        result = fuse_images(*images, prior=prior, callback=lambda step: bars.advance(bar), **options)
    finally:
        bars.remove_task(bar)
    write_image(output, result.image)
    if uncertainty and result.std is not None:
        write_spread(uncertainty, result.std)
    return result
