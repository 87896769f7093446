"""Have groups of files worked on by several threads; bad ones are named at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

from ddfm.devices import ITEM_FAILURES, is_items_fault
from ddfm.errors import InputError, reason_of
from ddfm.jobs.matching import Group


@dataclass(frozen=True)
class Outcome:
    """Hold a group's result: the settings it was fused with, or the reason why it was not."""

    group: Group
    settings: dict[str, Any] | None = None
    failure: str | None = None


Work = Callable[[Sequence[Group], Event], list[Outcome]]
"""What is done with some groups at once, in one of several threads: they are read, fused and written, and
what goes wrong is put down. It looks at the event now and then: set, it says to raise KeyboardInterrupt."""


def run(
    groups: Sequence[Group],
    work: Work,
    *,
    workers: int = 1,
    batch: int = 1,
    prepare: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Work on all groups, each worker a few groups at a time; return their outcomes, in their order.

    Each worker reads, fuses and writes on its own, so one worker's I/O overlaps another's computing.

    Args:
        groups: in the order in which they are begun.
        work: done in the workers' threads.
        workers: how many there are.
        batch: how many groups are worked on at once.
        prepare: called in each worker's thread before anything else.

    Raises:
        KeyboardInterrupt: when the workers have stopped; what they had not begun is left out.
    """
    stop = Event()
    pool = ThreadPoolExecutor(workers, initializer=prepare)
    try:
        begun = [
            pool.submit(work, groups[first : first + batch], stop) for first in range(0, len(groups), batch)
        ]
        return [outcome for future in begun for outcome in future.result()]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


# What a single picture may fail by while the others go on; `reason` says which of them do.
FAILURES = ITEM_FAILURES


def reason(error: Exception) -> str:
    """Return in one line why a group failed.

    Raises:
        Exception: the error itself if not the group is to blame, but this program (see `is_items_fault`):
            that ends the run with its traceback.
    """
    if not is_items_fault(error):
        raise error
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {reason_of(error)}"
