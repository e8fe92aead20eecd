"""The cache against a real Redis that is stopped, paused and filled up."""

import socket
import time
from collections.abc import Iterator

import pytest

from service.kit.breaker import Breaker
from service.kit.metrics import Metrics
from service.kit.redis import Cache, connect
from tests.fixtures.redis import RedisServer


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="test")


@pytest.fixture
def cache(redis_url: str, metrics: Metrics) -> Iterator[Cache]:
    cache = Cache(redis_url, metrics, breaker=Breaker(open_seconds=0.2))
    yield cache
    cache.close()


def count(metrics: Metrics, operation: str, outcome: str) -> float | None:
    return metrics.registry.get_sample_value("lookalike_cache_operations_total", {"op": operation, "outcome": outcome})


def test_values_come_back_in_the_order_asked_with_none_for_a_miss(cache: Cache, metrics: Metrics) -> None:
    assert cache.set_many({"a": b"\x00\xff", "b": b"2"}, ttl_seconds=60)
    assert cache.get_many(["b", "absent", "a"]) == [b"2", None, b"\x00\xff"]
    assert (count(metrics, "get", "hit"), count(metrics, "get", "miss"), count(metrics, "set", "ok")) == (2, 1, 1)


def test_a_deleted_value_is_a_miss(cache: Cache) -> None:
    cache.set_many({"a": b"1"}, ttl_seconds=60)
    assert cache.delete(["a", "never there"])
    assert cache.get_many(["a"]) == [None]


def test_a_value_expires(cache: Cache, redis_url: str) -> None:
    cache.set_many({"a": b"1"}, ttl_seconds=60)
    with connect(redis_url) as client:
        assert 0 < client.ttl("a") <= 60


def test_nothing_to_do_needs_no_redis(metrics: Metrics) -> None:
    cache = Cache("redis://127.0.0.1:1", metrics)
    assert cache.get_many([]) == []
    assert cache.set_many({}, ttl_seconds=1)
    assert cache.delete([])


def test_a_stopped_redis_is_a_miss_and_opens_the_breaker(
    cache: Cache, redis_server: RedisServer, metrics: Metrics
) -> None:
    cache.set_many({"a": b"1"}, ttl_seconds=60)
    redis_server.stop()
    assert cache.get_many(["a"]) == [None]
    assert not cache.set_many({"a": b"1"}, ttl_seconds=60)
    assert not cache.delete(["a"])
    assert count(metrics, "get", "error") == 1
    assert count(metrics, "set", "skipped") == 1
    assert metrics.registry.get_sample_value("lookalike_cache_breaker_open") == 1


def test_a_restarted_redis_is_used_again_after_one_probe(
    cache: Cache, redis_server: RedisServer, metrics: Metrics
) -> None:
    redis_server.stop()
    cache.get_many(["a"])
    redis_server.start()
    time.sleep(0.25)
    assert cache.set_many({"a": b"1"}, ttl_seconds=60)
    assert cache.get_many(["a"]) == [b"1"]
    assert metrics.registry.get_sample_value("lookalike_cache_breaker_open") == 0


@pytest.mark.alone
def test_a_hanging_redis_costs_the_read_timeout_once(cache: Cache, redis_server: RedisServer, metrics: Metrics) -> None:
    cache.get_many(["a"])
    redis_server.pause()
    started = time.perf_counter()
    assert [cache.get_many(["a"]) for _ in range(100)] == [[None]] * 100
    assert time.perf_counter() - started < 1.0
    assert (count(metrics, "get", "timeout") or 0) >= 1


@pytest.mark.alone
def test_a_server_that_never_answers_costs_the_timeout(metrics: Metrics) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        cache = Cache(f"redis://127.0.0.1:{port}", metrics)
        started = time.perf_counter()
        assert cache.get_many(["a"]) == [None]
        assert time.perf_counter() - started < 1.0


def test_a_full_redis_refuses_writes_but_is_read_on(cache: Cache, redis_url: str, metrics: Metrics) -> None:
    cache.set_many({"a": b"1"}, ttl_seconds=60)
    with connect(redis_url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        try:
            assert not cache.set_many({"b": b"x" * 1000}, ttl_seconds=60)
            assert cache.get_many(["a"]) == [b"1"]
        finally:
            client.config_set("maxmemory", "0")
    assert count(metrics, "set", "oom") == 1


def test_the_breaker_lets_one_probe_through_per_period() -> None:
    now = 0.0
    breaker = Breaker(open_seconds=3, clock=lambda: now)
    breaker.failed()
    assert not breaker.allows()
    now = 3.5
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.succeeded()
    assert [breaker.allows(), breaker.allows()] == [True, True]
