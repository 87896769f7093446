"""`ddfm downstream` and `ddfm datasets`: what fusion is worth to a machine, and labelled sets for it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddfm.commands.terminal import say, tell
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.downstream.inputs import Input
    from ddfm.downstream.report import Page
    from ddfm.downstream.training import DownstreamRecipe

ALL = "visible,infrared,mean,max,ddfm"
PROTOCOLS = ("pretrained", "retrained", "evaluate-only")

downstream = typer.Typer(help="What is fusion worth to a machine?", no_args_is_help=True)
datasets = typer.Typer(help="Labelled sets for `ddfm downstream`.", no_args_is_help=True)

DatasetArgument = Annotated[str, typer.Argument(help="Name of the set; an unknown one lists them.")]
RootOption = Annotated[Path, typer.Option(help="Folder where the set lies.")]
OutputOption = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for report.html and results.json.")
]
InputsOption = Annotated[
    str,
    typer.Option(
        help="visible, infrared, mean, max, ddfm, NAME=FOLDER of fused pictures, with commas between; "
        "evaluate-only: NAME=PATH of predictions."
    ),
]
SeedsOption = Annotated[int, typer.Option(help="Trainings for each input, with seeds 0, 1, ...")]
StepsOption = Annotated[int | None, typer.Option(help="Steps of each training, if not the recipe's.")]
LimitOption = Annotated[int | None, typer.Option(help="Take only the first pairs of each split.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Folder for fused pictures and trainings, to be resumed. [default: OUTPUT/cache]"),
]
WeightsOption = Annotated[
    str | None, typer.Option(help="Weights of a transformers model: a folder, or a hub name.")
]
DeviceOption = Annotated[str, typer.Option(help="Device for fusion and trainings: auto, cpu, cuda, ...")]


@downstream.command(epilog="Example: ddfm downstream detection msrs --root data/MSRS -o report")
def detection(
    dataset: DatasetArgument,
    root: RootOption,
    output: OutputOption,
    inputs: InputsOption = ALL,
    protocol: Annotated[str, typer.Option(help="pretrained, retrained or evaluate-only.")] = "pretrained",
    model: Annotated[str, typer.Option(help="Retrained: points, yolos, rt-detr or d-fine.")] = "points",
    weights: WeightsOption = None,
    seeds: SeedsOption = 3,
    steps: StepsOption = None,
    limit: LimitOption = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure average precision: of a person detector, of one retrained for each input, or of given boxes.

    Writes report.html and results.json. Labels may be YOLO text or Pascal VOC, as the set has them.
    """
    from ddfm.downstream import detection as protocols
    from ddfm.downstream.layouts import DETECTION, open_set
    from ddfm.downstream.pages import detection_page

    _check(protocol, PROTOCOLS, seeds, limit)
    labelled = open_set(DETECTION, dataset, root)
    if protocol == "evaluate-only":
        parts = {"boxes as given": protocols.given(labelled, _folders(inputs), limit)}
    elif protocol == "pretrained":
        parts = protocols.pretrained(labelled, _inputs(inputs, device), _cache(cache, output), limit, tell)
    else:
        recipe = _recipe(protocols.RECIPE, steps)
        found = protocols.retrained(
            labelled,
            _inputs(inputs, device),
            range(seeds),
            recipe,
            model=model,
            weights=weights,
            cached=_cache(cache, output),
            limit=limit,
            device=_device(device),
            progress=tell,
        )
        parts = {f"{model}, retrained for each input": found}
    _write(
        detection_page(
            f"Detection on {labelled.title}: {protocol}", parts, _command(), _limits(dataset, root, limit)
        ),
        output,
    )


