"""`ddfm fuse`: files, or folders of them."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ddfm.commands.importing import importing
from ddfm.commands.options import (
    BackendOption,
    DeviceOption,
    DtypeOption,
    PriorOption,
    RangeOption,
    TaskOption,
    checked_prior,
    parse_noise,
    parse_ranges,
    parse_tile,
)
from ddfm.commands.terminal import progress_bars, tell_task, tell_times
from ddfm.commands.volumes import are_volumes, fuse_volumes
from ddfm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.progress import Progress

    from ddfm.fusion import FusionResult
    from ddfm.images import Image
    from ddfm.prior import Prior
    from ddfm.volumes import VolumeRange


def fuse(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", help="Two or more image files, or as many folders.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File or, for folders, folder to write.")],
    task: TaskOption = "auto",
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
    dtype: DtypeOption = "auto",
    backend: BackendOption = "torch",
    tile: Annotated[
        str,
        typer.Option(
            metavar="auto|N|off",
            help="Larger pictures are shown to the network in tiles: by the memory at hand, of N pixels a "
            "side, or never.",
        ),
    ] = "auto",
    register: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Bring sources onto the first one in colour: affine, homography or dense.",
            show_default="they are aligned",
        ),
    ] = None,
    register_report: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Write a picture to judge the registration by.", show_default=False),
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Resample sources whose sizes differ.")] = False,
    ranges: RangeOption = None,
    copy_patient: Annotated[
        bool, typer.Option("--copy-patient", help="Volumes: keep tags that name the patient.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Folders: make finished outputs again instead of keeping them."),
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Tell where the time went.")] = False,
) -> None:
    """Fuse two or more aligned pictures of one scene, or those of as many folders.

    Luminance is fused, chroma comes from the sources in colour; the result has the sources' size and the
    first one's bit depth. Files of folders are matched by name; outputs are PNG (TIFF for float samples),
    finished ones are kept, and bad ones do not stop the rest. Volumes (NIfTI, multi-page TIFF, a folder
    with a DICOM series) are fused slice by slice and written as what the first one is.
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
        "backend": backend,
        "tile": parse_tile(tile),
        "register": register,
        "resize": resize,
    }
    if register_report and not register:
        raise InputError(f"{register_report}: --register-report needs --register")
    for path in sources:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    with tell_times(profile):
        wanted = parse_ranges(ranges or [], len(sources))
        if are_volumes(sources):
            fuse_volumes(sources, output, uncertainty, prior, wanted, copy_patient, options)
            return
        folders = [path.is_dir() for path in sources]
        if any(folders) and not all(folders):
            mixed = " and ".join(map(str, sources))
            raise InputError(f"{mixed}: either files or folders are needed, not some of each")
        places = Places(output, uncertainty, register_report)
        for written in (output, uncertainty, register_report):
            if written and written.exists() and any(written.samefile(path) for path in sources):
                raise InputError(f"{written}: is one of the sources; name another output")
        if folders[0]:
            fuse_folders(sources, places, prior, wanted, overwrite, options)
        else:
            fuse_files(sources, places, prior, wanted, options)


class Places(NamedTuple):
    """Where results go: files, or folders of them."""

    fused: Path
    spread: Path | None
    report: Path | None


def fuse_files(
    paths: Sequence[Path],
    places: Places,
    prior: str,
    ranges: Sequence[VolumeRange],
    options: dict[str, Any],
) -> None:
    """One set of sources, with a progress bar over the steps."""
    with importing():
        from ddfm.images import range_remarks

    start = time.perf_counter()
    model = checked_prior(prior, options, len(paths))
    images = read_sources(paths, ranges, options, places.report)
    for image in images:
        for remark in range_remarks([image]):
            print(f"{image.name}: {remark}", file=sys.stderr)
    check_outputs(places, images, options["colour_from"])
    with progress_bars() as bars:
        result = fuse_one(images, places, model, options, bars)
    if result.settings["why"]:
        print(tell_task(str(places.fused), result.settings["task"], result.settings["why"]), file=sys.stderr)
    for path, level in zip(paths, result.settings["denoised"], strict=True):
        if level:
            print(f"{path}: noise of {level:.1f} grey levels taken out", file=sys.stderr)
    height, width = result.image.size
    print(f"{places.fused}: {width}x{height}, {result.image.depth}, {time.perf_counter() - start:.1f} s")


