"""Rate limits per tenant, shared through Redis; without it each process limits by itself, neither open nor closed."""

import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from service.kit.errors import Problem
from service.kit.redis import Breaker, connect

BUDGET_SECONDS = 0.04


@dataclass(frozen=True)
class _Verdict:
    allowed: bool
    reset_at: float


class RateLimiter:
    """A moving window: never more than the limit in any minute.

    Redis is asked in a thread, so that the caller waits no longer than the budget whatever connects or hangs.
    """

    def __init__(
        self, redis_url: str, *, budget_seconds: float = BUDGET_SECONDS, breaker: Breaker | None = None
    ) -> None:
        self._budget_seconds = budget_seconds
        self._breaker = breaker or Breaker()
        self._client = connect(redis_url, connect_seconds=budget_seconds, read_seconds=budget_seconds)
        self._shared = MovingWindowRateLimiter(
            RedisStorage(
                "redis://",
                connection_pool=self._client.connection_pool,
                key_prefix="lookalike:limits",
                wrap_exceptions=True,
            )
        )
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="limits")

    def hit(self, tenant: str, quota: str, per_minute: int) -> None:
        """Count one use of `quota` by `tenant`; Problem quota-exceeded when it is one too many. 0 is no limit."""
        if per_minute == 0:
            return
        item = RateLimitItemPerMinute(per_minute)
        verdict = self._ask_shared(item, tenant, quota) or _hit(self._local, item, tenant, quota)
        if not verdict.allowed:
            raise quota_exceeded(quota, per_minute, verdict.reset_at - time.time(), unit="a minute")

    def close(self) -> None:
        """End the threads, each of which is at most a budget away from its end, and close the connections."""
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def _ask_shared(self, item: RateLimitItem, tenant: str, quota: str) -> _Verdict | None:
        if not self._breaker.allows():
            return None
        future: Future[_Verdict] = self._threads.submit(_hit, self._shared, item, tenant, quota)
        try:
            verdict = future.result(self._budget_seconds)
        except (TimeoutError, StorageError):
            future.cancel()
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return verdict


def quota_exceeded(quota: str, value: int, retry_after: float, *, unit: str = "") -> Problem:
    """The 429 that names the quota, its value and when to come back."""
    return Problem(
        "quota-exceeded",
        f"The quota {quota} allows {value}{f' {unit}' if unit else ''}.",
        headers={"Retry-After": str(max(1, math.ceil(retry_after)))},
    )


def _hit(limiter: MovingWindowRateLimiter, item: RateLimitItem, tenant: str, quota: str) -> _Verdict:
    if limiter.hit(item, quota, tenant):
        return _Verdict(allowed=True, reset_at=0.0)
    return _Verdict(allowed=False, reset_at=limiter.get_window_stats(item, quota, tenant).reset_time)
