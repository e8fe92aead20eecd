"""POST /campaigns/{campaign_id}/expand: what it takes, what it refuses, and that a 202 is a durable job."""

import json
import re
import time
from typing import Any

import pytest
from sqlalchemy import event, select

from service.jobs.states import State
from service.jobs.tables import Job
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import REQUEST, SEEDS, assert_problem, claim, count_jobs, expand, pointers
from tests.fixtures.redis import RedisServer

URL = "/campaigns/spring/expand"
EVERY_OPTION = {
    **REQUEST,
    "seed_weights": [1, 2.5, *[1] * 28],
    "negative_user_ids": ["n1"],
    "exclude_user_ids": ["x1"],
    "audience_size": 100,
    "min_score": 0.1,
    "include_seed_users": True,
    "eligibility": {
        "all": [
            {"feature": "age", "min": 18, "max": 65.5},
            {"feature": "city", "in": ["a", "b"]},
            {"feature": "likes", "any_of": ["x"]},
            {"feature": "likes", "not_in": []},
        ]
    },
    "campaign": {"topic": "shoes"},
    "deadline_seconds": 60,
    "on_active": "queue",
    "labels": {"team": "red"},
    "deny_features": ["age"],
}


def test_an_expansion_is_accepted_with_its_job(api: Api) -> None:
    answer = api.post(URL, {**EVERY_OPTION, "seed_user_ids": [*SEEDS[:29], SEEDS[0]]})
    assert answer.status_code == 202
    job = answer.json()
    assert re.fullmatch("job_[0-9a-f]+", job["id"])
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    assert (job["state"], job["done"], job["campaign_id"]) == ("queued", False, "spring")
    assert job["labels"] == {"team": "red"}
    assert job["seed"] == {
        "submitted": 30,
        "unique": 29,
        "duplicates": 1,
        "matched": None,
        "unknown": None,
        "match_rate": None,
    }
    assert api.get(answer.headers["location"]).json() == job
    assert api.metric("lookalike_jobs_submitted_total") == 1


def test_the_request_reaches_the_row_as_it_was_meant(sqlite_api: Api) -> None:
    job = sqlite_api.post(URL, EVERY_OPTION).json()
    with sqlite_api.database.read() as session:
        request = session.get_one(Job, job["id"]).request
    assert request["eligibility"] == EVERY_OPTION["eligibility"]["all"]  # type: ignore[index]
    assert request["attributes"] == {"topic": "shoes"}
    assert (request["audience_size"], request["audience_fraction"]) == (100, None)
    assert request["deny_features"] == ["age"]


