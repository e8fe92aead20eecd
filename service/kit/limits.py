"""Rate limits per tenant, shared through Redis; without it each process limits by itself, neither open nor closed."""

import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from service.kit.breaker import Breaker
from service.kit.durations import MINUTE
from service.kit.errors import Problem
from service.kit.redis import connect

BUDGET_SECONDS = 0.04
# What Redis and its scripts say of a key that holds something else than it is used for.
_GARBAGE = ("WRONGTYPE", "not an integer", "attempt to")


@dataclass(frozen=True)
class Standing:
    """Where a tenant stands with a quota of `limit`, of which it has used `used`.

    window_seconds: what the limit holds for, None where it is for what there is at one time. reset_seconds: until some
    of it comes back, where that is known. unit: what is counted, as in the RateLimit-Policy header; "" for requests.
    """

    quota: str
    limit: int
    used: int
    window_seconds: int | None = None
    reset_seconds: float | None = None
    unit: str = ""

    @property
    def left(self) -> int:
        """How much may still be used."""
        return max(0, self.limit - self.used)

    def after(self, use: int) -> "Standing":
        """Where the tenant stands when it has used so much more."""
        return replace(self, used=self.used + use)


@dataclass(frozen=True)
class _Verdict:
    allowed: bool
    used: int
    reset_at: float

    @property
    def is_possible(self) -> bool:
        """Whether uses of this minute and the one before can have led to it: who is refused may come again soon."""
        seconds = self.reset_at - time.time()
        return seconds <= 2 * MINUTE and (self.allowed or seconds > 0)


_Strategy = MovingWindowRateLimiter | SlidingWindowCounterRateLimiter


@dataclass(frozen=True)
class _Window:
    """One way to count, shared through Redis and in this process."""

    shared: _Strategy
    local: _Strategy


class RateLimiter:
    """So many uses a minute by each tenant.

    Redis is asked in a thread, so that the caller waits no longer than the budget whatever connects or hangs.
    """

    def __init__(
        self, redis_url: str, *, budget_seconds: float = BUDGET_SECONDS, breaker: Breaker | None = None
    ) -> None:
        self._budget_seconds = budget_seconds
        self._breaker = breaker or Breaker()
        self._client = connect(redis_url, connect_seconds=budget_seconds, read_seconds=budget_seconds)
        shared = RedisStorage(
            "redis://",
            connection_pool=self._client.connection_pool,
            key_prefix="lookalike:limits",
            wrap_exceptions=True,
        )
        local = MemoryStorage()
        # The time of each use, so that no minute has more of them; or two sums, of this minute and of the one before,
        # as if that had been an even one.
        self._times = _Window(MovingWindowRateLimiter(shared), MovingWindowRateLimiter(local))
        self._sums = _Window(SlidingWindowCounterRateLimiter(shared), SlidingWindowCounterRateLimiter(local))
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="limits")

    def hit(self, tenant: str, quota: str, per_minute: int, *, use: str = "") -> Standing | None:
        """Count one use of `quota` by `tenant`; Problem quota-exceeded when it is one too many. 0 is no limit.

        Different uses, if they are named, may each be made so often.
        """
        if per_minute == 0:
            return None
        verdict = self._ask(self._times, _hit, per_minute, use or quota, tenant)
        standing = _standing(quota, per_minute, verdict)
        if not verdict.allowed:
            raise quota_exceeded(standing, verdict.reset_at - time.time(), unit="a minute")
        return standing

    def spend(self, tenant: str, quota: str, per_minute: int, amount: int, *, unit: str) -> Standing | None:
        """Count many uses at once, all or none; Problem quota-exceeded when they are too many. 0 is no limit.

        Half a million a minute cost no more than ten.
        """
        if per_minute == 0:
            return None
        verdict = self._ask(self._sums, partial(_hit, amount=amount), per_minute, quota, tenant)
        standing = replace(_standing(quota, per_minute, verdict), unit=unit)
        if not verdict.allowed:
            raise quota_exceeded(standing, verdict.reset_at - time.time(), unit=f"{unit} a minute")
        return standing

    def look(self, tenant: str, quota: str, per_minute: int) -> Standing | None:
        """Where `tenant` stands with `quota`, without using any of it; None where there is no limit."""
        if per_minute == 0:
            return None
        verdict = self._ask(self._times, _look, per_minute, quota, tenant)
        return _standing(quota, per_minute, verdict)

    def close(self) -> None:
        """End the threads, each of which is at most a budget away from its end, and close the connections."""
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def _ask(self, window: _Window, question: "_Question", per_minute: int, use: str, tenant: str) -> _Verdict:
        item = RateLimitItemPerMinute(per_minute)
        verdict = self._ask_shared(window.shared, question, item, use, tenant)
        return verdict or question(window.local, item, use, tenant)

    def _ask_shared(
        self, shared: _Strategy, question: "_Question", item: RateLimitItem, use: str, tenant: str
    ) -> _Verdict | None:
        if not self._breaker.allows():
            return None
        future: Future[_Verdict] = self._threads.submit(question, shared, item, use, tenant)
        verdict: _Verdict | None
        try:
            verdict = future.result(self._budget_seconds)
        except (TimeoutError, StorageError) as error:
            future.cancel()
            self._breaker.failed()
            verdict, garbage = None, any(words in str(error) for words in _GARBAGE)
        except (ValueError, ArithmeticError):  # of a number that is none, or too large
            self._breaker.succeeded()
            verdict, garbage = None, True
        else:
            self._breaker.succeeded()
            garbage = not verdict.is_possible
        if garbage:  # it would stay there for ever
            self._threads.submit(shared.clear, item, use, tenant)
            return None
        return verdict


