"""Redis flushed, full, hung, dead or poisoned: callers get the answers that they would get with it, within a second."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.kit.breaker import Breaker
from service.kit.redis import connect
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import REQUEST, assert_problem, expand, ids_and_scores, publish
from tests.faults.hanging import hung
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually

SIZE = 2_500
SECONDS = 1.0
PER_MINUTE = 5
OPEN_SECONDS = 0.5
OPERATIONS = "lookalike_cache_operations_total"
Fault = Callable[[RedisServer], Any]


@contextmanager
def flushed(server: RedisServer) -> Iterator[None]:
    server.flush()
    yield


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    server.flush()
    with connect(server.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "allkeys-lru")


@contextmanager
def dead(server: RedisServer) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def poisoned(server: RedisServer) -> Iterator[None]:
    """Every key of ours holds garbage: of a length that could be a value, of none, or of another type."""
    with connect(server.url) as client:
        keys = [bytes(key) for key in client.scan_iter("*")]
        assert keys
        for number, key in enumerate(keys):
            client.delete(key)
            match number % 3:
                case 0:
                    client.set(key, b"\x00garbage" * 100)
                case 1:
                    client.set(key, b"")
                case _:
                    client.hset(key, "field", "garbage")
    yield


@contextmanager
def swapped(server: RedisServer) -> Iterator[None]:
    """Every cached value lies under the key of another one."""
    with connect(server.url) as client:
        keys = sorted(bytes(key) for kind in ("audience", "lookup") for key in client.scan_iter(f"lookalike:{kind}:*"))
        values: list[Any] = client.mget(keys)
        assert len(set(values)) > 1
        client.mset(dict(zip(keys, values[1:] + values[:1], strict=True)))
    yield


# What has gone wrong, and how what was tried then is counted.
FAULTS: list[tuple[Fault, str, str]] = [
    (flushed, "get", "miss"),
    (full, "set", "oom"),
    (hung, "get", "timeout"),
    (dead, "get", "error"),
    (poisoned, "get", "refused"),
    (swapped, "get", "refused"),
]


@pytest.fixture
def api(start_api: StartApi, sqlite_url: str) -> Api:
    """One that tries a Redis again sooner than it usually would."""
    api = start_api(sqlite_url, expand_per_minute=PER_MINUTE)
    for client in (api.app.state.cache, api.app.state.limiter):
        client._breaker = Breaker(OPEN_SECONDS)
    return api


def timely(call: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    answer = call()
    assert time.perf_counter() - started < SECONDS
    return answer


def read(api: Api, job_id: str) -> list[Any]:
    """A page, one that is cut out of two chunks, a look-up and whose audiences a user is in, each in time."""
    user_ids, _ = ids_and_scores(SIZE)
    lookup = {"user_ids": [*user_ids[::100], "nobody"]}
    first = timely(lambda: api.get(f"/jobs/{job_id}/audience?page_size=750"))
    rest = {"page_size": 750, "page_token": first.json()["next_page_token"]}
    answers = [
        first,
        timely(lambda: api.get(f"/jobs/{job_id}/audience", params=rest)),
        timely(lambda: api.post("/campaigns/spring/audience/lookup", lookup)),
        timely(lambda: api.get(f"/users/{user_ids[7]}/audiences")),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    return [{**answer.json(), "source": None} for answer in answers]


@pytest.mark.parametrize(("fault", "operation", "outcome"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_answers_are_the_same_in_time_counted_and_redis_is_used_again(
    api: Api, redis_server: RedisServer, fault: Fault, operation: str, outcome: str
) -> None:
    job_id = expand(api)["id"]
    publish(api, job_id, SIZE)
    undisturbed = read(api, job_id)
    counted = api.metric(OPERATIONS, op=operation, outcome=outcome)

    with fault(redis_server):
        for _ in range(3):
            assert read(api, job_id) == undisturbed
        assert timely(lambda: expand(api, "summer"))["state"] == "queued"
        assert api.metric(OPERATIONS, op=operation, outcome=outcome) > counted

    def read_from_redis() -> bool:
        hits = api.metric("lookalike_audience_page_requests_total", source="cache")
        assert read(api, job_id) == undisturbed
        return api.metric("lookalike_audience_page_requests_total", source="cache") == hits + 2

    def limited_through_redis() -> bool:
        api.post("/campaigns/summer/expand", REQUEST)
        with connect(redis_server.url) as client:
            return any(client.type(key) == b"list" for key in client.scan_iter("lookalike:limits*"))

    assert eventually(read_from_redis, 10 * OPEN_SECONDS)
    assert api.metric("lookalike_cache_breaker_open") == 0
    assert eventually(limited_through_redis, 10 * OPEN_SECONDS)


@pytest.mark.alone
@pytest.mark.parametrize("fault", [flushed, full, hung, dead, poisoned])
def test_a_rate_limit_holds_whatever_redis_does(api: Api, redis_server: RedisServer, fault: Fault) -> None:
    expand(api)
    with fault(redis_server):
        answers = [timely(lambda: api.post("/campaigns/spring/expand", REQUEST)) for _ in range(PER_MINUTE + 1)]
    assert [answer.status_code for answer in answers[: PER_MINUTE - 1]] == [202] * (PER_MINUTE - 1)
    assert_problem(answers[-1], 429, "quota-exceeded")
