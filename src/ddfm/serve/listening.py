"""Listen, and let no client hold a connection without asking for anything."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ddfm.errors import InputError, reason_of

HEADER_SECONDS = 10.0  # for the first request's headers
BACKLOG = 1024
GRACE_SECONDS = 5


class PatientProtocol(H11Protocol):
    """Close a connection whose first request does not come in time; uvicorn itself would wait for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(HEADER_SECONDS, self.close_unless_asked)

    def close_unless_asked(self) -> None:
        """Close the connection if no whole request has come."""
        if self.scope is None and not self.transport.is_closing():
            self.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises InputError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"{host}:{port}: cannot be listened on ({reason_of(error)})") from error
    return opened


def serve_on(opened: socket.socket, app: Any) -> None:
    """Serve an application until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run([opened])
