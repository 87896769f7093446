"""Stand before the application: who may ask, how often, how much and how slowly.

Checks that need no body come first, so that nothing is read for those who may not ask.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from ddfm.serve.problems import Problem, answer
from ddfm.serve.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_CLIENTS = 10_000  # whose rates are remembered
MOST_SMALL_BODY = 64 * 2**10  # bytes, of everything but uploads
DRAIN_SECONDS, DRAIN_BYTES = 2.0, 16 * 2**20  # of a body that is refused
UPLOADS = ("/v1/fusions", "/v1/evaluations")
WITHOUT_TOKEN, PAGE = ("/healthz", "/readyz", "/", "/openapi.json"), "/page/"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Rates:
    """Count requests by client, as buckets that fill with time."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Count a request; return the seconds until there is one left, 0 if there was."""
        if self.rate <= 0:
            return 0.0
        now = self.clock()
        left, before = self.buckets.pop(client, (float(self.burst), now))
        left = min(float(self.burst), left + self.rate * (now - before))
        allowed = left >= 1
        self.buckets[client] = (left - 1 if allowed else left, now)
        if len(self.buckets) > MOST_CLIENTS:
            self.buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self.rate


class Guard:
    """Wrap an ASGI application."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.rates = Rates(settings.rate, settings.burst)
        self.bearer = None if settings.token is None else f"Bearer {settings.token}".encode("latin-1")
        self.known_hosts = settings.known_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            return
        started = False

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given),
                ]
            await send(message)

        headers = dict(scope["headers"])
        try:
            self.check(scope, headers)
            await self.app(scope, self.limited(scope, headers, receive), send_safely)
        except Problem as problem:
            if not started:
                await drain(headers, receive)
                response = answer(problem.status_code, problem.detail, problem.headers)
                await response(scope, receive, send_safely)

    def check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raise Problem for what needs no body to be refused."""
        path, client = scope["path"], (scope.get("client") or ("unknown", 0))[0]
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.known_hosts is not None and not (host in self.known_hosts or bare(host) in self.known_hosts):
            raise Problem(421, "the service does not go by that host name")
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1").lower()).netloc != host:
            raise Problem(403, "requests from other sites' pages are refused")
        if path in ("/healthz", "/readyz"):
            return
        if wait := self.rates.wait(client):
            raise Problem(429, "too many requests; wait a little", {"Retry-After": str(1 + int(wait))})
        if self.bearer is not None and not is_open(path):
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self.bearer):
                raise Problem(401, "a bearer token is needed", {"WWW-Authenticate": 'Bearer realm="ddfm"'})
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self.most(path):
            raise Problem(413, f"a body of more than {self.most(path)} bytes", {"Connection": "close"})

    def most(self, path: str) -> int:
        """Return how many bytes a body may have."""
        return self.settings.max_upload if path in UPLOADS else MOST_SMALL_BODY

    def limited(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """Return a receiver that ends bodies which are too long or too slow."""
        if headers.get(b"content-length", b"") in (b"", b"0") and b"transfer-encoding" not in headers:
            return receive  # also those who wait for the client to leave
        end = asyncio.get_running_loop().time() + self.settings.body_seconds
        most, taken, over = self.most(scope["path"]), 0, False

        async def receive_limited() -> Message:
            nonlocal taken, over
            if over:
                return await receive()
            left = end - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, min(left, self.settings.idle_seconds)))
            except TimeoutError:
                raise Problem(408, "the body came too slowly", {"Connection": "close"}) from None
            taken += len(message.get("body", b""))
            if taken > most:
                raise Problem(413, f"a body of more than {most} bytes", {"Connection": "close"})
            over = not message.get("more_body", False)
            return message

        return receive_limited


async def drain(headers: dict[bytes, bytes], receive: Receive) -> None:
    """Read a refused body for a moment: a client that is still sending would not see the answer."""
    if headers.get(b"content-length", b"") in (b"", b"0") and b"transfer-encoding" not in headers:
        return
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while taken < DRAIN_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def is_open(path: str) -> bool:
    """Tell whether a path needs no token: the page itself, which holds no data, and health."""
    return path in WITHOUT_TOKEN or path.startswith(PAGE)


def bare(host: str) -> str:
    """Return a host name without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