def test_a_202_is_not_sent_before_its_commit(sqlite_api: Api) -> None:
    committed: list[bool] = []
    seen_at_start: list[bool] = []
    event.listen(sqlite_api.app.state.database.engine, "commit", lambda _connection: committed.append(True))
    app = sqlite_api.app

    async def spy(scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen_at_start.append(bool(committed))
            await send(message)

        await app(scope, receive, watched)

    watched_api = Api(spy, sqlite_api.portal, sqlite_api.keys, sqlite_api.database)  # type: ignore[arg-type]
    assert watched_api.post(URL, REQUEST).status_code == 202
    assert seen_at_start == [True]


def test_a_commit_that_fails_is_no_202_and_no_job_and_rings_no_bell(sqlite_api: Api) -> None:
    rings: list[bool] = []
    sqlite_api.app.state.bell.ring = lambda: rings.append(True)

    def refuse(_connection: Any) -> None:
        raise RuntimeError("disk full")

    event.listen(sqlite_api.app.state.database.engine, "commit", refuse)
    answer = sqlite_api.post(URL, REQUEST)
    event.remove(sqlite_api.app.state.database.engine, "commit", refuse)
    assert_problem(answer, 500, "internal")
    assert "disk" not in answer.text
    assert count_jobs(sqlite_api.database) == 0
    assert rings == []
    assert sqlite_api.metric("lookalike_jobs_submitted_total") == 0


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"seed_user_ids": None}, "/seed_user_ids"),
    ({"seed_user_ids": []}, "/seed_user_ids"),
    ({"seed_user_ids": "a"}, "/seed_user_ids"),
    ({"seed_user_ids": {"a": 1}}, "/seed_user_ids"),
    ({"seed_user_ids": ["a", 7]}, "/seed_user_ids/1"),
    ({"seed_user_ids": ["a", ""]}, "/seed_user_ids/1"),
    ({"seed_user_ids": ["x" * 129]}, "/seed_user_ids/0"),
    ({"seed_user_ids": ["a\tb"]}, "/seed_user_ids/0"),
    ({"seed_user_ids": ["a\u0085b"]}, "/seed_user_ids/0"),
    ({"seed_user_ids": ["a\nb"]}, "/seed_user_ids/0"),
    ({"seed_user_ids": ["a\n"]}, "/seed_user_ids/0"),
    ({"seed_user_ids": ["\ud800"]}, "/seed_user_ids/0"),
    ({"seed_weights": [1.0]}, "/seed_weights"),
    ({"seed_weights": [0, *[1] * 29]}, "/seed_weights/0"),
    ({"seed_weights": [True, *[1] * 29]}, "/seed_weights/0"),
    ({"seed_weights": ["1", *[1] * 29]}, "/seed_weights/0"),
    ({"negative_user_ids": ["n", SEEDS[3]]}, "/negative_user_ids/1"),
    ({"exclude_user_ids": [None]}, "/exclude_user_ids/0"),
    ({"audience_size": 0}, "/audience_size"),
    ({"audience_size": 1.0}, "/audience_size"),
    ({"audience_size": "10"}, "/audience_size"),
    ({"audience_size": True}, "/audience_size"),
    ({"audience_size": None}, "/audience_size"),
    ({"audience_size": 10**30}, "/audience_size"),
    ({"audience_fraction": 0}, "/audience_fraction"),
    ({"audience_fraction": 0.51}, "/audience_fraction"),
    ({"min_score": 1.01}, "/min_score"),
    ({"min_score": -0.01}, "/min_score"),
    ({"include_seed_users": 1}, "/include_seed_users"),
    ({"include_seed_users": "true"}, "/include_seed_users"),
    ({"eligibility": []}, "/eligibility"),
    ({"eligibility": {}}, "/eligibility/all"),
    ({"eligibility": {"all": [], "any": []}}, "/eligibility/any"),
    ({"eligibility": {"all": [{"in": ["a"]}]}}, "/eligibility/all/0/feature"),
    ({"eligibility": {"all": [{"feature": "city"}]}}, "/eligibility/all/0"),
    ({"eligibility": {"all": [{"feature": "city", "in": ["a"], "not_in": ["b"]}]}}, "/eligibility/all/0"),
    ({"eligibility": {"all": [{"feature": "city", "in": [4]}]}}, "/eligibility/all/0/in/0"),
    ({"eligibility": {"all": [{"feature": "city", "in_": ["a"]}]}}, "/eligibility/all/0/in_"),
    ({"eligibility": {"all": [{"feature": "city", "in": None}]}}, "/eligibility/all/0/in"),
    ({"eligibility": {"all": [{"feature": "age", "min": 5, "max": 4}]}}, "/eligibility/all/0"),
    ({"eligibility": {"all": [{"feature": "age", "in": ["5"]}]}}, "/eligibility/all/0"),
    ({"eligibility": {"all": [{"feature": "city", "min": 5}]}}, "/eligibility/all/0"),
    ({"eligibility": {"all": [{"feature": "planet", "in": ["5"]}]}}, "/eligibility/all/0"),
    ({"campaign": {"planet": "mars"}}, "/campaign/planet"),
    ({"campaign": {"a/b~c": "mars"}}, "/campaign/a~1b~0c"),
    ({"campaign": {"topic": 7}}, "/campaign/topic"),
    ({"campaign": {"topic": {}}}, "/campaign/topic"),
    ({"campaign": {"topic": None}}, "/campaign/topic"),
    ({"deadline_seconds": 9}, "/deadline_seconds"),
    ({"deadline_seconds": 86_401}, "/deadline_seconds"),
    ({"deadline_seconds": 60.5}, "/deadline_seconds"),
    ({"on_active": "wait"}, "/on_active"),
    ({"labels": {str(number): "x" for number in range(17)}}, "/labels"),
    ({"labels": {"a": 1}}, "/labels/a"),
    ({"labels": {"a": "b\0"}}, "/labels/a"),
    ({"deny_features": ["planet"]}, "/deny_features/0"),
    ({"surprise": 1}, "/surprise"),
]


def test_every_fault_of_the_body_is_named_where_it_is_and_makes_no_job(start_api: StartApi, postgres_url: str) -> None:
    api = start_api(postgres_url)
    for changes, pointer in WRONG:
        body = json.dumps({**REQUEST, **changes})
        answer = api.call("POST", URL, content=body, headers={"Content-Type": "application/json"})
        assert pointer in pointers(answer), (changes, answer.text)
    assert count_jobs(api.database) == 0


def test_both_sizes_are_refused_by_both_names(sqlite_api: Api) -> None:
    answer = sqlite_api.post(URL, {**REQUEST, "audience_size": 5, "audience_fraction": 0.1})
    assert pointers(answer) == ["/audience_size", "/audience_fraction"]


