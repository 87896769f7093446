"""`ddfm fuse`: files, or folders of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ddfm.commands.folders import fuse_folders
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
from ddfm.commands.pictures import Places, check_outputs, read_sources, write_result
from ddfm.commands.terminal import progress_bars, tell_task, tell_times
from ddfm.commands.volumes import are_volumes, fuse_volumes
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.formats.volumes import VolumeRange


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
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Folders: pictures shown to the network at once.", show_default="1, on GPUs 8"
        ),
    ] = None,
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
            fuse_folders(sources, places, prior, wanted, overwrite, batch, options)
        else:
            fuse_files(sources, places, prior, wanted, options)


def fuse_files(
    paths: Sequence[Path],
    places: Places,
    prior: str,
    ranges: Sequence[VolumeRange],
    options: dict[str, Any],
) -> None:
    """One set of sources, with a progress bar over the steps."""
    with importing():
        from ddfm.fusion.options import DEFAULT_STEPS
        from ddfm.fusion.pipeline import fuse as fuse_images
        from ddfm.pictures.image import range_remarks

    start = time.perf_counter()
    model = checked_prior(prior, options, len(paths))
    images = read_sources(paths, ranges, options, places.report)
    for image in images:
        for remark in range_remarks([image]):
            print(f"{image.name}: {remark}", file=sys.stderr)
    check_outputs(places, images, options["colour_from"])
    steps = DEFAULT_STEPS[options["form"]] if options["steps"] is None else options["steps"]
    with progress_bars() as bars:
        bar = bars.add_task(places.fused.name, total=steps)
        done = {**options, "register": None}  # that was when they were read
        result = fuse_images(*images, prior=model, callback=lambda step: bars.advance(bar), **done)
    write_result(places, result)
    if result.settings["why"]:
        print(tell_task(str(places.fused), result.settings["task"], result.settings["why"]), file=sys.stderr)
    for path, level in zip(paths, result.settings["denoised"], strict=True):
        if level:
            print(f"{path}: noise of {level:.1f} grey levels taken out", file=sys.stderr)
    height, width = result.image.size
    print(f"{places.fused}: {width}x{height}, {result.image.depth}, {time.perf_counter() - start:.1f} s")
