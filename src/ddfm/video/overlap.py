"""Reading, fusing and writing at the same time: each on a thread of its own, a few frames apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

WAITING = 2  # frames between two threads, so that neither has to wait for the other's slower ones

Item = TypeVar("Item")


def prefetch(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items, made on another thread while those before are used; its errors come in their place."""
    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, items, end) for _ in range(WAITING))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]  # whatever is not the end is an item


class Behind:
    """Calls functions on another thread, one after the other, while the caller goes on.

    Used as a context, which is left when all is done. What a call raises comes out of a later one, or at
    the end.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread.shutdown()
        if kind is None:
            for call in self.waiting:
                call.result()

    def __call__(self, function: Callable[..., object], *arguments: Any) -> None:
        self.waiting.append(self.thread.submit(function, *arguments))
        while len(self.waiting) > WAITING:
            self.waiting.popleft().result()
