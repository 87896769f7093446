"""`ddfm fuse`: files, or folders of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ddfm.commands.importing import importing
from ddfm.commands.options import (
    BackendOption,
    BalanceOption,
    DeblurOption,
    DeghostOption,
    DeviceOption,
    DtypeOption,
    MaskOption,
    PriorOption,
    RangeOption,
    TaskOption,
    parse_deblur,
    parse_masks,
    parse_noise,
    parse_ranges,
    parse_register,
    parse_tile,
)
from ddfm.commands.radiometric import (
    AnnotateOption,
    DistanceOption,
    EmissivityOption,
    IsothermOption,
    PaletteOption,
    PlaceOption,
    ReflectedOption,
    TableOption,
    TemperaturesOption,
    check_no_thermal,
    parse_thermal,
    tell_temperatures,
)
from ddfm.commands.terminal import (
    MOST_WORKERS,
    FolderBars,
    label,
    progress_bars,
    say,
    tell,
    tell_moving,
    tell_task,
    tell_times,
)
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.formats.volumes import VolumeRange
    from ddfm.fusion.options import Options
    from ddfm.jobs.engine import Engine
    from ddfm.jobs.files import Outputs
    from ddfm.jobs.folders import FolderResult
    from ddfm.jobs.numbers import Numbers
    from ddfm.thermal.options import ThermalOptions

ENGINES = ("local", "ray")


def fuse(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Two or more image files, or as many folders or URLs of such; one, if thermal cameras' own "
            "files hold both.",
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="File or, for folders, folder to write.")],
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
    deblur: DeblurOption = "off",
    masks: MaskOption = None,
    stretch: Annotated[str, typer.Option(help="Contrast: auto (what the form does) or none.")] = "auto",
    balance: BalanceOption = 0.5,
    deghost: DeghostOption = "auto",
    source_map: Annotated[
        str | None,
        typer.Option(
            metavar="OUT",
            help="Write which source each pixel came from (counts most): a PNG with a palette, or a TIFF.",
            show_default=False,
        ),
    ] = None,
    uncertainty: Annotated[
        str | None,
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
            help="Bring sources onto the first one in colour (exposures and focus stacks: onto the middle "
            "one): affine, homography or dense.",
            show_default="they are aligned",
        ),
    ] = None,
    register_report: Annotated[
        str | None,
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
    engine: Annotated[
        str,
        typer.Option(help="Folders: what does the work, local (this process) or ray (docs/use/folders.md)."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|auto",
            help="Of a Ray cluster that is there.",
            show_default="all devices of this machine",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="On Ray.", show_default="as many as the cluster has room for"),
    ] = None,
    worker_cores: Annotated[
        int, typer.Option(metavar="K", help="Of each worker on Ray; where there are GPUs it has one of them.")
    ] = 1,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Folders: measured of every output, for the record."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Folders: show the run's numbers to Prometheus on 127.0.0.1."),
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Tell where the time went.")] = False,
    palette: PaletteOption = None,
    annotate: AnnotateOption = False,
    isotherm: IsothermOption = None,
    temperatures: TemperaturesOption = None,
    table: TableOption = None,
    place: PlaceOption = "auto",
    emissivity: EmissivityOption = None,
    distance: DistanceOption = None,
    reflected: ReflectedOption = None,
) -> None:
    """Fuse two or more aligned pictures of one scene, or those of as many folders.

    Luminance is fused, chroma comes from the sources in colour; the result has the sources' size and the
    first one's bit depth. Files of folders are matched by name; outputs are PNG (TIFF for float samples),
    finished ones are kept, and bad ones do not stop the rest. Volumes (NIfTI, multi-page TIFF, a folder
    with a DICOM series) are fused slice by slice and written as what the first one is. A radiometric JPEG
    of a thermal camera is a source in degrees Celsius, and both sources if it holds a photograph.
    """
    with tell_times(profile):
        wanted, kind = parse_ranges(ranges or [], len(sources)), kind_of(sources)
        check_engine(kind, engine, address, workers, metrics, metrics_port)
        with importing():
            from ddfm.fusion.options import Options
            from ddfm.jobs.files import Outputs

        thermal = parse_thermal(palette, annotate, isotherm, place, emissivity, distance, reflected)
        options = Options.among(
            locals(),
            noise=parse_noise(noise),
            source_map=source_map is not None,
            deblur=parse_deblur(deblur),
            masks=parse_masks(masks or [], max(2, len(sources))),
            uncertainty=uncertainty is not None,
            tile=parse_tile(tile),
            register=parse_register(register, register_report),
            sources=max(2, len(sources)),
        )
        paths = [Path(source) for source in sources]
        others = (uncertainty, register_report, source_map, temperatures, table)
        outputs = Outputs(Path(output), *(None if name is None else Path(name) for name in others))
        if kind == "volumes":
            check_no_thermal(thermal, outputs)
            run_volumes(paths, Path(output), options, prior, wanted, copy_patient)
        elif kind == "folders":
            with shown(metrics_port) as show:
                result = run_folders(
                    sources,
                    output,
                    options,
                    show,
                    prior=prior,
                    uncertainty=uncertainty,
                    register_report=register_report,
                    source_map=source_map,
                    ranges=wanted,
                    thermal=thermal,
                    temperatures=temperatures,
                    table=table,
                    metrics=metrics.split(",") if metrics else (),
                    overwrite=overwrite,
                    batch=batch,
                    engine=engine_of(engine, address, workers, worker_cores),
                )
            tell_folders(output, result)
        else:
            run_files(paths, outputs, options, prior, wanted, thermal)


def check_engine(
    kind: str, engine: str, address: str | None, workers: int | None, *folders_only: object
) -> None:
    """Raise InputError for options of an engine, or of folders, that would have no effect."""
    if engine not in ENGINES:
        raise InputError(f"--engine {engine}: not one of {', '.join(ENGINES)}")
    if engine == "local" and (address is not None or workers is not None):
        raise InputError("--address, --workers: are for --engine ray")
    if kind != "folders" and (engine != "local" or any(option is not None for option in folders_only)):
        raise InputError("--engine, --metrics, --metrics-port: are for folders")


def engine_of(name: str, address: str | None, workers: int | None, cores: int) -> Engine | None:
    """Return the engine of that name; None for the one that folder runs have by themselves."""
    if name == "local":
        return None
    with importing():
        from ddfm.cluster.ray_engine import RayEngine

    return RayEngine(address, workers, cores)


@contextmanager
def shown(port: int | None) -> Iterator[Callable[[Numbers], None]]:
    """Give what a run's numbers are handed to, for a monitor; without a port nobody sees them."""
    if port is None:
        yield lambda numbers: None
        return
    with importing():
        from ddfm.cluster.page import serve

    with serve(port) as show:
        yield show


