"""Work on one group in a process of its own: ``python -m ddfm.jobs.alone ANSWER < ORDER``."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from threading import Event

from ddfm.jobs.work import Worker
from ddfm.threads import use_threads


def main() -> None:
    """Read the order, which the run that started this process wrote, and write the outcome."""
    job, item, threads = pickle.load(sys.stdin.buffer)
    worker = Worker(job, "a process of its own")
    worker.threads = threads
    if worker.on_cpu:
        use_threads(1)
    (outcome,) = worker([item], Event())
    Path(sys.argv[1]).write_bytes(pickle.dumps(outcome))


if __name__ == "__main__":
    main()
