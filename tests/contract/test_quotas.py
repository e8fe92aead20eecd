"""What a tenant may have in a minute, at a time and in a day: named when it is reached, and told before that."""

import re

from sqlalchemy import text, update

from service.jobs.states import State
from service.jobs.tables import Job
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import REQUEST, assert_problem, claim, count_jobs, expand, publish
from tests.fixtures.job_rows import finish
from tests.fixtures.redis import RedisServer

URL = "/campaigns/spring/expand"


def left(api: Api, quota: str) -> int:
    """What the answer to another expansion says is left."""
    answer = api.post(URL, REQUEST)
    assert answer.status_code == 202, answer.text
    found = re.search(rf'"{quota}";r=(\d+)', answer.headers["ratelimit"])
    assert found is not None
    return int(found[1])


def test_an_answer_tells_every_limit_and_what_is_left_of_it(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url, expand_per_minute=5, active_jobs_max=3, output_users_per_day=1_000)
    headers = api.post(URL, {**REQUEST, "audience_size": 300}).headers
    assert headers["ratelimit-policy"] == (
        '"EXPAND_PER_MINUTE";q=5;w=60, "ACTIVE_JOBS_MAX";q=3;qu="concurrent-requests", '
        '"OUTPUT_USERS_PER_DAY";q=1000;w=86400;qu="users"'
    )
    told = re.fullmatch(
        r'"EXPAND_PER_MINUTE";r=4;t=(\d+), "ACTIVE_JOBS_MAX";r=2, "OUTPUT_USERS_PER_DAY";r=700;t=(\d+)',
        headers["ratelimit"],
    )
    assert told is not None
    assert 50 <= int(told[1]) <= 60
    assert 0 <= int(told[2]) <= 86_400


def test_without_limits_nothing_is_told(sqlite_api: Api) -> None:
    answer = sqlite_api.post(URL, REQUEST)
    assert not {"ratelimit", "ratelimit-policy"} & answer.headers.keys()


def test_the_limit_that_is_reached_is_named_with_its_value(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, expand_per_minute=1)
    expand(api)
    answer = api.post(URL, REQUEST)
    assert "EXPAND_PER_MINUTE allows 1 a minute" in assert_problem(answer, 429, "quota-exceeded")["detail"]
    assert answer.headers["ratelimit-policy"] == '"EXPAND_PER_MINUTE";q=1;w=60'
    assert answer.headers["ratelimit"].startswith('"EXPAND_PER_MINUTE";r=0;t=')
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_unfinished_jobs_are_limited_until_they_are_finished(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, active_jobs_max=1)
    expand(api)
    answer = api.post(URL, REQUEST)
    assert "ACTIVE_JOBS_MAX allows 1 unfinished jobs" in assert_problem(answer, 429, "quota-exceeded")["detail"]
    assert answer.headers["ratelimit"] == '"ACTIVE_JOBS_MAX";r=0'
    assert api.post(URL, {**REQUEST, "on_active": "supersede"}).status_code == 202
    assert finish(api.database, claim(api.database), State.FAILED)
    assert left(api, "ACTIVE_JOBS_MAX") == 0


def test_a_superseded_job_lives_on_where_its_successor_is_over_a_quota(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url, output_users_per_day=100)
    job = expand(api, audience_size=60)
    answer = api.post(URL, {**REQUEST, "audience_size": 101, "on_active": "supersede"})
    assert_problem(answer, 429, "quota-exceeded")
    assert api.get(f"/jobs/{job['id']}").json()["state"] == "queued"


def test_a_days_audience_users_are_limited_by_what_was_asked_for(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url, output_users_per_day=5_500)
    expand(api, audience_size=400)
    answer = api.post(URL, {**REQUEST, "audience_size": 5_000_000})  # which is cut to half of the pool: 5,000
    assert answer.status_code == 202
    answer = api.post(URL, {**REQUEST, "audience_fraction": 0.0101})
    detail = assert_problem(answer, 429, "quota-exceeded")["detail"]
    assert "OUTPUT_USERS_PER_DAY allows 5500 audience users a day" in detail
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400
    assert answer.headers["ratelimit"].startswith('"OUTPUT_USERS_PER_DAY";r=100;t=')
    assert api.post(URL, REQUEST).status_code == 202  # one percent of the pool: the last 100
    assert count_jobs(api.database) == 3
    assert api.post(URL, REQUEST, key="globex").status_code == 202


