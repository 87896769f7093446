"""Tell those who wait for jobs that something changed, by one look at the database for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from ddfm.serve.folders import Folders
from ddfm.serve.store import Store

LOOK_SECONDS = 0.05


class Feed:
    """Look at the database's version as long as anybody waits."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.changed = asyncio.Event()
        self.listeners = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """End all waits."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        store = Store(self.folders.database)  # its own: a connection does not see its own changes
        try:
            before = store.version()
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                if (now := store.version()) != before:
                    before = now
                    self.changed.set()
                    self.changed = asyncio.Event()
        finally:
            store.close()

    async def changes(self, longest: float) -> AsyncGenerator[bool, None]:
        """Yield at once, and whenever something changed (True) or ``longest`` seconds passed (False)."""
        self.listeners += 1
        try:
            changed = True
            while True:
                event = self.changed
                yield changed
                try:
                    await asyncio.wait_for(event.wait(), longest)
                    changed = True
                except TimeoutError:
                    changed = False
        finally:
            self.listeners -= 1