def test_an_unknown_model_version_is_422_at_once_and_naming_one_needs_a_scope(sqlite_api: Api) -> None:
    body = {**REQUEST, "model_version": "v9"}
    assert_problem(sqlite_api.post(URL, body), 403, "insufficient-scope")
    assert pointers(sqlite_api.post(URL, body, key="operator")) == ["/model_version"]
    assert sqlite_api.post(URL, {**REQUEST, "model_version": "v1"}, key="operator").status_code == 202


RAW: list[tuple[bytes, int, str]] = [
    (b"", 400, "malformed-request"),
    (b"{", 400, "malformed-request"),
    (b"\xff{}", 400, "malformed-request"),
    (b'{"seed_user_ids": ["a"], "min_score": NaN}', 400, "malformed-request"),
    (b"[" * 100_000, 400, "malformed-request"),
    (b"[]", 422, "validation-failed"),
    (b"null", 422, "validation-failed"),
    (b'{"seed_user_ids": ["a"], "seed_user_ids": ["b"]}', 422, "validation-failed"),
    (b'{"seed_user_ids": ["a"], "min_score": 1e999}', 422, "validation-failed"),
    (b"{" + b",".join(b'"k%d": 1' % number for number in range(5_000)) + b"}", 422, "validation-failed"),
]


def test_what_is_not_a_plain_json_object_is_refused(sqlite_api: Api) -> None:
    for raw, status, slug in RAW:
        answer = sqlite_api.call("POST", URL, content=raw, headers={"Content-Type": "application/json"})
        assert_problem(answer, status, slug)


def test_other_media_types_are_415(sqlite_api: Api) -> None:
    for content_type in (
        "",
        "text/plain",
        "text/csv; charset=latin-1",
        "text/json",
        "application/json; charset=utf-16",
    ):
        answer = sqlite_api.call("POST", URL, content=b"{}", headers={"Content-Type": content_type})
        assert_problem(answer, 415, "unsupported-media-type")


def test_no_fault_report_repeats_what_was_sent(sqlite_api: Api) -> None:
    secret = "hunter2"
    body = {
        "seed_user_ids": [secret, 1],
        "audience_size": secret,
        "audience_fraction": [secret],
        "on_active": secret,
        "deadline_seconds": secret,
        "labels": secret,
        "eligibility": {"all": [{"feature": "city", "in": [{"x": secret}]}]},
    }
    answer = sqlite_api.post(URL, body)
    assert len(pointers(answer)) == 7
    assert secret not in answer.text


def test_at_most_twenty_faults_are_listed(sqlite_api: Api) -> None:
    assert len(pointers(sqlite_api.post(URL, {**REQUEST, **{f"x{number}": 1 for number in range(100)}}))) == 20


@pytest.mark.alone
def test_half_a_million_wrong_ids_are_one_fault_and_one_more_is_too_many(sqlite_api: Api) -> None:
    started = time.monotonic()
    assert pointers(sqlite_api.post(URL, {"seed_user_ids": [1] * 500_000})) == ["/seed_user_ids/0"]
    assert time.monotonic() - started < 2
    assert pointers(sqlite_api.post(URL, {"seed_user_ids": ["a"] * 500_001})) == ["/seed_user_ids"]


def test_half_a_million_seeds_are_accepted(sqlite_api: Api) -> None:
    job = expand(sqlite_api, seed_user_ids=[f"u{number}" for number in range(500_000)])
    assert job["seed"]["unique"] == 500_000


def test_a_body_over_the_cap_is_413(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, max_body_bytes=2_000)
    assert_problem(api.post(URL, {"seed_user_ids": ["x" * 100] * 20}), 413, "payload-too-large")


def test_a_campaign_that_cannot_be_is_not_found(sqlite_api: Api) -> None:
    for name in ("a" * 65, "-a", "a.b", "a%00b", "%C3%A9", "a%20b", "a%0A"):
        assert_problem(sqlite_api.post(f"/campaigns/{name}/expand", REQUEST), 404, "not-found")


def test_before_there_is_a_model_or_a_pool_an_expansion_waits(start_api: StartApi, sqlite_url: str) -> None:
    job = expand(start_api(sqlite_url, served=False), campaign={"anything": 1}, deny_features=["anything"])
    assert (job["state"], job["model"], job["pool"]) == ("queued", None, None)


def test_a_busy_campaign_is_queued_rejected_or_superseded(api: Api) -> None:
    first = expand(api)
    second = expand(api)
    assert_problem(api.post(URL, {**REQUEST, "on_active": "reject"}), 409, "campaign-busy")
    assert expand(api, "autumn", on_active="reject")["state"] == "queued"
    third = expand(api, on_active="supersede")
    states = [api.get(f"/jobs/{job['id']}").json()["state"] for job in (first, second, third)]
    assert states == ["cancelled", "cancelled", "queued"]
    assert api.metric("lookalike_jobs_finished_total", state="cancelled", error_type="") == 2