_Question = Callable[[_Strategy, RateLimitItem, str, str], _Verdict]


def quota_exceeded(standing: Standing, retry_after: float, *, unit: str) -> Problem:
    """The 429 that names the quota, its value and when to come back."""
    return Problem(
        "quota-exceeded",
        f"The quota {standing.quota} allows {standing.limit} {unit}.",
        headers={"Retry-After": str(max(1, math.ceil(retry_after))), **rate_limit_headers([standing])},
    )


def rate_limit_headers(standings: Iterable[Standing | None]) -> dict[str, str]:
    """RateLimit-Policy and RateLimit as in draft-ietf-httpapi-ratelimit-headers-11; none without a limit."""
    limited = [standing for standing in standings if standing is not None]
    if not limited:
        return {}
    return {
        "RateLimit-Policy": ", ".join(map(_policy, limited)),
        "RateLimit": ", ".join(map(_service_limit, limited)),
    }


def _policy(standing: Standing) -> str:
    window = "" if standing.window_seconds is None else f";w={standing.window_seconds}"
    unit = f';qu="{standing.unit}"' if standing.unit else ""
    return f'"{standing.quota}";q={standing.limit}{window}{unit}'


def _service_limit(standing: Standing) -> str:
    reset = "" if standing.reset_seconds is None else f";t={max(0, math.ceil(standing.reset_seconds))}"
    return f'"{standing.quota}";r={standing.left}{reset}'


def _standing(quota: str, per_minute: int, verdict: _Verdict) -> Standing:
    return Standing(quota, per_minute, verdict.used, MINUTE, max(0.0, verdict.reset_at - time.time()))


def _hit(limiter: _Strategy, item: RateLimitItem, use: str, tenant: str, *, amount: int = 1) -> _Verdict:
    allowed = limiter.hit(item, use, tenant, cost=amount)
    seen = _look(limiter, item, use, tenant)
    return _Verdict(allowed, seen.used, seen.reset_at)


def _look(limiter: _Strategy, item: RateLimitItem, use: str, tenant: str) -> _Verdict:
    stats = limiter.get_window_stats(item, use, tenant)
    return _Verdict(allowed=stats.remaining > 0, used=item.amount - stats.remaining, reset_at=stats.reset_time)
