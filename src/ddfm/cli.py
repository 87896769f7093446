"""The command line: parses, calls, prints. Exit 0 done, 1 some items failed, 2 bad usage or input."""

from __future__ import annotations

import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.images import Image
    from ddfm.prior import Prior

app = typer.Typer(
    help="Image fusion with a diffusion prior.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
convert = typer.Typer(help="Turn other projects' checkpoints into priors.", no_args_is_help=True)
app.add_typer(convert, name="convert")
stderr = Console(stderr=True)

ConventionOption = Annotated[str, typer.Option(help="Whose metric definitions: paper or vifb.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")]


def main() -> None:
    """Entry point of the ``ddfm`` command."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        if not error.format_message():  # the help was asked for, and has been printed
            sys.exit(2)
        fail(error.format_message())
    except InputError as error:
        fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    sys.exit(code)


def fail(message: str) -> None:
    """One plain line, exit status 2."""
    print(f"ddfm: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def show_version(wanted: bool) -> None:
    if wanted:
        from ddfm import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    # Nothing a user could act on comes out of the libraries' warnings and progress bars.
    warnings.filterwarnings("ignore")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@app.command(epilog="Example: ddfm fuse thermal.png visible.png -o fused.png")
def fuse(
    sources: Annotated[list[Path], typer.Argument(metavar="A B", help="Two image files, or two folders.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File or, for folders, folder to write.")],
    steps: Annotated[
        int | None,
        typer.Option(
            help="Network evaluations; 0 for the likelihood alone (form ddfm).",
            show_default="5 for form ddfm, 100 for the others",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the starting noise.")] = 3407,
    form: Annotated[str, typer.Option(help="Form of the likelihood: ddfm, released or paper.")] = "ddfm",
    task: Annotated[
        str, typer.Option(help="What the sources are: infrared, medical, exposure or focus.")
    ] = "infrared",
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="auto|off|S1,S2",
            help="Noise of the sources: found out, left alone, or given in 8-bit grey levels.",
            show_default="auto; off for task medical and the other forms",
        ),
    ] = None,
    stretch: Annotated[str, typer.Option(help="Contrast: auto (what the form does) or none.")] = "auto",
    scheduler: Annotated[str, typer.Option(help="ddim, ddpm or dpm++.")] = "ddim",
    prior: Annotated[
        str, typer.Option(help="Name, folder, .safetensors, .pt or hub id; see ddfm priors.")
    ] = "natural",
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="Of the network: float32, bfloat16 or float16.")] = "float32",
    resize: Annotated[bool, typer.Option("--resize", help="Resample sources whose sizes differ.")] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Folders: make finished outputs again instead of keeping them."),
    ] = False,
) -> None:
    """Fuse two aligned pictures of one scene, or all pairs of two folders.

    A is the first source (infrared, MRI, under-exposed, near), B the second (visible, PET,
    over-exposed, far). Luminance is fused, chroma comes from the source in colour; the result has
    the sources' size and the first one's bit depth. Files of folders are matched by name; outputs
    are PNG (TIFF for float samples), finished ones are kept, and a bad pair does not stop the rest.
    """
    if len(sources) != 2:
        raise InputError(f"two sources are needed, {len(sources)} given: ddfm fuse A B -o OUT")
    a, b = sources
    options: dict[str, Any] = {
        "steps": steps,
        "seed": seed,
        "form": form,
        "scheduler": scheduler,
        "task": task,
        "noise": parse_noise(noise),
        "stretch": stretch,
        "device": device,
        "dtype": dtype,
        "resize": resize,
    }
    for path in sources:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    if a.is_dir() != b.is_dir():
        raise InputError(f"{a} and {b}: two files or two folders are needed, not one of each")
    if a.is_dir():
        fuse_folders(a, b, output, prior, overwrite, options)
    else:
        fuse_files(a, b, output, prior, options)


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


def fuse_files(a: Path, b: Path, output: Path, prior: str, options: dict[str, Any]) -> None:
    """One pair, with a progress bar over the steps."""
    if output.exists() and any(output.samefile(path) for path in (a, b)):
        raise InputError(f"{output}: is one of the sources; name another output")
    start = time.perf_counter()
    model = checked_prior(prior, options)
    images = read_pair(a, b, options["resize"])
    check_output(output, images)
    with progress_bars() as bars:
        settings = fuse_one(images, output, model, options, bars)
    for path, level in zip((a, b), settings["denoised"], strict=True):
        if level:
            print(f"{path}: noise of {level:.1f} grey levels taken out", file=sys.stderr)
    height, width = images[0].size
    print(f"{output}: {width}x{height}, {images[0].depth}, {time.perf_counter() - start:.1f} s")


def fuse_folders(
    a: Path, b: Path, output: Path, prior: str, overwrite: bool, options: dict[str, Any]
) -> None:
    """All pairs; raises Exit(1) after naming those that failed."""
    from ddfm import batch
    from ddfm.images import prepare_folder

    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; two folders are fused into a folder")
    if output.exists() and any(output.samefile(path) for path in (a, b)):
        raise InputError(f"{output}: is one of the sources; name another output folder")
    pairs, lonely = batch.match_folders(a, b)
    model = checked_prior(prior, options)
    prepare_folder(output)
    for path in lonely:
        print(f"no partner: {path}", file=sys.stderr)
    todo = [pair for pair in pairs if overwrite or not batch.finished(pair, output)]
    if kept := len(pairs) - len(todo):
        print(
            f"{kept} of {len(pairs)} pairs finished before, kept (--overwrite makes them again)",
            file=sys.stderr,
        )
    with progress_bars() as bars:
        overall = bars.add_task("pairs", total=len(todo))

        def fuse_pair(pair: batch.Pair) -> None:
            try:
                images = read_pair(pair.a, pair.b, options["resize"])
                target = output / batch.output_name(pair, images[0].depth)
                check_output(target, images)
                fuse_one(images, target, model, options, bars)
            finally:
                bars.advance(overall)

        failed = batch.run(todo, fuse_pair)
    print(f"{output}: {len(todo) - len(failed)} fused, {kept} kept, {len(failed)} failed")
    for pair, reason in failed:
        print(f"failed: {pair.stem}: {' '.join(reason.split())}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def checked_prior(name: str, options: dict[str, Any]) -> Callable[[], Prior]:
    """What loads the prior once for all pairs and moves it where it will work, if it is needed.

    Raises InputError for bad options and, if the prior surely is needed, for one that will not do.
    """
    from functools import cache

    from ddfm.devices import pick_device, pick_dtype
    from ddfm.fusion import check_options, check_steps

    @cache
    def load() -> Prior:
        from ddfm.prior import load_prior

        return load_prior(name).to(pick_device(options["device"]), pick_dtype(options["dtype"]))

    check_options(**options)
    if options["steps"] != 0:
        check_steps(load(), options["form"], options["steps"])
    return load


def read_pair(a: Path, b: Path, resize: bool) -> list[Image]:
    from ddfm.images import read_image
    from ddfm.sources import match_sizes

    return match_sizes([read_image(a), read_image(b)], resize)


def check_output(output: Path, images: list[Image]) -> None:
    from ddfm.images import check_writable

    check_writable(output, images[0].depth, any(image.alpha is not None for image in images))


def fuse_one(
    images: list[Image], output: Path, prior: Callable[[], Prior], options: dict[str, Any], bars: Progress
) -> dict[str, Any]:
    """Fuse and write one pair, with a bar over its steps; returns what it was made with."""
    from ddfm.fusion import DEFAULT_STEPS
    from ddfm.fusion import fuse as fuse_images
    from ddfm.images import write_image

    steps = DEFAULT_STEPS[options["form"]] if options["steps"] is None else options["steps"]
    task = bars.add_task(output.name, total=steps)
    try:
        result = fuse_images(*images, prior=prior, callback=lambda step: bars.advance(task), **options)
    finally:
        bars.remove_task(task)
    write_image(output, result.image)
    return result.settings


def progress_bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_interactive,  # into a file it would write nothing but an empty line
    )


@app.command(epilog="Example: ddfm priors")
def priors(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """List the priors that --prior takes by name: bundled, cached from the hub, and to be had elsewhere."""
    import json

    from ddfm.prior import list_priors

    rows = list_priors()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['name']:<28} {row['where']:<8} {row['what']}")


@app.command(epilog="Example: ddfm evaluate --a ir --b vi --fused fused --json values.json")
def evaluate(
    a: Annotated[Path, typer.Option("--a", help="Folder of the first sources.")],
    b: Annotated[Path, typer.Option("--b", help="Folder of the second sources.")],
    fused: Annotated[list[Path], typer.Option(help="Folder of fused images; repeat it to compare methods.")],
    convention: ConventionOption = "paper",
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write values as JSON; - prints them.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write values as CSV.")
    ] = None,
) -> None:
    """Measure folders of fused images against their sources, files matched by name.

    With several --fused folders the methods are ranked as well; each goes by its folder's name.
    """
    from ddfm import evaluation
    from ddfm.metrics import check_convention

    for path in (json_file if json_file != "-" else None, csv_file):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise InputError(f"{path}: cannot be written ({Path(path).parent} is not a folder)")
        if path is not None and Path(path).is_dir():
            raise InputError(f"{path}: is a folder; name a file in it")
    result = evaluation.evaluate_folders(a, b, fused, check_convention(convention))
    if csv_file:
        evaluation.write_csv(result, csv_file)
    if json_file == "-":
        print(evaluation.as_json(result.as_dict()), end="")
        return
    if json_file:
        evaluation.write_json(result, Path(json_file))
    Console().print(evaluation.as_table(result))


@app.command(epilog="Example: ddfm benchmark tno --root data/tno -o report --methods ddfm,outputs/SeAFusion")
def benchmark(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="tno, roadscene, msrs, ...; or folder.")],
    root: Annotated[Path, typer.Option(help="Folder that the set lies in.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="REPORT_DIR", help="Folder to write.")],
    methods: Annotated[
        str, typer.Option(help="Names, and folders of others' outputs, with commas between.")
    ] = "ddfm",
    convention: ConventionOption = "paper",
    steps: Annotated[int | None, typer.Option(help="Network evaluations of ddfm.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take only the first pairs.")] = None,
    print_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare methods on a data set: report.html, results.json and results.csv in REPORT_DIR.

    Methods are ddfm, ddfm:released, ddfm:paper, mergemertens (exposures), trivial baselines (mean, max,
    stretched-mean, clipped-sum, mean-noise, a-only, b-only), and folders with one output a pair. The
    baselines are always in the table. An unknown DATASET gets a list of the known ones.
    """
    from ddfm import batch, datasets, evaluation
    from ddfm.benchmark import methods as comparable
    from ddfm.benchmark import report
    from ddfm.benchmark.run import run
    from ddfm.images import prepare_folder
    from ddfm.metrics import check_convention

    chosen, rules = datasets.get_dataset(dataset), check_convention(convention)
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: must be at least 1")
    pairs, lonely = batch.match_folders(*datasets.find_folders(chosen, root))
    pairs = pairs[:limit]
    names = [name.strip() for name in methods.split(",") if name.strip()]
    found = comparable.find_methods(names, chosen, [pair.stem for pair in pairs], steps=steps)
    prepare_folder(output)
    for path in lonely:
        print(f"no partner: {path}", file=sys.stderr)
    options = {"command": shlex.join(["ddfm", *sys.argv[1:]]), "seed": comparable.SEED, "limit": limit}
    with progress_bars() as bars:
        task = bars.add_task("images", total=len(pairs) * len(found))
        result = run(
            chosen, root, pairs, found, rules, options=options, progress=lambda method: bars.advance(task)
        )
    report.write(result, output)
    if print_json:
        print(evaluation.as_json(result.as_dict()), end="")
    else:
        ranks = result.evaluation.mean_rank or {}
        print("mean rank, best first")
        for name in sorted(ranks, key=lambda name: ranks[name]):
            print(f"{ranks[name]:9.2f}  {name}")
        print(f"{output / 'report.html'}: {len(pairs)} pairs, {len(found)} methods")
    for failure in result.failures:
        reason = " ".join(failure.reason.split())
        print(f"failed: {failure.stem}: {failure.method or 'sources'}: {reason}", file=sys.stderr)
    if result.failures:
        raise typer.Exit(1)


@app.command(epilog="Example: ddfm demo -o ddfm-demo")
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("ddfm-demo"),
    device: DeviceOption = "auto",
) -> None:
    """Fuse three scenes that the project draws itself: a night street, two focus distances, two exposures."""
    from ddfm import demo as demonstration

    sheet = demonstration.run(output, device, progress=lambda line: print(line, flush=True))
    print(f"Pictures are in {output.resolve()}; look at {sheet.resolve()}")


