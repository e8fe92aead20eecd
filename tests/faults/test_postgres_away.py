"""PostgreSQL restarts, and is not there yet: callers are told when to come again, and nothing need be restarted."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import event

from tests.contract.conftest import StartApi
from tests.contract.worlds import REQUEST, assert_problem, count_jobs
from tests.faults.one_of_each import MAX_ATTEMPTS, SECONDS, OneOfEach
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.waiting import eventually


def test_processes_that_start_before_the_stores_wait_for_them(service: OneOfEach) -> None:
    assert all(process.poll() is None for process in service.processes)
    for process in ("api", "worker", "scheduler"):
        assert "waiting: the database cannot be used" in service.log(process).read_text()
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


def test_a_lock_that_is_not_given_up_is_a_503_and_one_that_is_a_wait(start_api: StartApi, postgres_url: str) -> None:
    api = start_api(postgres_url)
    impatient = {"lock_timeout": 100}  # ms; 5 s usually
    event.listen(
        api.app.state.database.engine,
        "begin",
        lambda connection: connection.exec_driver_sql(f"SET lock_timeout = {impatient['lock_timeout']}"),
    )
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        answer = api.post("/campaigns/spring/expand", REQUEST)
        assert_problem(answer, 503, "dependency-unavailable")
        assert int(answer.headers["retry-after"]) > 0
        impatient["lock_timeout"] = 5_000
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(api.post, "/campaigns/spring/expand", REQUEST)
            time.sleep(0.3)
            assert not waiting.done()
            other.rollback()
            assert waiting.result().status_code == 202
    assert count_jobs(api.database) == 1
