"""The OpenAPI description: complete, with examples; and requests made up from it by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given

from tests.conftest import examples
from tests.serve.served import Served, check_problem, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("openapi"), "--threads", "1", "--max-pixels", "100000") as running:
        yield running


@pytest.fixture(scope="module")
def described(server: Served) -> dict[str, Any]:
    answer: dict[str, Any] = server.client.get("/openapi.json").json()
    return answer


def test_every_route_is_described(described: dict[str, Any]) -> None:
    routes = {(method, path) for path, methods in described["paths"].items() for method in methods}
    assert routes >= {
        ("post", "/v1/fusions"), ("get", "/v1/fusions/{id_}"), ("delete", "/v1/fusions/{id_}"),
        ("get", "/v1/fusions/{id_}/events"), ("get", "/v1/fusions/{id_}/result"), ("post", "/v1/evaluations"),
        ("get", "/v1/priors"), ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"),
    }  # fmt: skip
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            assert route["description"], (method, path)
            if path.startswith("/v1/"):
                assert "application/problem+json" in route["responses"]["422"]["content"]
    form = described["paths"]["/v1/fusions"]["post"]["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    assert form["properties"]["options"]["examples"]


def test_requests_made_up_from_it(server: Served, described: dict[str, Any]) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    schema = schemathesis.openapi.from_dict(described)
    seen = 0

    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:

        def call(case: Any) -> None:
            nonlocal seen
            seen += 1
            answer = send(case.as_transport_kwargs(base_url=server.address))
            assert answer.status_code < 500, (case.method, case.path, answer.text)
            if answer.status_code >= 400:
                check_problem(answer, answer.status_code, secrets=[str(server.data)])

        examples(25)(given(case=operation.as_strategy())(call))()
    assert len(operations) > 15
    assert seen > 4 * len(operations)
    assert server.client.get("/readyz").json()["ready"]


def send(prepared: dict[str, Any]) -> httpx.Response:
    """Send a request as schemathesis prepared it, for the library that it depends on."""
    requests = pytest.importorskip("requests")
    answer = requests.request(timeout=60, **prepared)
    return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)
