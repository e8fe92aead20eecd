"""PostgreSQL is there and says nothing: nobody waits for ever, and all is well as soon as it goes on."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from service.kit import postgres
from service.kit.postgres import CONNECT_SECONDS, SILENCE_SECONDS
from tests.contract.conftest import StartApi
from tests.contract.worlds import REQUEST, assert_problem
from tests.faults.hanging import hung
from tests.faults.one_of_each import SECONDS, OneOfEach
from tests.faults.proxy import FaultProxy
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.waiting import eventually

PATIENCE_SECONDS = SILENCE_SECONDS + CONNECT_SECONDS + 2.0
SOON_SECONDS = 1.5
CALLERS = 20


@contextmanager
def worker_about_to_publish(service: OneOfEach) -> Iterator[str]:
    """A job whose worker waits, in the transaction that ends the job, until the block is over; the job's id."""
    with (
        psycopg.connect(service.database_url, autocommit=True) as observer,
        psycopg.connect(service.database_url) as holder,
    ):
        holder.execute("LOCK TABLE audiences IN SHARE MODE")
        job_id = service.submit()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ILIKE '%audiences%'"
        assert eventually(lambda: observer.execute(waiting).fetchone() != (0,), SECONDS), service.logs()
        yield job_id


def timed(call: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


def test_a_stopped_server_is_a_503_in_time_and_its_worker_publishes_nothing_late(
    service: OneOfEach, postgres_server: PostgresServer
) -> None:
    expected = service.audience_of(service.submit())
    started = [process.pid for process in service.processes if process.poll() is None]
    with worker_about_to_publish(service) as job_id, hung(postgres_server), ThreadPoolExecutor(CALLERS) as threads:
        began = time.monotonic()
        calls = [threads.submit(timed, lambda: service.call("GET", f"/jobs/{job_id}")) for _ in range(CALLERS)]
        alive, seconds = timed(lambda: service.client.get(f"http://127.0.0.1:{service.port}/healthz"))
        assert (alive.status_code, seconds < SOON_SECONDS) == (200, True)
        for answer, seconds in (call.result() for call in calls):
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert seconds < PATIENCE_SECONDS
        assert service.status("/readyz") == 503
        time.sleep(max(0.0, began + PATIENCE_SECONDS - time.monotonic()))
    assert eventually(service.ready, PATIENCE_SECONDS), service.logs()
    assert service.audience_of(job_id) == expected
    assert service.job(job_id)["attempt"] == 2
    assert service.audience_of(service.submit()) == expected
    assert [process.pid for process in service.processes if process.poll() is None] == started


def test_a_network_that_loses_everything_is_a_503_in_time_and_used_again_when_it_is_mended(
    start_api: StartApi, postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(postgres, "CONNECT_SECONDS", 2)  # than which none can be shorter
    with FaultProxy(postgres_server.home / ".s.PGSQL.5432") as proxy:
        api = start_api(f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(postgres_url).path}")
        assert api.post("/campaigns/spring/expand", REQUEST).status_code == 202
        proxy.stall()
        for patience in (PATIENCE_SECONDS, SOON_SECONDS):
            answer, seconds = timed(lambda: api.post("/campaigns/spring/expand", REQUEST))
            assert_problem(answer, 503, "dependency-unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert seconds < patience
        proxy.heal()
        assert eventually(lambda: api.post("/campaigns/spring/expand", REQUEST).status_code == 202, PATIENCE_SECONDS)
        api.database.dispose()