def test_a_finished_expansion_counts_what_it_has_and_a_failed_one_nothing(
    start_api: StartApi, database_url: str
) -> None:
    api = start_api(database_url, output_users_per_day=10_000)
    published = expand(api, audience_size=1_000)
    publish(api, published["id"], 40)
    expand(api, "failing", audience_size=1_000)
    assert finish(api.database, claim(api.database), State.FAILED)
    assert left(api, "OUTPUT_USERS_PER_DAY") == 10_000 - 40 - 100


def test_deleting_a_job_gives_no_quota_back(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, output_users_per_day=10_000)
    job = expand(api, audience_size=1_000)
    publish(api, job["id"], 1_000)
    assert api.call("DELETE", f"/jobs/{job['id']}").status_code == 204
    assert left(api, "OUTPUT_USERS_PER_DAY") == 10_000 - 1_000 - 100


def test_another_day_begins_anew(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url, output_users_per_day=300)
    expand(api, audience_size=300)
    with api.database.write() as session:
        session.execute(text("UPDATE output_grants SET created_at = '2026-01-02 03:04:05.000000'"))
        session.execute(update(Job).values(state=State.CANCELLED))
    assert left(api, "OUTPUT_USERS_PER_DAY") == 200
    with api.database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM output_grants")) == 1


def test_a_replay_uses_no_more_of_the_days_users(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, output_users_per_day=150)
    headers = {"Idempotency-Key": "order-7"}
    assert api.post(URL, REQUEST, headers=headers).status_code == 202
    assert api.post(URL, REQUEST, headers=headers).headers["idempotent-replayed"] == "true"


def test_concurrent_posts_do_not_get_more_users_than_a_day_has(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url, output_users_per_day=350)
    posts = [("POST", f"/campaigns/c{number}/expand", "acme", {"json": REQUEST}) for number in range(6)]
    assert sorted(answer.status_code for answer in api.call_at_once(*posts)) == [202] * 3 + [429] * 3


def test_the_users_that_a_tenant_looks_up_in_a_minute_are_limited(start_api: StartApi, database_url: str) -> None:
    api = start_api(database_url, lookup_ids_per_minute=100)
    publish(api, expand(api)["id"], 50)
    look_up = "/campaigns/spring/audience/lookup"
    headers = api.post(look_up, {"user_ids": ["u"] * 99}).headers
    assert headers["ratelimit-policy"] == '"LOOKUP_IDS_PER_MINUTE";q=100;w=60;qu="users"'
    assert headers["ratelimit"].startswith('"LOOKUP_IDS_PER_MINUTE";r=1;t=')
    answer = api.post(look_up, {"user_ids": ["u"] * 2})
    assert "LOOKUP_IDS_PER_MINUTE allows 100 users a minute" in assert_problem(answer, 429, "quota-exceeded")["detail"]
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert api.get("/users/u/audiences").headers["ratelimit"].startswith('"LOOKUP_IDS_PER_MINUTE";r=0;t=')
    assert_problem(api.get("/users/u/audiences"), 429, "quota-exceeded")
    assert api.get("/users/u/audiences", key="globex").status_code == 200


def test_without_redis_the_process_limits_by_itself(
    start_api: StartApi, sqlite_url: str, redis_server: RedisServer
) -> None:
    api = start_api(sqlite_url, expand_per_minute=2)
    redis_server.stop()
    assert [left(api, "EXPAND_PER_MINUTE") for _ in range(2)] == [1, 0]
    assert_problem(api.post(URL, REQUEST), 429, "quota-exceeded")
