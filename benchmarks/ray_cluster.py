"""A Ray cluster on this machine's loopback, with authentication, for measurements and tests."""

from __future__ import annotations

import json
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
# Ray takes 127.0.0.1 for a mistake on Linux, and listens on all interfaces instead. It starts a process for a
# page that nobody looks at, too, while a raylet gives its own processes only 15 seconds to start.
START = """
from ray._private import services
services.resolve_ip_for_localhost = lambda host: host
services.start_api_server = lambda *arguments, **named: (None, None)
from ray.scripts.scripts import main
main()
"""
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
)
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
        where = [f"--address={self.address}"] if self.nodes else self._head()
        before = set(self.raylets())
        self._start([*where, "--num-cpus=1"], {ONE_MACHINE: "1"})
        (raylet,) = set(self.raylets()) - before
        self.nodes.append(raylet)
        return raylet

    def start_autoscaling(self, most: int, idle: float) -> None:
        """Start a head without processors, and Ray's autoscaler, which starts nodes of one when asked.

        Args:
            most: nodes beside the head.
            idle: seconds without work after which a node is taken away.
        """
        kinds = {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": STORE},
                "node_config": {},
                "min_workers": 0,
                "max_workers": most,
            },
        }
        config: dict[str, object] = {
            "cluster_name": "loopback",
            "max_workers": most,
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": idle / 60,
            "provider": {  # of raylets on this machine, which nobody logs in to
                "type": "fake_multinode",
                "gcs_address": self.address,
                "disable_node_updaters": True,
                "use_node_id_as_ip": True,  # else it takes nodes of one address for one node
            },
            "available_node_types": kinds,
            "head_node_type": "ray.head.default",
        }
        config |= {name: {} for name in ("auth", "docker", "file_mounts")}  # Ray fails without these
        config |= {name: [] for name in COMMANDS}
        path = self.folder / "autoscaling.json"
        path.write_text(json.dumps(config))
        start = [*self._head(), "--num-cpus=0", f"--autoscaling-config={path}"]
        self._start(start, {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"})
        self.nodes += self.raylets()

    def raylets(self) -> list[int]:
        """Process ids of the raylets that run now, the head's among them."""
        return [process.pid for process in self._own() if process.name() == "raylet"]

    def stop(self) -> None:
        """End every process of this cluster, and no other one."""
        for process in self._own():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def _head(self) -> list[str]:
        """The arguments that only the first node has."""
        port, folder = self.address.split(":")[1], self.folder / "ray"
        return ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]

    def _start(self, arguments: list[str], environment: dict[str, str]) -> None:
        """Start a node on loopback."""
        common = [f"--node-ip-address={HOST}", "--num-gpus=0", "--disable-usage-stats"]
        common.append("--include-log-monitor=false")
        subprocess.run(
            [sys.executable, "-c", START, "start", *arguments, *common, f"--object-store-memory={STORE}"],
            env={**self.environment, **environment},
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE,
        )

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
    """A cluster for the block; it is always stopped. Without nodes, whoever has it starts the head."""
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
