"""What the service does under load: 200 clients at once for a minute, and a kill in the middle.

    python benchmarks service_load [--only PART ...] [--clients N] [--seconds S] [--output FILE]

Each client sends small pairs (96 x 96, the street of `ddfm demo`, cut elsewhere for each request), one
after another, and asks once a second until the job is over. The queue holds 100 jobs; who is answered 429
waits as long as he is told, but 5 seconds at most. In the first run nothing else happens. In the second one
the server is killed (SIGKILL) halfway and started anew on the same folder; clients send again what was not
answered, with the same key. Counted are: requests by answer, jobs accepted, done, lost (accepted and never
done) and doubled (one key, two jobs), seconds until a result, and memory of the server and its workers
together, every half second. Results are compared with `ddfm fuse` for some of the jobs, byte by byte.

The parts are the two runs. Written to results/service_load.json.
"""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from common import measure_parts, script_parser
from PIL import Image

from ddfm.demo.scenes import night

SIDE, CHECKED, MOVES = 96, 5, 20
OPTIONS = '{"task": "infrared", "steps": 1}'
SETTLE_SECONDS = 600  # that what was accepted may take at the end


@dataclass
class Tally:
    """Hold what was counted."""

    answers: Counter[str] = field(default_factory=Counter)
    jobs: dict[str, str] = field(default_factory=dict)  # key to id
    states: dict[str, str] = field(default_factory=dict)  # id to state
    doubled: int = 0
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    refused_connections: int = 0


class Server:
    """Run the service on a fixed port."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self) -> float:
        """Start it; return the seconds until it says that it is ready."""
        began = time.perf_counter()
        command = [sys.executable, "-m", "ddfm.cli", "serve", "--rate", "0", "--max-queue", "100"]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--data", str(self.data)], stdout=subprocess.DEVNULL
        )
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200:
                    return time.perf_counter() - began
            except httpx.TransportError:
                time.sleep(0.02)

    def memory(self) -> int:
        """Return the resident bytes of the server and its workers."""
        try:
            server = psutil.Process(self.process.pid)
            return sum(process.memory_info().rss for process in (server, *server.children()))
        except psutil.Error:
            return 0

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def pairs() -> list[tuple[bytes, bytes]]:
    """Return pairs of PNG files, cut from the street at night."""
    scene, made = night(), []
    rng = np.random.default_rng(3407)
    for _ in range(32):
        x, y = (int(rng.integers(0, side - SIDE)) for side in scene.a.size)
        two = []
        for picture in (scene.a, scene.b):
            buffer = io.BytesIO()
            picture.crop((x, y, x + SIDE, y + SIDE)).save(buffer, "PNG")
            two.append(buffer.getvalue())
        made.append((two[0], two[1]))
    return made


async def submit(
    client: httpx.AsyncClient, pair: tuple[bytes, bytes], key: str, tally: Tally, end: float
) -> str:
    """Send a pair until it is accepted or time is over; return the job's id, or nothing."""
    files = [("files", (name, data)) for name, data in zip(("thermal.png", "visible.png"), pair, strict=True)]
    while time.monotonic() < end:
        try:
            answer = await client.post(
                "/v1/fusions", files=files, data={"options": OPTIONS}, headers={"Idempotency-Key": key}
            )
        except httpx.TransportError:
            tally.refused_connections += 1
            await asyncio.sleep(0.5)
            continue
        tally.answers[str(answer.status_code)] += 1
        if answer.status_code == 202:
            id_ = str(answer.json()["id"])
            tally.doubled += tally.jobs.setdefault(key, id_) != id_
            return id_
        if answer.status_code != 429:
            return ""
        await asyncio.sleep(min(float(answer.headers["retry-after"]), 5.0))
    return ""


async def finished(client: httpx.AsyncClient, id_: str, end: float) -> str:
    """Return a job's state when it is over, or when time is."""
    while time.monotonic() < end:
        try:
            state = str((await client.get(f"/v1/fusions/{id_}")).json()["state"])
            if state not in ("queued", "running"):
                return state
        except httpx.TransportError:
            pass
        await asyncio.sleep(1.0)
    return "unknown"


async def one_client(
    client: httpx.AsyncClient, made: list[tuple[bytes, bytes]], tally: Tally, end: float
) -> None:
    """Fuse pairs one after another until time is over."""
    k = secrets.randbelow(len(made))
    while time.monotonic() < end:
        began, key = time.monotonic(), f"{k % len(made)}-{secrets.token_hex(8)}"
        id_ = await submit(client, made[k % len(made)], key, tally, end)
        if id_:
            tally.states[id_] = await finished(client, id_, end + SETTLE_SECONDS)
            tally.seconds.append(time.monotonic() - began)
        k += 1