def fuse_folders(
    folders: Sequence[Path],
    places: Places,
    prior: str,
    ranges: Sequence[VolumeRange],
    overwrite: bool,
    options: dict[str, Any],
) -> None:
    """All that have one name in all folders; raises Exit(1) after naming those that failed."""
    with importing():
        from ddfm import batch
        from ddfm.images import prepare_folder
        from ddfm.restore import template

    output = places.fused
    named = [folder for folder in places if folder is not None]
    for folder in named:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; folders are fused into a folder")
    if len({folder.absolute() for folder in named}) < len(named):
        raise InputError(f"{output}: two kinds of results would go into one folder; name another one")
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
                report = places.report and places.report / f"{group.stem}.png"
                images = read_sources(group.files, ranges, options, report)
                target = Places(
                    output / batch.output_name(group, template(images, options["colour_from"]).depth),
                    places.spread and places.spread / f"{group.stem}.tif",
                    report,
                )
                check_outputs(target, images, options["colour_from"])
                settings = fuse_one(images, target, model, options, bars).settings
                tasks[settings["task"]].append({"stem": group.stem, **settings})
            finally:
                bars.advance(overall)

        failed = batch.run(todo, fuse_group)
    for task, made in tasks.items():
        if made[0]["why"]:
            others = f" and {len(made) - 1} more" if made[1:] else ""
            print(tell_task(f"{made[0]['stem']}{others}", task, made[0]["why"]), file=sys.stderr)
    print(f"{output}: {len(todo) - len(failed)} fused, {kept} kept, {len(failed)} failed")
    for group, reason in failed:
        print(f"failed: {group.stem}: {' '.join(reason.split())}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def read_sources(
    paths: Sequence[Path], ranges: Sequence[VolumeRange], options: dict[str, Any], report: Path | None
) -> list[Image]:
    """The sources in one size and view, with a picture of how they were registered if that is wanted."""
    import numpy as np

    from ddfm.images import check_writable, from_array, read_image, write_image
    from ddfm.sources import match_sizes, registered

    images = []
    for path, wanted in zip(paths, ranges, strict=True):
        if wanted == "window":
            raise InputError(f"{path}: has no display window; give the range in numbers, or data")
        images.append(read_image(path, wanted))
    if options["register"] is None:
        return match_sizes(images, options["resize"])

    def write_report(k: int, picture: NDArray[np.uint8]) -> None:
        if report is not None:
            path = report if len(paths) == 2 else report.with_stem(f"{report.stem}-{k + 1}")
            write_image(path, from_array(picture, str(path)))

    if report is not None:
        check_writable(report, np.dtype(np.uint8), False)
    return registered(images, options["register"], write_report)


def check_outputs(places: Places, images: Sequence[Image], colour_from: int | None) -> None:
    from ddfm.fusion import check_colour
    from ddfm.heatmap import check_spread
    from ddfm.images import check_writable
    from ddfm.restore import template

    check_colour([images], colour_from)
    depth = template(images, colour_from).depth
    check_writable(places.fused, depth, any(image.alpha is not None for image in images))
    if places.spread:
        check_spread(places.spread, places.fused)


def fuse_one(
    images: list[Image],
    places: Places,
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
    bar = bars.add_task(places.fused.name, total=steps)
    try:
        done = {**options, "register": None}  # that was when they were read
        result = fuse_images(*images, prior=prior, callback=lambda step: bars.advance(bar), **done)
    finally:
        bars.remove_task(bar)
    write_image(places.fused, result.image)
    if places.spread and result.std is not None:
        write_spread(places.spread, result.std)
    return result
