"""The command line. Exit 0 done, 1 some items failed, 2 bad usage or input."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from ddfm.commands.demo import demo
from ddfm.commands.downstream import datasets, downstream
from ddfm.commands.fuse import fuse
from ddfm.commands.info import info
from ddfm.commands.measure import benchmark, evaluate
from ddfm.commands.priors import convert_guided_diffusion, priors, train
from ddfm.commands.serve import serve
from ddfm.commands.terminal import prepare_streams, say, tell
from ddfm.commands.video import video
from ddfm.errors import InputError, one_line

app = typer.Typer(
    help="Image fusion with a diffusion prior.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
convert = typer.Typer(help="Turn other projects' checkpoints into priors.", no_args_is_help=True)


def main() -> None:
    """Run the ``ddfm`` command.

    What is wrong with a file, an option or a disk is one plain line and exit status 2. Anything else that is
    raised is a fault of this program, and keeps its traceback.
    """
    prepare_streams()
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
    """Print one plain line and exit with status 2."""
    tell(f"ddfm: {one_line(message)}")
    sys.exit(2)


def show_version(wanted: bool) -> None:
    """Print the version and exit, if wanted."""
    if wanted:
        from ddfm.version import own_version

        say(own_version())
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Pixels that a file may have, all its pages or slices together.",
            show_default="134217728",
        ),
    ] = None,
) -> None:
    if max_pixels is not None:
        from ddfm.formats.limits import set_max_pixels

        set_max_pixels(max_pixels)
    # Nothing a user could act on comes out of the libraries' warnings and progress bars; what the
    # fusion logs, the commands print.
    warnings.filterwarnings("ignore")
    logging.getLogger("ddfm").setLevel(logging.ERROR)
    for library in ("tifffile", "nibabel", "nibabel.global", "pydicom", "libav"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


app.command(epilog="Example: ddfm fuse thermal.png visible.png -o fused.png")(fuse)
app.command(epilog="Example: ddfm video thermal.mp4 visible.mp4 -o fused.mp4")(video)
app.command(epilog="Example: ddfm info thermal.tif scan.nii.gz")(info)
app.command(epilog="Example: ddfm priors")(priors)
app.command(epilog="Example: ddfm evaluate --a ir --b vi --fused fused --json values.json")(evaluate)
app.command(epilog="Example: ddfm benchmark tno --root data/tno -o report --methods ddfm,outputs/SeAFusion")(
    benchmark
)
app.command(epilog="Example: ddfm demo -o ddfm-demo")(demo)
app.command(epilog="Example: ddfm serve --port 8000 --data jobs")(serve)
app.command(epilog="Example: ddfm train photographs -o runs/natural --held-out photographs-val")(train)
app.add_typer(convert, name="convert")
app.add_typer(downstream, name="downstream")
app.add_typer(datasets, name="datasets")
convert.command(
    "guided-diffusion", epilog="Example: ddfm convert guided-diffusion 256x256_diffusion_uncond.pt -o openai"
)(convert_guided_diffusion)

if __name__ == "__main__":
    main()
