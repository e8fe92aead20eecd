"""A process whose clock is wrong by years: what is compared is the database's time, so nothing ends early or late."""

import threading
import time

import pytest

from service.jobs import claims
from service.kit.metrics import Metrics
from service.scheduler import Scheduler
from tests.contract.conftest import StartApi
from tests.contract.worlds import REQUEST, count_jobs, expand, publish
from tests.fixtures.job_rows import job, reclaim, taken

YEAR = 365 * 86_400
SIZE = 1_500


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set this process's clock by so much ahead or back."""
    right, right_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: right() + seconds)
    monkeypatch.setattr(time, "time_ns", lambda: right_ns() + int(seconds * 1e9))


@pytest.mark.parametrize("seconds", [-3 * YEAR, 3 * YEAR])
def test_leases_audiences_and_retention_go_by_the_databases_clock(
    start_api: StartApi, database_url: str, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    api = start_api(database_url)
    earlier = expand(api)["id"]
    publish(api, earlier, SIZE)
    token = api.get(f"/jobs/{earlier}/audience").json()["next_page_token"]

    set_clock(monkeypatch, seconds)
    later = api.post("/campaigns/spring/expand", REQUEST, headers={"Idempotency-Key": "once"}).json()["id"]
    claim = taken(api.database)
    assert claim.job_id == later
    assert reclaim(api.database) == []
    with api.database.write() as session:
        beat = claims.heartbeat(session, claim, lease_seconds=30, progress=claims.Progress())
    assert beat is not None
    assert not beat.past_deadline
    with api.database.write() as session:
        assert claims.hand_back(session, claim, count_attempt=False, delay_seconds=0)
    publish(api, later, SIZE)
    assert job(api.database, later).created_at > job(api.database, earlier).created_at

    settings, artifacts = api.app.state.settings, api.app.state.artifacts
    Scheduler(api.database, artifacts, Metrics(version="test"), settings, threading.Event()).sweep()
    assert count_jobs(api.database) == 2
    assert api.get("/campaigns/spring/audience").json()["job_id"] == later
    assert api.get(f"/jobs/{earlier}/audience", params={"page_token": token}).status_code == 200
    again = api.post("/campaigns/spring/expand", REQUEST, headers={"Idempotency-Key": "once"})
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (later, "true")
