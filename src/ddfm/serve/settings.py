"""Hold what an operator decides about the service."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ddfm.errors import InputError

MIB = 2**20
LEAST_TOKEN = 16  # characters: shorter ones can be guessed
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hold what an operator decides; `ddfm serve --help` says what each of them means.

    Attributes:
        data: folder of jobs and results.
        host, port: to listen on.
        token: that every request has to bear; None for none, on loopback only.
        names: further host names that the service goes by, with or without a port.
        workers: processes that fuse.
        threads: of each worker; 0 for the cores shared out evenly.
        batch: jobs of one size and one set of options that are fused at once.
        max_files: sources of one job.
        max_upload: bytes of one request.
        max_pixels: of one file, all its pages or slices together.
        max_queue: jobs that wait.
        max_streams: event streams that are open at once.
        rate: requests a second of one client in the long run; 0 for any number.
        burst: requests at once of one client.
        body_seconds: for the whole of a request's body.
        idle_seconds: between two pieces of it.
        job_seconds: that a job may compute.
        keep_hours: finished jobs are kept for.
        keep_bytes: of all finished jobs together; the oldest go first.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    names: tuple[str, ...] = ()
    workers: int = 1
    threads: int = 0
    batch: int = 1
    max_files: int = 8
    max_upload: int = 128 * MIB
    max_pixels: int = 2**24
    max_queue: int = 256
    max_streams: int = 256
    rate: float = 20.0
    burst: int = 100
    body_seconds: float = 120.0
    idle_seconds: float = 15.0
    job_seconds: float = 900.0
    keep_hours: float = 24.0
    keep_bytes: int = 4096 * MIB

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            raise InputError(f"token: has {len(self.token)} characters; {LEAST_TOKEN} or more are needed")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise InputError("token: holds characters that a header cannot have; use letters and digits")
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"host {self.host}: others could use the service; set --token or DDFM_TOKEN, or listen on "
                "127.0.0.1"
            )
        for name in ("workers", "batch", "max_upload", "max_pixels", "max_queue", "max_streams", "burst"):
            if getattr(self, name) < 1:
                raise InputError(f"{name.replace('_', '-')} {getattr(self, name)}: must be 1 or more")
        if self.max_files < 2:
            raise InputError(f"max-files {self.max_files}: must be 2 or more")

    def as_json(self) -> str:
        """Return the settings as text, for a worker; without the token, which it does not need."""
        return json.dumps(asdict(self) | {"data": str(self.data), "token": None, "host": "127.0.0.1"})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings that `as_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"data": Path(values["data"]), "names": tuple(values["names"])})

    @property
    def known_hosts(self) -> frozenset[str] | None:
        """Return the host names that requests may name; None for any, where a token is demanded."""
        if self.token is not None and not self.names and not is_loopback(self.host):
            return None
        own = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset(name.lower() for name in (*LOCAL_NAMES, own, *self.names))


def is_loopback(host: str) -> bool:
    """Tell whether a host to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