def kind_of(sources: Sequence[str]) -> Literal["files", "folders", "volumes"]:
    """Return what the sources are. Raises InputError for too few, missing or mixed ones."""
    with importing():
        from ddfm.formats.files import exists
        from ddfm.formats.radiometric import radiometric_source
        from ddfm.formats.volumes import is_volume
        from ddfm.places import is_url

    if any(map(is_url, sources)):  # whatever it is, it is not looked at twice
        return "folders"
    paths = [Path(source) for source in sources]
    for path in paths:
        if not exists(path):
            raise InputError(f"{path}: no such file or folder")

    volumes = [is_volume(path) for path in paths]
    if len(paths) < 2 and (any(volumes) or (paths[0].is_file() and radiometric_source(paths) is None)):
        raise InputError(
            f"two sources or more are needed, {len(paths)} given: ddfm fuse A B -o OUT "
            f"({paths[0]} is not a radiometric JPEG, which would be both)"
        )
    if any(volumes) and not all(volumes):
        raise InputError(
            f"{sources[volumes.index(True)]}: is a volume and {sources[volumes.index(False)]} is none; all "
            "or none of the sources have to be"
        )
    folders = [path.is_dir() for path in paths]
    if not all(volumes) and any(folders) and not all(folders):
        mixed = " and ".join(map(str, sources))
        raise InputError(f"{mixed}: either files or folders are needed, not some of each")
    return "volumes" if all(volumes) else "folders" if all(folders) else "files"


