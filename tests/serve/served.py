"""A service to test: a real server process with real workers, and a client for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.conftest import picture

HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy")
PATIENCE = 240.0  # seconds: for a machine with much other work


class Served:
    """A running server and a client of it."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self.options = data, options
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "ddfm.cli", "serve", "--port", "0", "--rate", "0"]
        self.process = subprocess.Popen(
            [*command, "--data", str(self.data), *self.options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        line = self.process.stdout.readline()  # printed once the socket listens
        assert line.startswith("http://"), line
        self.address = line.split()[0]
        self.client = httpx.Client(base_url=self.address, timeout=PATIENCE, trust_env=False)

    def kill(self) -> None:
        """End the server as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self._close()

    def stop(self) -> None:
        self.process.terminate()
        self._close()

    def _close(self) -> None:
        self.client.close()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def fuse(self, *files: Path, key: str | None = None, **options: Any) -> httpx.Response:
        sent = [("files", (path.name, path.read_bytes())) for path in files]
        headers = {"Idempotency-Key": key} if key else {}
        data = {"options": json.dumps(options)}
        return self.client.post("/v1/fusions", files=sent, data=data, headers=headers)

    def over(self, place: str) -> dict[str, Any]:
        """Wait for a job to be over."""
        return until(lambda: (job := self.client.get(place).json())["state"] in
                     ("done", "failed", "cancelled") and job)  # fmt: skip


def until(condition: Any) -> Any:
    """Return what a condition gives once it gives something; look now and then, and not for ever."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


@contextmanager
def served(data: Path, *options: str) -> Iterator[Served]:
    server = Served(data, *options)
    try:
        yield server
    finally:
        server.stop()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The process ids of a server's workers for fusions."""
    import psutil

    children = psutil.Process(process.pid).children()
    return [child.pid for child in children if "worker-1" in " ".join(child.cmdline())]


def write_pair(folder: Path, height: int = 64, width: int = 80, seed: int = 0) -> tuple[Path, Path]:
    """A grey and a colour picture of one size."""
    thermal, visible = folder / f"thermal{seed}.png", folder / f"visible{seed}.png"
    Image.fromarray(picture(height, width, 1, np.uint8, seed)).save(thermal)
    Image.fromarray(picture(height, width, 3, np.uint8, seed + 1)).save(visible)
    return thermal, visible


def check_problem(response: httpx.Response, *statuses: int, secrets: Sequence[str] = ()) -> str:
    """A refusal is a problem of one of these statuses, and tells nothing of the server."""
    assert response.status_code in statuses, (response.status_code, response.text[:500])
    assert response.headers["content-type"] == "application/problem+json", response.headers
    body = response.json()
    assert body["status"] == response.status_code
    for secret in (*secrets, "Traceback", os.sep + "site-packages", "ddfm/serve", "--max-pixels"):
        assert secret not in response.text, response.text
    return str(body["detail"])
