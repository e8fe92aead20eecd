"""Redis as a cache that may vanish: every failure is a miss, is counted, and costs a bounded time."""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.kit import keepalive
from service.kit.breaker import Breaker
from service.kit.metrics import Metrics

CONNECT_SECONDS = 0.05
READ_SECONDS = 0.25

ResultT = TypeVar("ResultT")


def connect(url: str, *, connect_seconds: float = CONNECT_SECONDS, read_seconds: float = READ_SECONDS) -> "redis.Redis":
    """A client (TCP, TLS or unix socket) that fails fast and never retries by itself; connects at its first command.

    ValueError for what is no URL of a Redis, which does not repeat it: what is taken for a port may be of a password.
    """
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=connect_seconds,
            socket_timeout=read_seconds,
            retry=Retry(NoBackoff(), 0),
            **tcp_options(url),
        )
    except ValueError:
        raise ValueError("REDIS_URL is not a Redis URL; expected redis://..., rediss://... or unix://...") from None


def tcp_options(url: str) -> dict[str, Any]:
    """What a client of a server on another machine needs beside its URL."""
    if url.startswith("unix:"):
        return {}
    options = {
        socket.TCP_KEEPIDLE: keepalive.IDLE_SECONDS,
        socket.TCP_KEEPINTVL: keepalive.INTERVAL_SECONDS,
        socket.TCP_KEEPCNT: keepalive.PROBES,
    }
    return {"socket_keepalive": True, "socket_keepalive_options": options}


class Cache:
    """Bytes by key. Never raises: what cannot be read is a miss and what cannot be written is not there."""

    def __init__(self, url: str, metrics: Metrics, *, breaker: Breaker | None = None) -> None:
        self._client = connect(url)
        self._metrics = metrics
        self._breaker = breaker or Breaker()

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of `keys`, None for a miss."""
        if not keys:
            return []
        values = self._attempt("get", lambda: cast("list[bytes | None]", self._client.mget(keys)))
        if values is None:
            return [None] * len(keys)
        hits = sum(value is not None for value in values)
        self._count("get", "hit", hits)
        self._count("get", "miss", len(keys) - hits)
        return values

    def count_refused(self, values: int) -> None:
        """Tell how many values that were read turned out not to be genuine."""
        self._count("get", "refused", values)

    def set_many(self, values: Mapping[str, bytes], ttl_seconds: int) -> bool:
        """Write all with one round trip; False if some may be missing."""

        def write() -> bool:
            with self._client.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(key, value, ex=ttl_seconds)
                pipeline.execute()
            return True

        return self._acknowledged("set", write) if values else True

    def delete(self, keys: Sequence[str]) -> bool:
        """Forget `keys`; False if they may still be there."""
        return self._acknowledged("del", lambda: bool(self._client.unlink(*keys)) or True) if keys else True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _acknowledged(self, operation: str, call: Callable[[], bool]) -> bool:
        done = self._attempt(operation, call) is not None
        if done:
            self._count(operation, "ok")
        return done

    def _attempt(self, operation: str, call: Callable[[], ResultT]) -> ResultT | None:
        if not self._breaker.allows():
            self._count(operation, "skipped")
            return None
        started = time.perf_counter()
        try:
            result = call()
        except redis.exceptions.OutOfMemoryError:
            self._count(operation, "oom")  # full, not away: reading goes on
            return None
        except (redis.TimeoutError, TimeoutError):
            self._fail(operation, "timeout")
            return None
        except (redis.RedisError, OSError):
            self._fail(operation, "error")
            return None
        finally:
            self._metrics.cache_operation_duration_seconds.labels(operation).observe(time.perf_counter() - started)
        self._breaker.succeeded()
        self._metrics.cache_breaker_open.set(0)
        return result

    def _fail(self, operation: str, outcome: str) -> None:
        self._breaker.failed()
        self._metrics.cache_breaker_open.set(1)
        self._count(operation, outcome)

    def _count(self, operation: str, outcome: str, times: int = 1) -> None:
        self._metrics.cache_operations_total.labels(op=operation, outcome=outcome).inc(times)