def run_files(
    paths: Sequence[Path],
    outputs: Outputs,
    options: Options,
    prior: str,
    ranges: Sequence[VolumeRange],
    thermal: ThermalOptions,
) -> None:
    """Fuse one set of files, with a progress bar over the steps."""
    with importing():
        from ddfm.fusion.pipeline import Fusion
        from ddfm.jobs.files import fuse_files
        from ddfm.pictures.image import range_remarks

    start = time.perf_counter()
    with progress_bars() as bars:
        bar = bars.add_task(label(outputs.fused.name), total=options.evaluations)
        result, given = fuse_files(
            paths, outputs, Fusion(options, prior), ranges, lambda step: bars.advance(bar), thermal
        )
    for image in given.images:
        for remark in range_remarks([image]):
            tell(f"{image.name}: {remark}")
    tell_task(str(outputs.fused), result.settings["task"], result.settings["why"])
    for image, level in zip(given.images, result.settings["denoised"], strict=True):
        if level:
            tell(f"{image.name}: noise of {level:.1f} grey levels taken out")
    for image, defects in zip(given.images, result.settings["defects"], strict=True):
        if defects:
            tell(f"{image.name}: {defects} defective pixels filled")
    for image, blur in zip(given.images, result.settings["deblur"], strict=False):
        if options.deblur == "auto" and blur:
            tell(f"{image.name}: blur of {blur:.1f} pixels taken out")
    if given.placed is not None:
        tell_temperatures(given.placed)
    tell_moving([Path(image.name) for image in given.images], result.settings["moving"])
    height, width = result.image.size
    say(f"{outputs.fused}: {width}x{height}, {result.image.depth}, {time.perf_counter() - start:.1f} s")


def run_volumes(
    paths: Sequence[Path],
    output: Path,
    options: Options,
    prior: str,
    ranges: Sequence[VolumeRange],
    copy_patient: bool,
) -> None:
    """Fuse volumes, with a progress bar over the slices."""
    with importing():
        from ddfm.jobs.volumes import fuse_volumes

    start = time.perf_counter()
    with progress_bars() as bars:
        bar = bars.add_task("slices", total=None)
        result = fuse_volumes(
            paths,
            output,
            options,
            prior=prior,
            ranges=ranges,
            copy_patient=copy_patient,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    for remark in result.remarks:
        tell(remark)
    tell_task(str(output), result.choice.task, result.choice.why)
    depth, height, width = result.volume.shape
    seconds = time.perf_counter() - start
    say(f"{output}: {width}x{height}, {depth} slices, {result.volume.slices[0].depth}, {seconds:.1f} s")


def run_folders(
    folders: Sequence[str],
    output: str,
    options: Options,
    show: Callable[[Numbers], None],
    **others: Any,
) -> FolderResult:
    """Fuse folders as `fuse_folders`, with progress bars and the run's numbers."""
    with importing():
        from ddfm.jobs.folders import Watch, fuse_folders

    def tell_unmatched(paths: Iterator[Path]) -> None:
        for path in paths:
            tell(f"no partner: {path}")

    with progress_bars() as bars:
        shown = FolderBars(bars)

        def begin(numbers: Numbers) -> None:
            shown.numbers = numbers
            show(numbers)

        watch = Watch(begin, tell_unmatched, shown)
        return fuse_folders(folders, output, options, watch=watch, **others)


def tell_folders(output: str, result: FolderResult) -> None:
    """Print what was done and what was not; raises Exit(1) if anything failed."""
    from ddfm.jobs.manifest import FAILED, QUARANTINED

    for task, why, stem, count in result.record.tasks():
        others = f" and {count - 1} more" if count > 1 else ""
        tell_task(f"{stem}{others}", task, why)
    numbers = result.numbers
    if numbers.kept:
        tell(f"{numbers.kept} of {numbers.listed} finished before, kept (--overwrite makes them again)")
    workers = sorted(numbers.by_worker, key=numbers.mean_rate)
    for worker in workers[:MOST_WORKERS] if len(workers) > 1 else ():
        tell(f"worker {worker}: {numbers.by_worker[worker]} fused, {numbers.mean_rate(worker):.2f} a second")
    if len(workers) > MOST_WORKERS:
        tell(f"{len(workers) - MOST_WORKERS} more workers fused more; the record names them")
    if numbers.retried or numbers.lost:
        tell(f"{numbers.retried} tried again, {numbers.lost} of them because a worker ended")
    say(f"{output}: {result.fused} fused, {result.kept} kept, {numbers.failed} failed")
    for outcome in result.record.outcomes((FAILED, QUARANTINED)):
        tell(f"failed: {outcome.group.stem}: {outcome.failure}")
    if numbers.failed:
        raise typer.Exit(1)