@downstream.command(epilog="Example: ddfm downstream segmentation mfnet --root data/MFNet -o report")
def segmentation(
    dataset: DatasetArgument,
    root: RootOption,
    output: OutputOption,
    inputs: InputsOption = ALL,
    protocol: Annotated[str, typer.Option(help="retrained or evaluate-only.")] = "retrained",
    weights: WeightsOption = None,
    seeds: SeedsOption = 3,
    steps: StepsOption = None,
    limit: LimitOption = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure mean IoU of SegFormer, retrained for each input, or of given masks: background counted and not.

    Writes report.html and results.json.
    """
    from ddfm.downstream import segmentation as protocols
    from ddfm.downstream.layouts import SEGMENTATION, open_set
    from ddfm.downstream.pages import segmentation_page

    _check(protocol, PROTOCOLS[1:], seeds, limit)
    labelled = open_set(SEGMENTATION, dataset, root)
    if protocol == "evaluate-only":
        found = protocols.given(labelled, _folders(inputs), limit)
    else:
        found = protocols.retrained(
            labelled,
            _inputs(inputs, device),
            range(seeds),
            _recipe(protocols.RECIPE, steps),
            weights=weights,
            cached=_cache(cache, output),
            limit=limit,
            device=_device(device),
            progress=tell,
        )
    _write(
        segmentation_page(
            f"Segmentation on {labelled.title}: {protocol}", found, _command(), _limits(dataset, root, limit)
        ),
        output,
    )


@downstream.command(
    epilog="Example: ddfm downstream classification flir-crops --root data/flir_crops -o report"
)
def classification(
    dataset: DatasetArgument,
    root: RootOption,
    output: OutputOption,
    inputs: InputsOption = ALL,
    protocol: Annotated[str, typer.Option(help="retrained or evaluate-only.")] = "retrained",
    seeds: SeedsOption = 5,
    steps: StepsOption = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure the accuracy of a small network, retrained for each input, or of given classes.

    Classes are given as NAME=FILE, a CSV with the columns name (TIME/CLASS/STEM) and class. Day and
    night are judged apart. Writes report.html and results.json.
    """
    from ddfm.downstream import classification as protocols
    from ddfm.downstream.pages import classification_page

    _check(protocol, PROTOCOLS[1:], seeds, None)
    if dataset != "flir-crops":
        raise InputError(f"unknown dataset {dataset!r}; known here: flir-crops")
    if protocol == "evaluate-only":
        found = protocols.given(root, _folders(inputs))
    else:
        recipe = _recipe(protocols.RECIPE, steps)
        cached = _cache(cache, output)
        found = protocols.classify(root, _inputs(inputs, device), range(seeds), recipe, cached, tell)
    _write(classification_page(found, _command(), _limits(dataset, root, None)), output)


@datasets.command(epilog="Example: ddfm datasets synthesize night-drive -o night-drive -n 400")
def synthesize(
    name: Annotated[str, typer.Argument(help="night-drive.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder to write.")],
    count: Annotated[int, typer.Option("-n", "--count", help="Number of pairs.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the drawing.", min=0)] = 3407,
) -> None:
    """Draw a labelled set of visible and thermal streets, in MFNet's layout, with boxes in YOLO's."""
    from ddfm.downstream import night_drive

    if name != "night-drive":
        raise InputError(f"unknown set {name!r}; night-drive is the one that can be drawn")
    night_drive.synthesize(output, count, seed)
    say(f"{output}: {count} pairs, masks and boxes")


@datasets.command(epilog="Example: ddfm datasets check mfnet --root data/MFNet")
def check(
    name: Annotated[str, typer.Argument(help="fmb, llvip, m3fd, mfnet, msrs, night-drive or flir-crops.")],
    root: RootOption,
) -> None:
    """Say what a set lacks, a line each: folders, lists, labels, pairs of the published splits."""
    from ddfm.downstream.layouts import CHECKS

    if name not in CHECKS:
        raise InputError(f"unknown dataset {name!r}; known here: {', '.join(CHECKS)}")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; it should be where {name} lies")
    problems = CHECKS[name](root)
    for line in problems:
        say(line)
    if problems:
        raise typer.Exit(1)
    say(f"{root}: {name} is complete")


def _inputs(names: str, device: str) -> list[Input]:
    from ddfm.downstream.inputs import find_inputs

    return find_inputs(_split(names), device)


def _folders(names: str) -> dict[str, Path]:
    """Return the places of given predictions, NAME=PATH with commas between; raises InputError."""
    places = {}
    for part in _split(names):
        name, equals, place = part.partition("=")
        if not (name and equals and Path(place).exists()):
            raise InputError(f"{part}: with --protocol evaluate-only, inputs are NAME=PATH of predictions")
        places[name] = Path(place)
    return places


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _check(protocol: str, known: tuple[str, ...], seeds: int, limit: int | None) -> None:
    if protocol not in known:
        raise InputError(f"protocol {protocol!r}: must be one of {', '.join(known)}")
    if seeds < 1:
        raise InputError(f"seeds {seeds}: must be at least 1")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: must be at least 1")


def _recipe(recipe: DownstreamRecipe, steps: int | None) -> DownstreamRecipe:
    if steps is not None and steps < 1:
        raise InputError(f"steps {steps}: must be at least 1")
    return recipe if steps is None else replace(recipe, steps=steps)


def _device(name: str) -> str:
    from ddfm.devices import pick_device

    return str(pick_device(name))


def _cache(cache: Path | None, output: Path) -> Path:
    return cache or output / "cache"


def _command() -> str:
    return shlex.join(["ddfm", *sys.argv[1:]])


def _limits(dataset: str, root: Path, limit: int | None) -> list[str]:
    """Return what the numbers do not say: how they compare, how the set differs from the published one."""
    from ddfm.downstream.layouts import CHECKS

    lines = ["Models and recipes are this project's: numbers compare within this report only."]
    if limit is not None:
        lines.append(f"Only the first {limit} pairs of each split were taken.")
    name = "m3fd" if dataset.startswith("m3fd") else dataset  # its four names are of one set
    return lines + CHECKS[name](root)


def _write(page: Page, output: Path) -> None:
    """Write the report; print its tables."""
    from ddfm.downstream.report import markdown, write
    from ddfm.formats.atomic import prepare_folder

    prepare_folder(output)
    write(page, output)
    for table in page.tables:
        say(markdown(table))
    say(output / "report.html")
