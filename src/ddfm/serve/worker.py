"""Run one worker process: take jobs, do them, say how they went.

    python -m ddfm.serve.worker NAME LANE < settings

The first line of its standard input has the settings. When that input ends, its server is gone, however it
went, and the worker ends at once: what it held is another one's then.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from ddfm.errors import InputError
from ddfm.serve.content import DICOM, quiet_pydicom
from ddfm.serve.folders import Folders
from ddfm.serve.problems import for_clients
from ddfm.serve.settings import Settings
from ddfm.serve.store import Job, Lane, Store

if TYPE_CHECKING:
    from ddfm.serve.work import Workshop

IDLE_SECONDS = 0.03  # between two looks for a job


def end_with_server() -> None:
    """End this process when the server does."""
    sys.stdin.read()
    os._exit(0)


def do(workshop: Workshop, jobs: Sequence[Job], store: Store) -> None:
    """Do jobs that were claimed together; their failures are theirs, and no reason to stop."""
    from ddfm.devices import is_items_fault
    from ddfm.jobs.work import reason
    from ddfm.serve.work import LostError

    try:
        kind = jobs[0].kind
        if kind == "preview":
            workshop.preview(jobs[0])
        elif kind == "evaluation":
            workshop.evaluate(jobs[0])
        elif jobs[0].request["volume"]:
            workshop.fuse_volumes(jobs[0])
        else:
            workshop.fuse(jobs)
    except LostError:
        pass
    except Exception as error:
        if len(jobs) > 1:  # one of them is to blame, or they are too many
            for job in jobs:
                do(workshop, [job], store)
            return
        if is_items_fault(error):
            names = {
                workshop.folders.jobs / str(jobs[0].request.get("fusion", jobs[0].id)) / s["file"]: s["name"]
                for s in jobs[0].request.get("sources", [])
            }
            shown = reason(error) if isinstance(error, InputError) else "not enough memory, or disk, for it"
            store.fail(jobs[0], for_clients(shown, names))
        else:  # a fault of this program: its trace is for the operator
            report(error, jobs[0])
            store.fail(jobs[0], "an error of the service itself; its operator finds the trace in the log")


def report(error: Exception, job: Job) -> None:
    """Print where an error came from; its text only if it cannot quote a patient's data."""
    if any(source["kind"] == DICOM for source in job.request.get("sources", [])):
        traceback.print_tb(error.__traceback__)
        print(type(error).__name__, file=sys.stderr)
    else:
        traceback.print_exception(error)


def run(name: str, lane: Lane, settings: Settings) -> None:
    """Take and do jobs for ever."""
    import torch

    from ddfm.formats.limits import set_max_pixels
    from ddfm.serve.work import Workshop

    logging.getLogger("ddfm").setLevel(logging.ERROR)
    quiet_pydicom()
    set_max_pixels(settings.max_pixels)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    folders = Folders(settings.data)
    store = Store(folders.database, durable=False)
    workshop = Workshop(store, folders)
    print("ready", flush=True)
    while True:
        jobs = store.claim(name, lane, settings.batch)
        if jobs:
            do(workshop, jobs, store)
        else:
            time.sleep(IDLE_SECONDS)


def main() -> None:
    """Read the settings and run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends its workers
    settings = Settings.from_json(sys.stdin.readline())
    threading.Thread(target=end_with_server, daemon=True).start()
    run(sys.argv[1], cast("Lane", sys.argv[2]), settings)


if __name__ == "__main__":
    main()
