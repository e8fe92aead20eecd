"""Jobs over HTTP: the document, waiting, listing, cancelling, deleting, and whose they are."""

import threading
import time
from typing import Any

import pytest
from sqlalchemy import event

from service.jobs import claims
from service.jobs.states import JobError, State
from service.kit.bell import ENDED_CHANNEL, BellRinger
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import assert_problem, claim, expand, publish
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually

TIMES = ("created_at", "started_at", "updated_at", "finished_at", "expires_at", "deadline_at")
FIELDS = {
    *("id", "campaign_id", "labels", "state", "done", "stage", "progress", "attempt", "max_attempts", *TIMES),
    *("seed", "model", "pool", "audience", "quality", "manifest", "export", "warnings", "error", "links"),
}


def fail(api: Api, claimed: claims.Claim) -> None:
    error = claims.problem_of(JobError.TOO_FEW_MATCHED_SEEDS, "Fewer than 25.")
    with api.database.write() as session:
        assert claims.finish(session, claimed, State.FAILED, error=error, expires_in_days=90)


def beat(api: Api, claimed: claims.Claim, scored: int) -> None:
    with api.database.write() as session:
        claims.heartbeat(session, claimed, lease_seconds=30, progress=claims.Progress("scoring", scored, 10_000))


def test_a_document_has_every_field_from_the_first_moment_on(api: Api) -> None:
    queued = expand(api)
    assert set(queued) == FIELDS
    assert queued["progress"] == {"scored_users": 0, "total_users": 0, "fraction": 0.0, "eta_seconds": None}
    parts = ("stage", "model", "pool", "audience", "quality", "manifest", "export", "error")
    for absent in (*parts, "started_at", "finished_at"):
        assert queued[absent] is None
    assert queued["warnings"] == []
    assert queued["links"]["self"] == f"/jobs/{queued['id']}"


def test_a_running_job_tells_its_stage_model_pool_and_progress(api: Api) -> None:
    job_id = expand(api)["id"]
    claimed = claim(api.database)
    assert api.get(f"/jobs/{job_id}").json()["stage"] == "matching"
    time.sleep(0.05)
    beat(api, claimed, 2_500)
    job = api.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["stage"], job["attempt"]) == ("running", "scoring", 1)
    assert job["progress"]["fraction"] == 0.25
    assert job["progress"]["eta_seconds"] >= 0
    assert job["model"] == {
        "name": "default",
        "version": "v1",
        "sha256": "m" * 64,
        "trained_at": "2026-01-02T03:04:05Z",
    }
    assert job["pool"] == {"snapshot_id": "pool_1", "size": 10_000, "eligible": None, "as_of": "2026-01-02T03:04:05Z"}


def test_a_succeeded_job_tells_everything(api: Api) -> None:
    job_id = expand(api)["id"]
    stored = publish(api, job_id, 50)
    answer = api.get(f"/jobs/{job_id}")
    job = answer.json()
    assert set(job) == FIELDS
    assert (job["state"], job["done"], job["stage"]) == ("succeeded", True, None)
    assert job["progress"] == {"scored_users": 10_000, "total_users": 10_000, "fraction": 1.0, "eta_seconds": 0.0}
    assert job["seed"]["match_rate"] == 0.933333
    assert job["pool"]["eligible"] == 9_000
    assert job["audience"] == {
        "href": f"/jobs/{job_id}/audience",
        "size": 50,
        "etag": stored.sha256,
        "min_score": 0.01,
        "max_score": 0.99,
    }
    assert job["manifest"]["audience_sha256"] == stored.sha256
    assert job["warnings"] == [{"code": "low_match_rate", "detail": "few"}]
    assert all(job[name].endswith("Z") for name in TIMES)
    assert "retry-after" not in answer.headers


def test_a_failed_job_carries_its_problem(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    fail(sqlite_api, claim(sqlite_api.database))
    job = sqlite_api.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["done"]) == ("failed", True)
    assert job["error"]["type"] == "/problems/too-few-matched-seeds"
    assert job["seed"]["matched"] is None


