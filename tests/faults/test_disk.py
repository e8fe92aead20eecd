"""A full disk: a worker waits for room and a caller is told, and nothing half-written is left."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from sqlalchemy import event

from service.audiences.file import AudienceFile
from tests.contract.conftest import StartApi
from tests.contract.worlds import REQUEST, assert_problem, count_jobs, expand
from tests.faults.one_of_each import AUDIENCE, OneOfEach
from tests.fixtures.waiting import eventually


@contextmanager
def no_room(pid: int) -> Iterator[None]:
    """Every write of the process to a file fails, those to its log included."""
    process = psutil.Process(pid)
    _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))


def test_a_job_waits_until_there_is_room_and_leaves_nothing_torn(service: OneOfEach) -> None:
    store = service.world.artifacts.audiences
    expected = service.audience_of(service.submit())
    worker = service.keep_worker()
    with no_room(worker.pid):
        job_id = service.submit()
        assert eventually(lambda: service.job(job_id).items() >= {"state": "queued", "attempt": 1}.items(), 5)
        assert store.names(f"audiences/{job_id}") == []
    assert service.audience_of(job_id) == expected
    assert service.job(job_id)["attempt"] == 2
    assert worker.poll() is None
    made = sorted({name.rpartition("/")[0] for name in store.names(f"audiences/{job_id}")})
    assert len(made) == 1
    with AudienceFile.open_object(store, made[0]) as file:
        assert sum(len(chunk) for chunk in file) == AUDIENCE
    assert [path.name for path in service.home.glob("audiences/.staging/*")] == []


def test_a_database_without_room_is_a_503_that_made_no_job_and_is_read_on(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url)
    known = expand(api)["id"]
    pages = {"most": 1}  # SQLite takes less than there are for as many as there are

    def limit(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages['most']}")

    event.listen(api.app.state.database.engine, "checkout", limit)
    seeds = {"seed_user_ids": [f"a-user-that-fills-pages-{number:05d}" for number in range(50_000)]}
    answer = api.post("/campaigns/spring/expand", seeds)
    assert_problem(answer, 503, "dependency-unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert count_jobs(api.database) == 1
    assert api.get(f"/jobs/{known}").json()["state"] == "queued"
    pages["most"] = 1 << 30
    assert api.post("/campaigns/spring/expand", REQUEST).status_code == 202