def test_the_rate_limit_names_its_quota_and_counts_no_faulty_request(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, expand_per_minute=2)
    for _ in range(3):
        api.post(URL, {})
    assert [api.post(URL, REQUEST).status_code for _ in range(2)] == [202, 202]
    answer = api.post(URL, REQUEST)
    assert "EXPAND_PER_MINUTE allows 2" in assert_problem(answer, 429, "quota-exceeded")["detail"]
    assert int(answer.headers["retry-after"]) > 0
    assert api.post(URL, REQUEST, key="globex").status_code == 202


def test_the_quota_of_active_jobs_holds_against_concurrent_posts(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url, active_jobs_max=3)
    posts = [("POST", f"/campaigns/c{number}/expand", "acme", {"json": REQUEST}) for number in range(8)]
    answers = api.call_at_once(*posts)
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 5
    assert count_jobs(api.database) == 3


@pytest.mark.alone
def test_a_dead_or_silent_redis_changes_no_answer(
    start_api: StartApi, sqlite_url: str, redis_server: RedisServer
) -> None:
    api = start_api(sqlite_url, expand_per_minute=5)
    expand(api)
    redis_server.pause()
    started = time.monotonic()
    expand(api)
    assert time.monotonic() - started < 1
    redis_server.resume()
    redis_server.kill()
    expand(api)
    assert count_jobs(api.database) == 3


# Idempotency


def test_a_repeated_key_replays_the_job(api: Api) -> None:
    headers = {"Idempotency-Key": "order-7"}
    first = api.post(URL, REQUEST, headers=headers)
    assert "idempotent-replayed" not in first.headers
    respelled = json.dumps({"include_seed_users": False, **REQUEST}, indent=2).encode()
    again = api.call(
        "POST", URL, content=respelled, headers={**headers, "Content-Type": "application/json; charset=utf-8"}
    )
    assert again.status_code == 202
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["id"] == first.json()["id"]
    assert api.metric("lookalike_jobs_submitted_total") == 1
    assert api.metric("lookalike_idempotent_requests_total", outcome="new") == 1
    assert api.metric("lookalike_idempotent_requests_total", outcome="replayed") == 1


def test_a_key_for_another_request_is_refused(api: Api) -> None:
    headers = {"Idempotency-Key": "order-7"}
    api.post(URL, REQUEST, headers=headers)
    for url, body in ((URL, {**REQUEST, "audience_size": 7}), ("/campaigns/autumn/expand", REQUEST)):
        assert_problem(api.post(url, body, headers=headers), 422, "idempotency-key-reused")
    assert api.metric("lookalike_idempotent_requests_total", outcome="mismatch") == 2
    assert count_jobs(api.database) == 1


def test_a_key_belongs_to_its_tenant(sqlite_api: Api) -> None:
    headers = {"Idempotency-Key": "order-7"}
    mine = sqlite_api.post(URL, REQUEST, headers=headers).json()["id"]
    theirs = sqlite_api.post(URL, REQUEST, headers=headers, key="globex").json()["id"]
    assert mine != theirs


def test_twenty_concurrent_posts_with_one_key_make_one_job(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url, active_jobs_max=1)
    post = ("POST", URL, "acme", {"json": {**REQUEST, "on_active": "reject"}, "headers": {"Idempotency-Key": "one"}})
    answers = api.call_at_once(*[post] * 20)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 19
    assert count_jobs(api.database) == 1
    assert api.metric("lookalike_jobs_submitted_total") == 1


def test_a_key_that_is_not_visible_ascii_is_refused(sqlite_api: Api) -> None:
    for key in ("", "x" * 256, "a b", "a\tb", "é".encode("latin-1")):
        assert_problem(sqlite_api.post(URL, REQUEST, headers={"Idempotency-Key": key}), 400, "invalid-parameter")


def test_a_replay_after_the_deletion_of_its_job_is_not_found(sqlite_api: Api) -> None:
    headers = {"Idempotency-Key": "order-7"}
    job = sqlite_api.post(URL, REQUEST, headers=headers).json()
    sqlite_api.post(f"/jobs/{job['id']}/cancel")
    assert sqlite_api.call("DELETE", f"/jobs/{job['id']}").status_code == 204
    assert_problem(sqlite_api.post(URL, REQUEST, headers=headers), 404, "not-found")


def test_a_running_job_is_asked_to_stop_by_the_one_that_supersedes_it(api: Api) -> None:
    first = expand(api)
    claim(api.database)
    expand(api, on_active="supersede")
    with api.database.read() as session:
        assert session.scalar(select(Job.state).where(Job.id == first["id"])) == State.CANCELLING