async def load(server: Server, clients: int, seconds: float, kill: bool) -> Tally:
    """Have so many clients ask for so long; kill the server halfway if that is wanted."""
    tally, made = Tally(), pairs()
    end = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    base = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=base, timeout=120, limits=limits, trust_env=False) as client:
        asking = [asyncio.create_task(one_client(client, made, tally, end)) for _ in range(clients)]
        killed = not kill
        while not all(task.done() for task in asking):
            await asyncio.sleep(0.5)
            tally.memory.append(server.memory())
            if not killed and time.monotonic() > end - seconds / 2:
                killed = True
                server.process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(server.process.wait)
                await asyncio.to_thread(server.start)
        await asyncio.gather(*asking)
    return tally


def slider_seconds(server: Server) -> dict[str, float]:
    """Return the seconds until the balance slider shows another picture, of a pair of 480 x 640."""
    scene, files = night(), []
    for name, picture in (("thermal.png", scene.a), ("visible.png", scene.b)):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        files.append(("files", (name, buffer.getvalue())))
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=120, trust_env=False) as client:
        place = client.post("/v1/fusions", files=files, data={"options": OPTIONS}).headers["location"]
        while client.get(place).json()["state"] != "done":
            time.sleep(0.1)
        taken = []
        for balance in np.linspace(0, 1, MOVES + 1):
            began = time.perf_counter()
            client.post(f"{place}/previews", json={"balance": float(balance)}).raise_for_status()
            taken.append(round(time.perf_counter() - began, 2))
    return {"first": taken[0], "median": statistics.median(taken[1:]), "most": max(taken[1:])}


def check_bytes(server: Server, tally: Tally, folder: Path) -> int:
    """Count the results, of some, that are the bytes of `ddfm fuse`."""
    made, same = pairs(), 0
    done = [(key, id_) for key, id_ in tally.jobs.items() if tally.states.get(id_) == "done"]
    for key, id_ in done[:CHECKED]:
        result = httpx.get(f"http://127.0.0.1:{server.port}/v1/fusions/{id_}/result").content
        names = [folder / "thermal.png", folder / "visible.png"]
        for name, data in zip(names, made[int(key.split("-")[0])], strict=True):
            name.write_bytes(data)
        command = [
            "fuse",
            *map(str, names),
            "-o",
            str(folder / "own.png"),
            "--task",
            "infrared",
            "--steps",
            "1",
        ]
        subprocess.run([sys.executable, "-m", "ddfm.cli", *command], check=True, capture_output=True)
        same += (folder / "own.png").read_bytes() == result
        assert Image.open(io.BytesIO(result)).size == (SIDE, SIDE)
    return same


def summary(tally: Tally, clients: int, seconds: float) -> dict[str, Any]:
    """Return a run's numbers."""
    states = Counter(tally.states.values())
    waited = sorted(tally.seconds)
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": dict(tally.answers),
        "connections_refused_while_it_was_down": tally.refused_connections,
        "accepted": len(tally.jobs),
        "states": dict(states),
        "lost": len(tally.jobs) - states["done"],
        "doubled": tally.doubled,
        "seconds_to_result": {
            "median": round(statistics.median(waited), 2), "95 %": round(waited[int(0.95 * len(waited))], 2),
        },
        "memory_mib": {
            "first_quarter": round(max(tally.memory[: len(tally.memory) // 4]) / 2**20),
            "most": round(max(tally.memory) / 2**20),
        },
    }  # fmt: skip


def measure(clients: int, seconds: float, kill: bool) -> dict[str, Any]:
    """Return the numbers of one run, on a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data")
        started = server.start()
        try:
            tally = asyncio.run(load(server, clients, seconds, kill))
            same = check_bytes(server, tally, Path(folder))
            slider = slider_seconds(server)
        finally:
            server.stop()
    return summary(tally, clients, seconds) | {
        "seconds_to_ready": round(started, 2),
        "seconds_to_move_the_slider": slider,
        "same_bytes_as_the_command": f"{same} of {CHECKED}",
    }


def main() -> None:
    runs = {"undisturbed": False, "killed halfway": True}
    parser = script_parser(__doc__, "service_load.json", parts=tuple(runs))
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    others = round(os.getloadavg()[0], 1)  # before any run adds to it
    measure_parts(
        {name: partial(measure, arguments.clients, arguments.seconds, kill) for name, kill in runs.items()},
        arguments.output,
        arguments.only,
        facts=lambda: {"cores": os.cpu_count(), "load_of_others": others},
    )


if __name__ == "__main__":
    main()
