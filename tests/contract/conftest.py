"""The whole application on real stores, one request at a time, with keys of two tenants and of an operator."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from structlog.testing import capture_logs

from service.app import create_app
from service.config import Settings
from service.keys.service import create_key
from service.kit.database import Database
from tests.contract.worlds import SIZE, expand, publish, serve_a_model_and_a_pool


@dataclass(frozen=True)
class Api:
    """Speaks to a running application as a caller does. `database` sees all its rows, as workers do."""

    app: FastAPI
    portal: BlockingPortal
    keys: dict[str, str]
    database: Database

    def call(self, method: str, url: str, *, key: str | None = "acme", **options: Any) -> httpx.Response:
        """One request with the key of that name, or none."""
        return self.portal.call(lambda: self._send([(method, url, key, options)]))[0]

    def call_at_once(self, *requests: tuple[str, str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Some requests (method, url, key, options) at the same time."""
        return self.portal.call(lambda: self._send(requests))

    def get(self, url: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.call("GET", url, **options)

    def post(self, url: str, body: Any = None, **options: Any) -> httpx.Response:
        """POST, with a body as JSON if there is one."""
        return self.call("POST", url, **({} if body is None else {"json": body}), **options)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a series."""
        return self.app.state.metrics.registry.get_sample_value(name, labels) or 0.0

    async def _send(self, requests: Any) -> list[httpx.Response]:
        # An unexpected error is the application's to answer, not the test client's to raise.
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            return await asyncio.gather(
                *(
                    client.request(
                        method,
                        url,
                        **{**options, "headers": {**self._authorization(key), **options.get("headers", {})}},
                    )
                    for method, url, key, options in requests
                )
            )

    def _authorization(self, key: str | None) -> dict[str, str]:
        return {} if key is None else {"Authorization": f"Bearer {self.keys.get(key, key)}"}


StartApi = Callable[..., Api]


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """Caught: structlog draws tracebacks unless it is told how a process logs, and that takes seconds."""
    with capture_logs():
        yield


@pytest.fixture
def start_api(redis_url: str, tmp_path: Path) -> Iterator[StartApi]:
    """Start applications on migrated databases: `start_api(database_url, settings...)`; they end with the test."""
    ending: list[Callable[[], None]] = []

    def start(database_url: str, *, redis: str = redis_url, served: bool = True, **changes: Any) -> Api:
        values = {"lookalike_home": tmp_path, "database_url": database_url, "import_root": tmp_path / "imports"}
        settings = Settings(**{**values, "redis_url": redis, "expand_per_minute": 0, "active_jobs_max": 0, **changes})
        database = Database(database_url)
        with database.write() as session:
            keys = {
                "acme": create_key(session, "acme", ["all"]).text,
                "globex": create_key(session, "globex", ["all"]).text,
                "operator": create_key(session, "acme", ["all"], operator=True).text,
            }
        if served:
            serve_a_model_and_a_pool(database)
        app = create_app(settings, redis)
        portal_context = start_blocking_portal()
        portal = portal_context.__enter__()
        lifespan = portal.wrap_async_context_manager(app.router.lifespan_context(app))
        lifespan.__enter__()

        def end() -> None:
            lifespan.__exit__(None, None, None)
            portal_context.__exit__(None, None, None)
            database.dispose()

        ending.append(end)
        return Api(app, portal, keys, database)

    yield start
    for end in reversed(ending):
        end()


@pytest.fixture
def api(start_api: StartApi, database_url: str) -> Api:
    """An application with a served model and pool: the test runs on SQLite and on PostgreSQL."""
    return start_api(database_url)


@pytest.fixture
def sqlite_api(start_api: StartApi, sqlite_url: str) -> Api:
    """The same on SQLite alone, for what no database has a part in."""
    return start_api(sqlite_url)


@pytest.fixture
def job_id(api: Api) -> str:
    """A job with an audience of SIZE, the current one of the campaign `spring`."""
    job_id: str = expand(api)["id"]
    publish(api, job_id, SIZE)
    return job_id
