"""Series that are computed when somebody looks: for what must be right whatever process was killed."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

KEPT_SECONDS = 5.0

T = TypeVar("T")


class Computed(Collector):
    """The families that a function makes at each scrape."""

    def __init__(self, make: Callable[[], Iterable[Metric]]) -> None:
        self._make = make

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not compute anything."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Make them."""
        return self._make()


class LastKnown(Generic[T]):
    """What a function reads, at most once in KEPT_SECONDS; stale rather than absent while it cannot be read."""

    def __init__(self, read: Callable[[], T], first: T) -> None:
        """first: what is known before it was ever read."""
        self._read = read
        self._lock = threading.Lock()
        self._known = first
        self._read_at: float | None = None
        self._stale = False

    def get(self) -> tuple[T, bool]:
        """What is known, and whether it is stale."""
        with self._lock:
            if self._read_at is None or time.monotonic() - self._read_at >= KEPT_SECONDS:
                self._refresh()
            return self._known, self._stale

    def _refresh(self) -> None:
        try:
            self._known = self._read()
            self._stale = False
        except Exception:  # whatever keeps it from being read must not take other series along
            self._stale = True
        self._read_at = time.monotonic()
