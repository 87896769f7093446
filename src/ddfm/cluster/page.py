"""Show a run's numbers to Prometheus: http://127.0.0.1:PORT/metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ddfm.errors import InputError, reason_of
from ddfm.jobs.numbers import Numbers

if TYPE_CHECKING:
    from prometheus_client import Metric

HOST = "127.0.0.1"  # a monitor on another machine comes through a tunnel


class Page:
    """Give the present numbers whenever they are asked for."""

    def __init__(self) -> None:
        self.numbers: Numbers | None = None

    def show(self, numbers: Numbers) -> None:
        """Take the numbers that are to be shown."""
        self.numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers as Prometheus knows them; none before the run has begun."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        numbers = self.numbers
        if numbers is None:
            return
        pairs = CounterMetricFamily("ddfm_pairs", "Pairs that are through.", labels=["state"])
        for state in ("kept", "fused", "failed"):
            pairs.add_metric([state], getattr(numbers, state))
        by_worker = CounterMetricFamily("ddfm_worker_pairs", "Pairs fused.", labels=["worker"])
        for worker, count in sorted(numbers.by_worker.items()):
            by_worker.add_metric([worker], count)
        rates = GaugeMetricFamily("ddfm_worker_rate", "Pairs a second, last minute.", labels=["worker"])
        for worker, rate in numbers.rates.items():
            rates.add_metric([worker], rate)
        yield from (pairs, by_worker, rates)
        yield CounterMetricFamily("ddfm_retries", "Attempts after the first.", value=numbers.retried)
        yield CounterMetricFamily("ddfm_lost_pairs", "Pairs whose worker ended.", value=numbers.lost)
        yield CounterMetricFamily("ddfm_worker_seconds", "Spent on fused pairs.", value=numbers.seconds)
        yield GaugeMetricFamily("ddfm_workers", "That can work now.", value=numbers.workers)
        yield GaugeMetricFamily("ddfm_listed_pairs", "Pairs found so far.", value=numbers.listed)
        yield GaugeMetricFamily("ddfm_all_listed", "1 once those are all.", value=float(numbers.all_listed))
        yield GaugeMetricFamily("ddfm_rate", "Pairs a second, over the last minute.", value=numbers.rate)
        left = numbers.seconds_left
        if left is not None:
            yield GaugeMetricFamily("ddfm_seconds_left", "By the present rate.", value=left)


@contextmanager
def serve(port: int) -> Iterator[Callable[[Numbers], None]]:
    """Serve the page for the block; gives what the numbers are handed to.

    Raises:
        InputError: prometheus-client is not installed, or the port cannot be had.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as missing:
        raise InputError(
            "--metrics-port: prometheus-client is missing: pip install 'ddfm[cluster]'"
        ) from missing
    page, registry = Page(), CollectorRegistry()
    registry.register(page)
    try:
        server, thread = start_http_server(port, addr=HOST, registry=registry)
    except (OSError, OverflowError) as error:
        raise InputError(f"--metrics-port {port}: cannot be listened on ({reason_of(error)})") from error
    try:
        yield page.show
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
