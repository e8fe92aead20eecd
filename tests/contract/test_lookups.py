"""Look-ups: rank and score of users in the current audience, the same from Redis and the store, and whose they are."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from sqlalchemy import event, update

from service.audiences.cache import AudienceCache
from service.audiences.publishing import AudiencePublisher
from service.audiences.tables import Audience
from service.jobs.tables import Job
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from tests.contract.conftest import Api
from tests.contract.worlds import SIZE, assert_problem, expand, ids_and_scores, pointers, publish
from tests.fixtures.redis import RedisServer

URL = "/campaigns/spring/audience/lookup"
NOBODY = {"member": False, "rank": None, "score": None}


def member(rank: int) -> dict[str, Any]:
    user_ids, scores = ids_and_scores(SIZE)
    return {"user_id": user_ids[rank - 1], "member": True, "rank": rank, "score": float(scores[rank - 1])}


def look_up(api: Api, *user_ids: str) -> list[dict[str, Any]]:
    answer = api.post(URL, {"user_ids": list(user_ids)})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def test_users_are_answered_in_the_order_asked_members_with_rank_and_score(api: Api, job_id: str) -> None:
    answer = api.post(URL, {"user_ids": ["user-003455", "nobody", "user-000000", "user-003455", "zoë"]}).json()
    assert set(answer) == {"job_id", "model_version", "created_at", "results"}
    assert (answer["job_id"], answer["model_version"]) == (job_id, "v1")
    assert datetime.fromisoformat(answer["created_at"]).tzinfo == UTC
    assert answer["created_at"].endswith("Z")
    assert answer["results"] == [
        member(3_456),
        {"user_id": "nobody", **NOBODY},
        member(1),
        member(3_456),
        {"user_id": "zoë", **NOBODY},
    ]


def test_an_id_that_normalisation_makes_longer_than_any_members_is_nobody(api: Api, job_id: str) -> None:
    longer = "\u0958" * 128  # two characters each in normal form C, six bytes
    assert look_up(api, longer, "user-000000") == [{"user_id": longer, **NOBODY}, member(1)]
    assert api.get(f"/users/{longer}/audiences").json() == {"audiences": []}


def test_a_look_up_and_the_pages_say_the_same_of_everybody(
    api: Api, job_id: str, redis_server: RedisServer, redis_url: str
) -> None:
    everybody = [member(rank) for rank in range(1, SIZE + 1)]
    asked = [row["user_id"] for row in everybody]
    assert look_up(api, *asked) == everybody
    redis_server.flush()
    assert look_up(api, *asked) == everybody
    with redis.Redis.from_url(redis_url) as client:
        assert len(client.keys("lookalike:lookup:*")) == 14  # type: ignore[arg-type]
    redis_server.kill()
    assert look_up(api, *asked) == everybody


def test_what_somebody_else_wrote_into_redis_is_not_believed(api: Api, job_id: str, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        keys: Any = sorted(client.keys("lookalike:lookup:*"))
        values: Any = client.mget(keys)
        client.mset(dict(zip(keys, [b"junk", values[0], *(value[:-1] for value in values[2:])], strict=True)))
    assert look_up(api, "user-000000", "user-001234", "nobody") == [
        member(1),
        member(1_235),
        {"user_id": "nobody", **NOBODY},
    ]


def test_without_redis_a_damaged_object_is_503_and_not_a_wrong_answer(
    api: Api, job_id: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.flush()
    (path,) = (tmp_path / "audiences").rglob("lookup.bin")
    path.write_bytes(path.read_bytes()[:200] + b"\0" * 40_000)
    assert_problem(api.post(URL, {"user_ids": ["user-000000"]}), 503, "dependency-unavailable")


def test_a_look_up_costs_one_statement_and_one_round_trip_to_redis(sqlite_api: Api) -> None:
    publish(sqlite_api, expand(sqlite_api)["id"], SIZE)
    look_up(sqlite_api, "user-000000")  # the key is known from here on
    seen: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(sqlite_api.app.state.database.engine, "before_cursor_execute", listen)
    before = sqlite_api.metric("lookalike_cache_operation_duration_seconds_count", op="get")
    look_up(sqlite_api, *(f"user-{number:06d}" for number in range(0, 10_000, 100)))
    event.remove(sqlite_api.app.state.database.engine, "before_cursor_execute", listen)
    assert len([statement for statement in seen if not statement.startswith("BEGIN")]) == 1
    assert sqlite_api.metric("lookalike_cache_operation_duration_seconds_count", op="get") == before + 1


def test_a_body_is_strict(sqlite_api: Api) -> None:
    publish(sqlite_api, expand(sqlite_api)["id"], 10)
    for body, pointer in (
        ({}, "/user_ids"),
        ({"user_ids": []}, "/user_ids"),
        ({"user_ids": ["u"] * 10_001}, "/user_ids"),
        ({"user_ids": "u"}, "/user_ids"),
        ({"user_ids": [1]}, "/user_ids/0"),
        ({"user_ids": ["u", ""]}, "/user_ids/1"),
        ({"user_ids": ["x" * 129]}, "/user_ids/0"),
        ({"user_ids": ["a\tb"]}, "/user_ids/0"),
        ({"user_ids": ["u"], "rank": True}, "/rank"),
    ):
        assert pointer in pointers(sqlite_api.post(URL, body)), body
    text = {"Content-Type": "text/plain"}
    assert_problem(sqlite_api.post(URL, content=b"u", headers=text), 415, "unsupported-media-type")
    assert_problem(
        sqlite_api.post(URL, content=b"{", headers={"Content-Type": "application/json"}), 400, "malformed-request"
    )
    assert len(look_up(sqlite_api, *["user-000001"] * 10_000)) == 10_000


def test_without_a_current_audience_there_is_nothing_to_look_in(api: Api) -> None:
    assert_problem(api.post(URL, {"user_ids": ["u"]}), 404, "not-found")
    publish(api, expand(api)["id"], 10)
    assert_problem(api.post(URL, {"user_ids": ["u"]}, key="globex"), 404, "not-found")
    with api.database.write() as session:
        session.execute(update(Audience).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert_problem(api.post(URL, {"user_ids": ["u"]}), 410, "audience-expired")


def test_an_empty_audience_holds_nobody(sqlite_api: Api) -> None:
    publish(sqlite_api, expand(sqlite_api)["id"], 0)
    assert look_up(sqlite_api, "user-000000") == [{"user_id": "user-000000", **NOBODY}]


def test_a_user_s_audiences_are_the_current_ones_that_hold_it(api: Api, redis_server: RedisServer) -> None:
    jobs = {}
    for campaign, sizes in (("autumn", [400]), ("spring", [500, 30]), ("summer", [20]), ("winter", [300])):
        for size in sizes:
            jobs[campaign] = expand(api, campaign)["id"]
            publish(api, jobs[campaign], size)
    theirs = expand(api, "autumn", key="globex")["id"]
    publish(api, theirs, 400)
    with api.database.write() as session:
        session.execute(
            update(Audience)
            .where(Audience.job_id == jobs["winter"])
            .values(expires_at=datetime(2020, 1, 1, tzinfo=UTC))
        )
    expected = [
        {"campaign_id": name, "job_id": jobs[name], "rank": 26, "score": float(ids_and_scores(size)[1][25])}
        for name, size in (("autumn", 400), ("spring", 30))
    ]
    for _ in range(2):
        assert api.get("/users/user-000025/audiences").json() == {"audiences": expected}
        redis_server.flush()
    assert api.get("/users/user-000399/audiences").json()["audiences"][0]["rank"] == 400
    assert [a["job_id"] for a in api.get("/users/user-000025/audiences", key="globex").json()["audiences"]] == [theirs]


def test_a_user_whom_nobody_knows_is_in_no_audience(sqlite_api: Api) -> None:
    assert sqlite_api.get("/users/u/audiences").json() == {"audiences": []}
    publish(sqlite_api, expand(sqlite_api)["id"], 10)
    for user_id in ("nobody", "a%2Fb", "a%00b", "%20", "zo%C3%AB", "x" * 129, "%F0%9F%98%80" * 128):
        answer = sqlite_api.get(f"/users/{user_id}/audiences")
        assert (answer.status_code, answer.json()) == (200, {"audiences": []}), user_id


def test_many_campaigns_are_walked_through_to_the_last(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.audiences.repository._CURRENT_OF_EACH", _two_at_a_time())
    names = [f"c{number}" for number in range(5)]
    for name in names:
        publish(sqlite_api, expand(sqlite_api, name)["id"], 3)
    found = sqlite_api.get("/users/user-000002/audiences").json()["audiences"]
    assert [audience["campaign_id"] for audience in found] == names


def _two_at_a_time() -> Any:
    from service.audiences import repository  # noqa: PLC0415 - before it is patched

    return repository._CURRENT_OF_EACH.limit(2)


@pytest.mark.parametrize(("uuids", "most_bytes"), [(False, 24), (True, 40)])
def test_a_member_takes_little_of_redis_pages_and_look_up_together(
    sqlite_api: Api, redis_url: str, uuids: bool, most_bytes: int
) -> None:
    size = 50_000
    generator = np.random.default_rng(0)
    numbers = generator.choice(1_000_000, size, replace=False)
    user_ids = [str(uuid.UUID(bytes=generator.bytes(16))) if uuids else f"u{number:08d}" for number in numbers]
    scores = np.sort(generator.beta(8, 2, 1_000_000))[::-1][:size].round(6)
    job_id = expand(sqlite_api)["id"]
    cache = Cache(redis_url, Metrics(version="test"))
    publisher = AudiencePublisher(sqlite_api.app.state.artifacts.audiences, AudienceCache(cache, 30), 30)
    with sqlite_api.database.read() as session:
        job = session.get_one(Job, job_id)
    publisher.fill_cache(publisher.store(job, "v1", user_ids, scores))
    cache.close()
    with redis.Redis.from_url(redis_url) as client:
        keys: Any = client.keys("lookalike:*")
        assert len(keys) == 50 + 196
        used = sum(client.memory_usage(key, samples=0) or 0 for key in keys)
    assert 10 < used / size < most_bytes
