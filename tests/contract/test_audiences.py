"""Audience pages: the whole ranking in order, the same from Redis and the store; tokens cannot be bent."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import update

from service.audiences.tables import Audience
from tests.contract.conftest import Api
from tests.contract.worlds import SIZE, assert_problem, expand, ids_and_scores, publish
from tests.fixtures.redis import RedisServer


def walk(api: Api, url: str, page_size: int) -> tuple[list[tuple[int, str, float]], set[str]]:
    """All members as (rank, user_id, score), and where the pages came from."""
    members: list[tuple[int, str, float]] = []
    sources = set()
    token = ""
    while True:
        answer = api.get(url, params={"page_size": page_size, "page_token": token})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert set(page) == {"users", "next_page_token", "job_id", "model_version", "audience_size", "source"}
        members += [(user["rank"], user["user_id"], user["score"]) for user in page["users"]]
        sources.add(page["source"])
        token = page["next_page_token"]
        if not token:
            return members, sources


def expected(size: int) -> list[tuple[int, str, float]]:
    user_ids, scores = ids_and_scores(size)
    return list(zip(range(1, size + 1), user_ids, scores.tolist(), strict=True))


def test_a_walk_gives_the_whole_audience_in_order(api: Api, job_id: str) -> None:
    for page_size in (777, 1_000, 2_001, 0, 99_999):
        assert walk(api, f"/jobs/{job_id}/audience", page_size) == (expected(SIZE), {"cache"})
        assert walk(api, "/campaigns/spring/audience", page_size) == (expected(SIZE), {"cache"})


def test_a_page_is_a_thousand_unless_told(api: Api, job_id: str) -> None:
    page = api.get(f"/jobs/{job_id}/audience").json()
    assert len(page["users"]) == 1_000
    assert page["users"][0] == {"rank": 1, "user_id": "user-000000", "score": 0.99}
    assert (page["job_id"], page["model_version"], page["audience_size"]) == (job_id, "v1", SIZE)
    assert api.metric("lookalike_audience_page_requests_total", source="cache") == 1


def test_flushing_redis_changes_nothing_but_the_source(api: Api, job_id: str, redis_server: RedisServer) -> None:
    redis_server.flush()
    url = f"/jobs/{job_id}/audience"
    assert walk(api, url, 1_000) == (expected(SIZE), {"store"})
    assert api.metric("lookalike_cache_refills_total", outcome="ok") == api.metric(
        "lookalike_audience_page_requests_total", source="store"
    )
    assert walk(api, url, 1_000) == (expected(SIZE), {"cache"})


def test_a_killed_or_silent_redis_changes_nothing_but_the_source(
    api: Api, job_id: str, redis_server: RedisServer
) -> None:
    redis_server.pause()
    assert walk(api, f"/jobs/{job_id}/audience", 1_000) == (expected(SIZE), {"store"})
    redis_server.resume()
    redis_server.kill()
    assert walk(api, f"/jobs/{job_id}/audience", 1_000) == (expected(SIZE), {"store"})


def test_what_somebody_else_wrote_into_redis_is_not_believed(api: Api, job_id: str, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        keys: Any = sorted(client.keys("lookalike:audience:*"))
        values: Any = client.mget(keys)
        client.mset(dict(zip(keys, [values[1], values[0], b"junk", values[3][:-1]], strict=True)))
    assert walk(api, f"/jobs/{job_id}/audience", 1_000) == (expected(SIZE), {"store"})


def test_without_redis_a_damaged_object_is_503_and_not_a_wrong_page(
    api: Api, job_id: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.flush()
    for path in (tmp_path / "audiences").rglob("*.arrow"):
        path.write_bytes(b"junk")
    answer = api.get(f"/jobs/{job_id}/audience")
    assert_problem(answer, 503, "dependency-unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_the_campaign_s_audience_is_that_of_its_newest_created_job(sqlite_api: Api) -> None:
    first, second = (expand(sqlite_api)["id"] for _ in range(2))
    publish(sqlite_api, first, 30)
    started = sqlite_api.get("/campaigns/spring/audience?page_size=10").json()
    publish(sqlite_api, second, 40)
    assert sqlite_api.get("/campaigns/spring/audience").json()["job_id"] == second
    token = started["next_page_token"]
    resumed = sqlite_api.get("/campaigns/spring/audience", params={"page_token": token, "page_size": 10}).json()
    assert (resumed["job_id"], resumed["users"][0]["rank"]) == (first, 11)


def test_a_token_is_bound_to_its_job_and_tenant(sqlite_api: Api) -> None:
    mine, other = (expand(sqlite_api, campaign)["id"] for campaign in ("spring", "autumn"))
    for job_id in (mine, other):
        publish(sqlite_api, job_id, 20)
    theirs = expand(sqlite_api, "spring", key="globex")["id"]
    publish(sqlite_api, theirs, 20)
    of_job = sqlite_api.get(f"/jobs/{mine}/audience?page_size=5").json()["next_page_token"]
    of_campaign = sqlite_api.get("/campaigns/spring/audience?page_size=5").json()["next_page_token"]
    for url, key, token in (
        (f"/jobs/{other}/audience", "acme", of_job),
        (f"/jobs/{theirs}/audience", "globex", of_job),
        (f"/jobs/{mine}/audience", "acme", of_job[:-2] + "xx"),
        (f"/jobs/{mine}/audience", "acme", of_job[:8]),
        (f"/jobs/{mine}/audience", "acme", "é"),
        ("/campaigns/autumn/audience", "acme", of_campaign),
        ("/campaigns/spring/audience", "globex", of_campaign),
        ("/campaigns/spring/audience", "acme", of_campaign[:-2] + "xx"),
        ("/campaigns/spring/audience", "acme", "a\0b.c"),
        ("/campaigns/spring/audience", "acme", of_job),
    ):
        assert_problem(sqlite_api.get(url, key=key, params={"page_token": token}), 400, "invalid-page-token")


def test_a_nul_in_a_token_is_no_error_of_the_database(api: Api) -> None:
    answer = api.get("/campaigns/spring/audience", params={"page_token": "job_\0.x"})
    assert_problem(answer, 400, "invalid-page-token")


def test_only_a_succeeded_job_has_an_audience(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    assert_problem(sqlite_api.get(f"/jobs/{job_id}/audience"), 409, "job-not-finished")
    sqlite_api.post(f"/jobs/{job_id}/cancel")
    assert_problem(sqlite_api.get(f"/jobs/{job_id}/audience"), 409, "job-not-finished")
    assert_problem(sqlite_api.get("/campaigns/spring/audience"), 404, "not-found")


def test_an_audience_past_its_time_is_410(api: Api, job_id: str) -> None:
    token = api.get("/campaigns/spring/audience").json()["next_page_token"]
    with api.database.write() as session:
        session.execute(update(Audience).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    for url in (
        f"/jobs/{job_id}/audience",
        "/campaigns/spring/audience",
        f"/campaigns/spring/audience?page_token={token}",
    ):
        assert_problem(api.get(url), 410, "audience-expired")


def test_a_negative_page_size_is_400(api: Api, job_id: str) -> None:
    assert_problem(api.get(f"/jobs/{job_id}/audience?page_size=-1"), 400, "invalid-parameter")


def test_an_empty_audience_has_one_empty_page(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    publish(sqlite_api, job_id, 0)
    page = sqlite_api.get(f"/jobs/{job_id}/audience").json()
    assert (page["users"], page["next_page_token"], page["audience_size"]) == ([], "", 0)
