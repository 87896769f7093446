"""Count requests and jobs for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from ddfm.serve.guard import Message, Receive, Scope, Send
from ddfm.serve.store import Store
from ddfm.serve.supervisor import Supervisor

STATES = ("queued", "running", "done", "failed", "cancelled")


class _Jobs:
    """Read the jobs' counts when they are asked for."""

    def __init__(self, store: Store, supervisor: Supervisor) -> None:
        self.store, self.supervisor = store, supervisor

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        counts = self.store.counts()
        jobs = GaugeMetricFamily("ddfm_jobs", "Jobs that are kept, by state.", labels=["state"])
        for state in STATES:
            jobs.add_metric([state], counts.get(state, 0))
        yield jobs
        yield GaugeMetricFamily("ddfm_workers_alive", "Worker processes.", self.supervisor.alive)
        yield GaugeMetricFamily("ddfm_worker_restarts", "Workers that died.", self.supervisor.restarts)


class Monitor:
    """Wrap an ASGI application and count what it answers; routes by their pattern, so that there are few."""

    def __init__(self, app: Any, store: Store, supervisor: Supervisor) -> None:
        self.app = app
        self.registry = CollectorRegistry()
        self.registry.register(_Jobs(store, supervisor))
        labels = ["method", "route", "status"]
        self.requests = Counter("ddfm_requests", "Requests answered.", labels, registry=self.registry)
        self.seconds = Histogram("ddfm_request_seconds", "Time to the last byte.", registry=self.registry)

    def text(self) -> bytes:
        """Return all that is counted, in Prometheus' text format."""
        return generate_latest(self.registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE") else "other"
            self.requests.labels(method, route, str(status)).inc()
            self.seconds.observe(time.perf_counter() - began)
