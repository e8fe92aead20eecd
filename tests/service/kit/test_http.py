"""Every request through the middleware and the handlers: ids, headers, limits and problem+json."""

import asyncio
import json
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Path, Query, Request
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from service.kit.bodies import read_json
from service.kit.errors import Problem
from service.kit.http import ReceiveLimits, ReceiveMiddleware, RequestMiddleware
from service.kit.metrics import Metrics
from service.kit.problems import install_problem_handlers

LIMIT = 1_000
NAME = r"^[a-z]{1,8}$"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="test")


@pytest.fixture
def app(metrics: Metrics) -> Iterator[FastAPI]:
    app = FastAPI(redirect_slashes=False)
    things = APIRouter()

    @things.get("/things/{name}")
    def read_thing(name: Annotated[str, Path(pattern=NAME)], page_size: int = 0) -> dict[str, Any]:
        return {"name": name, "page_size": page_size}

    @things.delete("/things/{name}")
    def delete_thing(name: str) -> None:
        raise Problem("job-active", "Cancel it first.")

    @app.post("/things")
    async def make_thing(request: Request) -> dict[str, Any]:
        return {"read": read_json(await request.body())}

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the password is hunter2")

    @app.get("/database-away")
    def database_away() -> None:
        raise OperationalError("SELECT secret", {}, Exception("gone"))

    @app.get("/limited")
    def limited(size: Annotated[int, Query(ge=1, le=5)]) -> int:
        return size

    app.include_router(things)
    install_problem_handlers(app, metrics)
    app.add_middleware(ReceiveMiddleware, limits=ReceiveLimits(body_bytes=LIMIT, seconds=0.3), metrics=metrics)
    app.add_middleware(RequestMiddleware, metrics=metrics)
    with capture_logs():  # structlog draws tracebacks unless it is told how a process logs, and that takes seconds
        yield app


def call(app: FastAPI, method: str, url: str, **options: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, url, **options)

    return asyncio.run(send())


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    assert answer.status_code == document["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"/problems/{slug}"
    assert document["request_id"] == answer.headers["x-request-id"]
    assert len(answer.content) <= 64 << 10
    return document


@pytest.mark.parametrize("url", ["/things/abc", "/nowhere", "/broken", "/things/abc?page_size=x", "/" + "x" * 9_000])
def test_every_answer_carries_the_fixed_headers(app: FastAPI, url: str) -> None:
    headers = call(app, "GET", url).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"]


@pytest.mark.parametrize("sent", ["order-12345678", "7", "x" * 128])
def test_a_sane_request_id_is_kept(app: FastAPI, sent: str) -> None:
    assert call(app, "GET", "/nowhere", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "with space 1234", "tab\t12345678"])
def test_any_other_request_id_is_replaced(app: FastAPI, sent: str) -> None:
    assert call(app, "GET", "/nowhere", headers={"X-Request-ID": sent}).headers["x-request-id"] != sent


def test_an_unknown_path_is_not_found(app: FastAPI) -> None:
    assert_problem(call(app, "GET", "/nowhere"), 404, "not-found")


def test_a_wrong_method_names_those_of_every_route_with_that_path(app: FastAPI) -> None:
    answer = call(app, "PATCH", "/things/abc")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "DELETE, GET"


def test_a_problem_raised_by_an_endpoint_is_its_answer(app: FastAPI) -> None:
    assert assert_problem(call(app, "DELETE", "/things/abc"), 409, "job-active")["detail"] == "Cancel it first."


def test_a_name_that_cannot_exist_is_not_found_and_not_repeated(app: FastAPI) -> None:
    document = assert_problem(call(app, "GET", "/things/UPPER"), 404, "not-found")
    assert "UPPER" not in json.dumps(document)


def test_a_wrong_query_parameter_is_named_without_its_value(app: FastAPI) -> None:
    document = assert_problem(call(app, "GET", "/things/abc?page_size=elephant"), 400, "invalid-parameter")
    assert document["errors"] == [
        {"pointer": "/query/page_size", "code": "int-parsing", "detail": "must be an integer"}
    ]
    assert "elephant" not in json.dumps(document)


def test_a_limit_of_a_parameter_is_told(app: FastAPI) -> None:
    assert (
        "must be at most 5" in assert_problem(call(app, "GET", "/limited?size=6"), 400, "invalid-parameter")["detail"]
    )


