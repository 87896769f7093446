"""A run's numbers as Prometheus reads them."""

from __future__ import annotations

import urllib.request

import pytest
from ray_cluster import HOST, free_port

from ddfm.errors import InputError
from ddfm.jobs.numbers import Numbers

parser = pytest.importorskip("prometheus_client.parser")


def test_the_page_shows_the_present_numbers() -> None:
    from ddfm.cluster.page import serve

    port, numbers = free_port(), Numbers()
    with serve(port) as show:
        show(numbers)
        numbers.listed, numbers.failed = 7, 1
        numbers.count_fused("node/1", 0.5)
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=60) as page:
            text = page.read().decode()
        with pytest.raises(InputError, match=f"--metrics-port {port}: cannot be listened on"), serve(port):
            pass
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["ddfm_pairs_total", "fused"] == 1
    assert found["ddfm_pairs_total", "failed"] == 1
    assert found["ddfm_worker_pairs_total", "node/1"] == 1
    assert found["ddfm_listed_pairs",] == 7
    assert found["ddfm_worker_seconds_total",] == 0.5