@convert.command(
    "guided-diffusion", epilog="Example: ddfm convert guided-diffusion 256x256_diffusion_uncond.pt -o openai"
)
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
    from ddfm import convert as converter

    settings = converter.read_config(config) if config else None
    prior = converter.convert_guided_diffusion(checkpoint, output, settings)
    print(f"{output}: {sum(p.numel() for p in prior.network.parameters()):,} parameters")


@app.command(epilog="Example: ddfm train photographs -o runs/natural --held-out photographs-val")
def train(
    images: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    held_out: Annotated[
        list[Path] | None, typer.Option(help="Photographs that are measured and never trained on.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Settings of the run, TOML.")] = None,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")] = False,
) -> None:
    """Train an unconditional luminance prior; it is left in OUTPUT/prior.

    Several GPUs or machines: torchrun --nproc-per-node N -m ddfm.cli train ... (the batch is shared out).
    """
    from ddfm import train as trainer
    from ddfm.devices import pick_device

    settings = trainer.read_recipe(recipe) if recipe else trainer.Recipe()

    def show(record: dict[str, Any]) -> None:
        left = (settings.steps - record["step"]) * settings.batch / record["images_per_second"] / 60
        line = (
            f"step {record['step']}/{settings.steps}  loss {record['loss']:.4f}  "
            f"{record['images_per_second']:.0f} images/s  {left:.0f} min left"
        )
        if "held_out" in record:
            losses = " ".join(f"{loss:.4f}" for loss in record["held_out"])
            print(f"{line}  held out {losses}", flush=True)
        else:
            live.update(line)

    with stderr.status("first steps") as live, trainer.process_group(str(pick_device(device))) as place:
        trainer.train(
            trainer.find_images(images),
            output,
            settings,
            held_out=trainer.find_images(held_out) if held_out else None,
            device=place,
            resume=resume,
            progress=show,
        )
    print(f"{output / 'prior'}: done")


if __name__ == "__main__":
    main()
