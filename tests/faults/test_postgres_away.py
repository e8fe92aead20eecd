"""PostgreSQL restarts, and is not there yet: callers are told when to come again, and nothing need be restarted."""

import pytest

from tests.faults.one_of_each import MAX_ATTEMPTS, SECONDS, OneOfEach
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.waiting import eventually


def test_processes_that_start_before_the_stores_wait_for_them(service: OneOfEach) -> None:
    assert all(process.poll() is None for process in service.processes)
    for process in ("api", "worker", "scheduler"):
        assert "waiting: the database does not answer" in service.log(process).read_text()
    assert service.status("/readyz") == 200
    service.wait(service.submit())


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_restart_is_a_503_with_a_time_to_come_again_and_then_all_is_well(
    service: OneOfEach, postgres_server: PostgresServer, way: str
) -> None:
    expected = service.audience_of(service.submit())
    started = [process.pid for process in service.processes if process.poll() is None]
    jobs = [service.submit(f"campaign-{number}") for number in range(10)]
    getattr(postgres_server, way)()
    for method, path in (("GET", "/campaigns"), ("GET", f"/jobs/{jobs[0]}"), ("POST", "/campaigns/spring/expand")):
        body = {} if method == "GET" else {"json": {"seed_user_ids": service.seeds}}
        answer = service.call(method, path, **body)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dependency-unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert (service.status("/healthz"), service.status("/readyz")) == (200, 503)
    postgres_server.start()
    assert eventually(service.ready, SECONDS)
    for job_id in jobs:
        assert service.audience_of(job_id) == expected
        assert service.job(job_id)["attempt"] <= MAX_ATTEMPTS
    assert [process.pid for process in service.processes if process.poll() is None] == started
