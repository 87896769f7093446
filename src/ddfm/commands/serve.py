"""`ddfm serve`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddfm.commands.importing import importing
from ddfm.commands.terminal import say
from ddfm.errors import InputError

if TYPE_CHECKING:
    from ddfm.serve.settings import Settings

MIB = 2**20


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 8000,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that fuse.")] = 1,
    data: Annotated[Path, typer.Option(help="Folder of jobs and results.")] = Path("ddfm-data"),
    token: Annotated[
        str | None,
        typer.Option(
            envvar="DDFM_TOKEN", help="Demand this bearer token of every request.", show_envvar=True
        ),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Host name the service goes by, too. Repeatable.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="Threads of each worker.", show_default="the cores, shared out"),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Jobs of one size that are fused at once.")] = 1,
    max_files: Annotated[int, typer.Option(metavar="N", help="Sources of one job.")] = 8,
    max_upload: Annotated[int, typer.Option(metavar="MIB", help="Size of one request.")] = 128,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", help="Pixels of a file, all its pages or slices together.")
    ] = 2**24,
    max_queue: Annotated[int, typer.Option(metavar="N", help="Jobs that wait.")] = 256,
    rate: Annotated[float, typer.Option(help="Requests a second of one client; 0 for any number.")] = 20.0,
    job_seconds: Annotated[float, typer.Option(help="Time that a job may compute.")] = 900.0,
    keep_hours: Annotated[float, typer.Option(help="Time that finished jobs are kept.")] = 24.0,
    keep_size: Annotated[int, typer.Option(metavar="MIB", help="Size of all finished jobs.")] = 4096,
) -> None:
    """Serve fusion over HTTP, with a page to use it by.

    Jobs lie in the data folder: a restart, or a kill, loses none that was accepted.
    """
    from ddfm.serve.settings import Settings

    settings = Settings(
        data=data,
        host=host,
        port=port,
        token=token or None,
        names=tuple(name or ()),
        workers=workers,
        threads=threads or threads_each(workers),
        batch=batch,
        max_files=max_files,
        max_upload=max_upload * MIB,
        max_pixels=max_pixels,
        max_queue=max_queue,
        rate=rate,
        job_seconds=job_seconds,
        keep_hours=keep_hours,
        keep_bytes=keep_size * MIB,
    )
    run(settings)


def threads_each(workers: int) -> int:
    """Return the threads of each worker: as many as `ddfm fuse` has, shared out."""
    from ddfm.cores import allowed_cores

    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return max(1, int(wanted) // max(1, workers))
    return max(1, len(allowed_cores()) // max(1, workers))


def run(settings: Settings) -> None:
    """Serve until a signal ends it. Raises InputError if the address cannot be had."""
    with importing():
        try:
            from ddfm.serve.app import create_app
            from ddfm.serve.listening import listen, serve_on
        except ImportError as error:
            raise InputError("ddfm serve needs fastapi and uvicorn: pip install 'ddfm[serve]'") from error

    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("ddfm.serve").setLevel(logging.WARNING)  # workers that died, say
    socket = listen(settings.host, settings.port)
    app = create_app(settings)
    address = socket.getsockname()
    say(f"http://{settings.host}:{address[1]} (data in {settings.data.resolve()}); Ctrl-C ends it")
    serve_on(socket, app)
