"""A Ray cluster of two nodes on this machine's loopback, with authentication, for measurements and tests."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

HOST = "127.0.0.1"
STORE = 100_000_000  # bytes of each node's object store
ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: drivers look for nodes on loopback
# Ray takes 127.0.0.1 for a mistake on Linux, and listens on all interfaces instead.
START = """
from ray._private import services
services.resolve_ip_for_localhost = lambda host: host
from ray.scripts.scripts import main
main()
"""
PATIENCE = 180  # seconds, for anything that Ray is asked to do


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class RayCluster:
    """Nodes that are started one by one and can be killed; each is a raylet with one processor to lend."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"{HOST}:{free_port()}"
        (folder / "home").mkdir(parents=True)
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            ONE_MACHINE: "0",
            "HOME": str(folder / "home"),  # where Ray leaves a folder
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
        }
        self.nodes: list[int] = []

    def add_node(self) -> int:
        """Start a node, the head first; the process id of its raylet."""
        own = ["--head", f"--port={self.address.split(':')[1]}", "--include-dashboard=false"]
        own.append(f"--temp-dir={self.folder / 'ray'}")
        where = [f"--address={self.address}"] if self.nodes else own
        before = set(self._raylets())
        common = [f"--node-ip-address={HOST}", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats"]
        subprocess.run(
            [sys.executable, "-c", START, "start", *where, *common, f"--object-store-memory={STORE}"],
            env={**self.environment, ONE_MACHINE: "1"},
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
        (raylet,) = set(self._raylets()) - before
        self.nodes.append(raylet)
        return raylet

    def stop(self) -> None:
        """End every process of this cluster, and no other one."""
        for process in self._own():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def _raylets(self) -> list[int]:
        return [process.pid for process in self._own() if process.name() == "raylet"]

    def _own(self) -> Iterator[psutil.Process]:
        """The processes that were started with this cluster's token."""
        token = self.environment["RAY_AUTH_TOKEN"]
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get("RAY_AUTH_TOKEN") == token:
                    yield process
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue


@contextmanager
def ray_cluster(nodes: int) -> Iterator[RayCluster]:
    """A cluster for the block; it is always stopped."""
    # Not in pytest's folder: the paths of Ray's sockets may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ddfm-ray-", ignore_cleanup_errors=True) as folder:
        cluster = RayCluster(Path(folder))
        try:
            for _ in range(nodes):
                cluster.add_node()
            yield cluster
        finally:
            cluster.stop()


def kill(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} does not end")
        time.sleep(0.05)