def test_an_etag_stands_until_the_job_changes(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    etag = sqlite_api.get(f"/jobs/{job_id}").headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = sqlite_api.get(f"/jobs/{job_id}", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    sqlite_api.post(f"/jobs/{job_id}/cancel")
    changed = sqlite_api.get(f"/jobs/{job_id}", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.headers["etag"] != etag) == (200, True)


def test_a_wait_ends_with_the_job(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    threading.Timer(0.5, lambda: sqlite_api.post(f"/jobs/{job_id}/cancel")).start()
    started = time.monotonic()
    answer = sqlite_api.get(f"/jobs/{job_id}", headers={"Prefer": "respond-async, wait=10"})
    assert answer.json()["state"] == "cancelled"
    assert answer.headers["preference-applied"] == "wait=10"
    assert 0.4 < time.monotonic() - started < 8


@pytest.mark.alone
def test_a_wait_ends_as_soon_as_the_worker_rings(
    sqlite_api: Api, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.endpoints.LOOK_SECONDS", 20.0)
    job_id = expand(sqlite_api)["id"]
    claimed = claim(sqlite_api.database)
    ringer = BellRinger(redis_url, ENDED_CHANNEL)
    finished_at = []

    def finish() -> None:
        fail(sqlite_api, claimed)
        ringer.ring(job_id)
        finished_at.append(time.monotonic())

    sqlite_api.get("/pool")
    threading.Timer(0.5, finish).start()
    assert sqlite_api.get(f"/jobs/{job_id}", headers={"Prefer": "wait=10"}).json()["state"] == "failed"
    assert time.monotonic() - finished_at[0] < 5
    ringer.close()


def test_a_wait_without_redis_ends_at_the_next_look(sqlite_api: Api, redis_server: RedisServer) -> None:
    redis_server.kill()
    job_id = expand(sqlite_api)["id"]
    claimed = claim(sqlite_api.database)
    threading.Timer(0.3, lambda: fail(sqlite_api, claimed)).start()
    started = time.monotonic()
    assert sqlite_api.get(f"/jobs/{job_id}", headers={"Prefer": "wait=10"}).json()["state"] == "failed"
    assert time.monotonic() - started < 8


def test_a_wait_ends_in_time_and_never_lasts_longer_than_30_seconds(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    started = time.monotonic()
    answer = sqlite_api.get(f"/jobs/{job_id}", headers={"Prefer": "wait=1"})
    assert answer.json()["state"] == "queued"
    assert 0.9 < time.monotonic() - started < 8
    sqlite_api.post(f"/jobs/{job_id}/cancel")
    assert sqlite_api.get(f"/jobs/{job_id}", headers={"Prefer": "wait=999"}).headers["preference-applied"] == "wait=30"


def test_a_wait_may_be_spelled_as_any_preference_and_what_is_none_is_passed_over(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    sqlite_api.post(f"/jobs/{job_id}/cancel")
    for prefer, applied in (
        ('wait="5"', "wait=5"),
        ("Wait = 5; x=y", "wait=5"),
        ("respond-async,wait=99999999999", "wait=30"),
        ("wait=-1", None),
        ("wait=5.5", None),
        ("await=5", None),
    ):
        headers = sqlite_api.get(f"/jobs/{job_id}", headers={"Prefer": prefer}).headers
        assert headers.get("preference-applied") == applied, prefer


def test_a_wait_with_an_etag_ends_at_the_first_change(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    etag = sqlite_api.get(f"/jobs/{job_id}").headers["etag"]
    threading.Timer(0.5, lambda: claim(sqlite_api.database)).start()
    answer = sqlite_api.get(f"/jobs/{job_id}", headers={"Prefer": "wait=10", "If-None-Match": etag})
    assert (answer.status_code, answer.json()["state"]) == (200, "running")


@pytest.mark.alone
def test_sixty_waits_at_once_leave_threads_for_others(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    waits: list[Any] = [("GET", f"/jobs/{job_id}", "acme", {"headers": {"Prefer": "wait=3"}})] * 60
    holder = threading.Thread(target=lambda: sqlite_api.call_at_once(*waits))
    started = time.monotonic()
    holder.start()
    time.sleep(0.5)
    asked = time.monotonic()
    assert sqlite_api.get("/pool").status_code == 200
    assert time.monotonic() - asked < 1.5
    holder.join()
    assert 2.9 < time.monotonic() - started < 8


def test_one_tenant_cannot_hold_all_waits(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.jobs.endpoints.WAITS_PER_TENANT", 2)
    monkeypatch.setattr("service.jobs.endpoints.WAITS_PER_PROCESS", 3)
    mine, theirs = expand(sqlite_api)["id"], expand(sqlite_api, key="globex")["id"]
    wait = {"headers": {"Prefer": "wait=5"}}
    holder = threading.Thread(
        target=lambda: sqlite_api.call_at_once(
            *[("GET", f"/jobs/{mine}", "acme", wait)] * 2, ("GET", f"/jobs/{theirs}", "globex", wait)
        )
    )
    started = time.monotonic()
    holder.start()
    assert eventually(lambda: sqlite_api.app.state.waits.total() == 3, 4)
    for job_id, key in ((mine, "acme"), (theirs, "globex")):
        answer = sqlite_api.get(f"/jobs/{job_id}", key=key, **wait)
        assert (answer.status_code, answer.headers["retry-after"]) == (200, "1")
        assert "preference-applied" not in answer.headers
    assert time.monotonic() - started < 4.5
    holder.join()
    assert sqlite_api.app.state.waits.total() == 0


def test_a_wait_ends_when_the_process_is_being_shut_down(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    threading.Timer(0.3, sqlite_api.app.state.draining.set).start()
    started = time.monotonic()
    assert sqlite_api.get(f"/jobs/{job_id}", headers={"Prefer": "wait=20"}).status_code == 200
    assert time.monotonic() - started < 8


def test_jobs_are_listed_newest_first_by_pages_and_filters(api: Api) -> None:
    made = [expand(api, campaign)["id"] for campaign in ("a", "b", "a", "b", "a")]
    expand(api, key="globex")
    api.post(f"/jobs/{made[4]}/cancel")
    seen: list[str] = []
    token = ""
    while True:
        page = api.get("/jobs", params={"page_size": 2, "page_token": token}).json()
        seen += [job["id"] for job in page["jobs"]]
        token = page["next_page_token"]
        if not token:
            break
    assert seen == made[::-1]
    assert all(set(job) == FIELDS for job in page["jobs"])
    assert [job["id"] for job in api.get("/jobs?campaign_id=a&state=queued").json()["jobs"]] == [made[2], made[0]]
    assert api.get("/jobs?state=running").json() == {"jobs": [], "next_page_token": ""}


def test_a_page_of_jobs_costs_the_same_however_many_there_are(sqlite_api: Api) -> None:
    def statements() -> int:
        seen: list[str] = []

        def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        sqlite_api.get("/jobs")  # the key is remembered for a second
        event.listen(sqlite_api.app.state.database.engine, "before_cursor_execute", listen)
        assert sqlite_api.get("/jobs").status_code == 200
        event.remove(sqlite_api.app.state.database.engine, "before_cursor_execute", listen)
        return len([statement for statement in seen if not statement.startswith("BEGIN")])

    for campaign in ("a", "b"):
        expand(sqlite_api, campaign)
        claim(sqlite_api.database)
    few = statements()
    for campaign in ("c", "d", "e", "f"):
        expand(sqlite_api, campaign)
        claim(sqlite_api.database)
    assert statements() == few <= 5


def test_a_token_of_jobs_belongs_to_its_listing_and_tenant(sqlite_api: Api) -> None:
    for _ in range(2):
        expand(sqlite_api)
    token = sqlite_api.get("/jobs?page_size=1").json()["next_page_token"]
    assert sqlite_api.get("/jobs", params={"page_token": token}).status_code == 200
    for url, key, wrong in (
        ("/jobs", "globex", token),
        ("/jobs?state=queued", "acme", token),
        ("/jobs", "acme", token[:-1]),
        ("/jobs", "acme", "A" + token[1:]),
        ("/jobs", "acme", "%00"),
        ("/jobs", "acme", "x" * 5_000),
        ("/models", "acme", token),
    ):
        answer = sqlite_api.get(
            url, key=key, params={"page_token": wrong, **dict([url.partition("?")[2].split("=")] if "?" in url else [])}
        )
        assert_problem(answer, 400, "invalid-page-token")


def test_a_wrong_parameter_is_400(sqlite_api: Api) -> None:
    for query in ("page_size=-1", "page_size=x", "page_size=", "page_size=1.5", "state=lost", "campaign_id=a.b"):
        assert_problem(sqlite_api.get(f"/jobs?{query}"), 400, "invalid-parameter")


def test_cancelling_ends_a_queued_job_stops_a_running_one_and_refuses_a_finished_one(api: Api) -> None:
    queued = expand(api, "a")["id"]
    ended = api.post(f"/jobs/{queued}/cancel")
    assert (ended.status_code, ended.json()["state"]) == (200, "cancelled")
    assert api.post(f"/jobs/{queued}/cancel").status_code == 200
    assert api.metric("lookalike_jobs_finished_total", state="cancelled", error_type="") == 1

    running = expand(api, "b")["id"]
    claimed = claim(api.database)
    for _ in range(2):
        stopping = api.post(f"/jobs/{running}/cancel")
        assert (stopping.status_code, stopping.json()["state"]) == (202, "cancelling")
    fail(api, claimed)
    assert_problem(api.post(f"/jobs/{running}/cancel"), 409, "job-already-finished")


def test_a_finished_job_is_deleted_with_its_audience_and_an_active_one_is_not(api: Api) -> None:
    job_id = expand(api)["id"]
    assert_problem(api.call("DELETE", f"/jobs/{job_id}"), 409, "job-active")
    stored = publish(api, job_id, 10)
    objects = api.app.state.artifacts.audiences
    assert objects.names(stored.object_name)
    assert api.get(f"/jobs/{job_id}/audience").status_code == 200
    answer = api.call("DELETE", f"/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert_problem(api.get(f"/jobs/{job_id}/audience"), 404, "not-found")
    assert_problem(api.get(f"/jobs/{job_id}"), 404, "not-found")
    assert_problem(api.call("DELETE", f"/jobs/{job_id}"), 404, "not-found")
    assert_problem(api.get("/campaigns/spring/audience"), 404, "not-found")
    assert not objects.names(stored.object_name)


def test_another_tenant_s_things_are_as_unknown_as_things_that_never_were(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url)
    job_id = expand(api)["id"]
    publish(api, job_id, 10)
    for method, path in (
        ("GET", "/jobs/{}"),
        ("DELETE", "/jobs/{}"),
        ("POST", "/jobs/{}/cancel"),
        ("GET", "/jobs/{}/audience"),
    ):
        foreign = assert_problem(api.call(method, path.format(job_id), key="globex"), 404, "not-found")
        unknown = assert_problem(api.call(method, path.format("job_0"), key="globex"), 404, "not-found")
        odd = assert_problem(api.call(method, path.format("a%00b"), key="globex"), 404, "not-found")
        for document in (foreign, unknown, odd):
            document.pop("request_id")
        assert foreign == unknown == odd
        assert job_id not in str(foreign)
    assert_problem(api.get("/campaigns/spring/audience", key="globex"), 404, "not-found")