def test_an_unexpected_error_is_internal_and_says_nothing_of_itself(app: FastAPI) -> None:
    answer = call(app, "GET", "/broken")
    assert_problem(answer, 500, "internal")
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text


def test_a_database_that_is_away_is_503_with_retry_after(app: FastAPI) -> None:
    answer = call(app, "GET", "/database-away")
    assert_problem(answer, 503, "dependency-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert "secret" not in answer.text


def test_a_body_at_the_cap_is_read_and_one_byte_more_is_refused(app: FastAPI, metrics: Metrics) -> None:
    fits = json.dumps("x" * (LIMIT - 2)).encode()
    assert call(app, "POST", "/things", content=fits).status_code == 200
    assert_problem(call(app, "POST", "/things", content=fits + b" "), 413, "payload-too-large")
    assert value(metrics, "lookalike_http_rejected_total", reason="too_large") == 1


def test_bytes_are_counted_when_no_length_is_declared(app: FastAPI) -> None:
    async def chunks() -> Any:
        for _ in range(4):
            yield b" " * 400

    assert_problem(call(app, "POST", "/things", content=chunks()), 413, "payload-too-large")


def test_bodies_together_have_a_limit_too_and_what_is_answered_frees_its_part(app: FastAPI, metrics: Metrics) -> None:
    limits = ReceiveLimits(body_bytes=LIMIT, bodies=2)
    together = ReceiveMiddleware(app, limits=limits, metrics=metrics)
    begun = asyncio.Event()

    async def unfinished() -> Any:
        yield b"[" + b" " * 600
        begun.set()
        await asyncio.sleep(0.2)
        yield b"]"

    async def send() -> list[int]:
        transport = httpx.ASGITransport(RequestMiddleware(together, metrics=metrics))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            statuses = []
            for _ in range(2):
                begun.clear()
                pair = [asyncio.create_task(client.post("/things", content=unfinished())) for _ in range(3)]
                await begun.wait()
                await asyncio.sleep(0.05)
                fourth = await client.post("/things", content=b" " * 600)
                statuses.append(
                    sorted([fourth.status_code, *(answer.status_code for answer in await asyncio.gather(*pair))])
                )
            return statuses

    assert asyncio.run(send()) == [[200, 200, 200, 503]] * 2
    assert value(metrics, "lookalike_http_rejected_total", reason="shed") == 2


@pytest.mark.parametrize("coding", ["gzip", "identity", "br"])
def test_any_content_encoding_is_refused(app: FastAPI, coding: str) -> None:
    answer = call(app, "POST", "/things", content=b"{}", headers={"Content-Encoding": coding})
    assert_problem(answer, 415, "unsupported-media-type")


def test_a_body_that_does_not_arrive_in_time_is_408_and_ends_the_connection(app: FastAPI, metrics: Metrics) -> None:
    async def slow() -> Any:
        yield b"{"
        await asyncio.sleep(5)

    answer = call(app, "POST", "/things", content=slow())
    assert_problem(answer, 408, "request-timeout")
    assert answer.headers["connection"] == "close"
    assert value(metrics, "lookalike_http_rejected_total", reason="slow_client") == 1


def test_a_long_target_is_414_and_long_headers_are_431(app: FastAPI) -> None:
    assert_problem(call(app, "GET", "/things/abc?x=" + "y" * 9_000), 414, "uri-too-long")
    assert_problem(call(app, "GET", "/things/abc", headers={"X-Long": "y" * 40_000}), 431, "headers-too-large")


def test_requests_are_measured_by_route_template_never_by_path(app: FastAPI, metrics: Metrics) -> None:
    call(app, "GET", "/things/abc")
    call(app, "GET", "/nowhere/abc")
    counted = "http_server_request_duration_seconds_count"
    labels = {"http_request_method": "GET", "http_response_status_code": "200", "http_route": "/things/{name}"}
    assert value(metrics, counted, **labels) == 1
    assert value(metrics, counted, **{**labels, "http_response_status_code": "404", "http_route": "unmatched"}) == 1
    assert b"abc" not in metrics.render()
    assert value(metrics, "http_server_active_requests", http_request_method="GET") == 0
