"""Which requests the access log has: all but the reads that went well and were fast, of which it has a share."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from service.app import POSTED_READS, create_app
from service.config import Settings
from service.kit import http
from service.kit.errors import Problem
from service.kit.http import RequestMiddleware
from service.kit.metrics import Metrics
from service.kit.problems import install_problem_handlers

LOOKUP = "/campaigns/{campaign_id}/audience/lookup"


def requests(logged_reads: float, *asked: tuple[str, str]) -> list[dict[str, Any]]:
    """The lines about these requests, by method and path, in their order."""
    app, metrics, ready = FastAPI(), Metrics(version="test"), Problem("dependency-unavailable")

    @app.get("/jobs/{job_id}")
    @app.post("/jobs/{job_id}")
    def answer(job_id: str) -> str:
        return job_id

    @app.post(LOOKUP)
    def look_up(campaign_id: str) -> str:
        return campaign_id

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    @app.get("/readyz")
    def readyz() -> None:
        raise ready

    install_problem_handlers(app, metrics)
    app.add_middleware(RequestMiddleware, metrics=metrics, logged_reads=logged_reads, posted_reads=POSTED_READS)

    async def send() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            for method, path in asked:
                await client.request(method, path)

    with capture_logs() as lines:
        asyncio.run(send())
    return [dict(line) for line in lines if line["event"] == "request"]


@pytest.fixture
def everything_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SLOW_SECONDS", 0.0)


def test_whatever_failed_or_writes_is_logged_by_method_route_and_status() -> None:
    lines = requests(0, ("POST", "/jobs/a"), ("GET", "/nowhere"), ("PUT", "/jobs/a"), ("GET", "/readyz"))
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/jobs/{job_id}", 200),
        ("GET", "unmatched", 404),
        ("PUT", "/jobs/{job_id}", 405),
        ("GET", "/readyz", 503),
    ]


def test_of_reads_that_went_well_a_share_is_logged() -> None:
    reads = [("GET", "/jobs/a"), ("POST", "/campaigns/c/audience/lookup")] * 100
    assert requests(0, *reads) == []
    assert len(requests(1, *reads)) == 200
    assert 20 < len(requests(0.5, *reads)) < 180


def test_a_slow_read_is_logged(everything_is_slow: None) -> None:
    assert [line["route"] for line in requests(0, ("GET", "/jobs/a"))] == ["/jobs/{job_id}"]


def test_a_probe_that_went_well_is_not(everything_is_slow: None) -> None:
    assert requests(1, ("GET", "/healthz")) == []


def test_the_posts_that_are_reads_are_routes(tmp_path: Path) -> None:
    app = create_app(Settings(lookalike_home=tmp_path), "redis://nobody")
    paths = app.openapi()["paths"]
    assert all("post" in paths[route] for route in POSTED_READS)
    app.state.database.dispose()
