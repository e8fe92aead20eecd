"""Rate limits, shared through Redis and kept without it."""

import time
from collections.abc import Iterator

import pytest
import redis

from service.kit.breaker import Breaker
from service.kit.errors import Problem
from service.kit.limits import RateLimiter
from service.kit.redis import connect
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually


@pytest.fixture
def limiters(redis_url: str) -> Iterator[tuple[RateLimiter, RateLimiter]]:
    """Those of two api processes."""
    pair = RateLimiter(redis_url, budget_seconds=1.0), RateLimiter(redis_url, budget_seconds=1.0)
    yield pair
    for limiter in pair:
        limiter.close()


def test_the_use_after_the_last_allowed_one_is_refused_by_name_and_value(
    limiters: tuple[RateLimiter, RateLimiter],
) -> None:
    for _ in range(3):
        limiters[0].hit("acme", "EXPAND_PER_MINUTE", 3)
    with pytest.raises(Problem, match="EXPAND_PER_MINUTE allows 3 a minute") as refusal:
        limiters[0].hit("acme", "EXPAND_PER_MINUTE", 3)
    assert refusal.value.slug == "quota-exceeded"
    assert 1 <= int(refusal.value.headers["Retry-After"]) <= 60


def test_many_uses_are_spent_at_once_all_of_them_or_none(limiters: tuple[RateLimiter, RateLimiter]) -> None:
    spent = [limiters[0].spend("acme", "IDS", 1_000_000, amount, unit="users") for amount in (600_000, 300_000)]
    assert [standing and standing.left for standing in spent] == [400_000, 100_000]
    with pytest.raises(Problem, match="IDS allows 1000000 users a minute") as refusal:
        limiters[1].spend("acme", "IDS", 1_000_000, 100_001, unit="users")
    assert refusal.value.headers["RateLimit-Policy"] == '"IDS";q=1000000;w=60;qu="users"'
    last = limiters[1].spend("acme", "IDS", 1_000_000, 100_000, unit="users")
    assert last is not None
    assert last.left == 0


def test_processes_share_a_tenants_limit(limiters: tuple[RateLimiter, RateLimiter]) -> None:
    limiters[0].hit("acme", "EXPAND_PER_MINUTE", 1)
    with pytest.raises(Problem):
        limiters[1].hit("acme", "EXPAND_PER_MINUTE", 1)


def test_tenants_and_quotas_do_not_share_limits(limiters: tuple[RateLimiter, RateLimiter]) -> None:
    limiters[0].hit("acme", "EXPAND_PER_MINUTE", 1)
    limiters[0].hit("other", "EXPAND_PER_MINUTE", 1)
    limiters[0].hit("acme", "LOOKUP_PER_MINUTE", 1)


def test_zero_is_no_limit(limiters: tuple[RateLimiter, RateLimiter]) -> None:
    for _ in range(100):
        assert limiters[0].hit("acme", "EXPAND_PER_MINUTE", 0) is None
        assert limiters[0].spend("acme", "IDS", 0, 1_000_000, unit="users") is None


def test_without_redis_each_process_limits_by_itself(
    limiters: tuple[RateLimiter, RateLimiter], redis_server: RedisServer
) -> None:
    redis_server.stop()
    limiters[0].hit("acme", "EXPAND_PER_MINUTE", 1)
    limiters[1].hit("acme", "EXPAND_PER_MINUTE", 1)
    with pytest.raises(Problem):
        limiters[0].hit("acme", "EXPAND_PER_MINUTE", 1)
    limiters[0].spend("acme", "IDS", 1_000, 1_000, unit="users")
    with pytest.raises(Problem):
        limiters[0].spend("acme", "IDS", 1_000, 1, unit="users")


@pytest.mark.parametrize(
    ("moment", "total"), [("1e18", "1000000"), ("1e309", "1e309"), ("9" * 400, "9" * 400), ("nonsense", "nonsense")]
)
def test_garbage_under_a_key_neither_stops_a_tenant_nor_stays(redis_url: str, moment: str, total: str) -> None:
    limiter = RateLimiter(redis_url, budget_seconds=1.0, breaker=Breaker(0.01))

    def use() -> None:
        limiter.hit("acme", "EXPAND_PER_MINUTE", 1_000)
        limiter.spend("acme", "IDS", 1_000_000, 10, unit="users")

    use()
    with connect(redis_url) as client:
        for key in client.scan_iter("*"):
            if client.type(key) == b"list":
                client.delete(key)
                client.rpush(key, *[moment] * 1_000)
            else:
                client.set(key, total)

        def is_gone() -> bool:
            use()
            return not {moment.encode(), total.encode()} & set(_numbers(client))

        assert eventually(is_gone, 5)
    limiter.close()


def _numbers(client: "redis.Redis") -> list[bytes]:
    """All that is counted under any key."""
    keys = [bytes(key) for key in client.scan_iter("*")]
    return [
        number
        for key in keys
        for number in (client.lrange(key, 0, -1) if client.type(key) == b"list" else [client.get(key)])
    ]


@pytest.mark.alone
def test_a_hanging_redis_costs_the_budget_once(redis_url: str, redis_server: RedisServer) -> None:
    limiter = RateLimiter(redis_url)
    redis_server.pause()
    started = time.perf_counter()
    for _ in range(50):
        limiter.hit("acme", "EXPAND_PER_MINUTE", 50)
    assert time.perf_counter() - started < 0.2
    limiter.close()
