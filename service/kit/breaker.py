"""Leaves a server alone that has just failed, so that nobody waits for it in vain."""

import threading
import time
from collections.abc import Callable

OPEN_SECONDS = 3.0


class Breaker:
    """Leaves a failing server alone for a while, then lets one caller probe it."""

    def __init__(self, open_seconds: float = OPEN_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._open_until = 0.0

    def allows(self) -> bool:
        """Whether to try now; while open, True once per period, for the probe."""
        with self._lock:
            if not self._open_until:
                return True
            if self._clock() < self._open_until:
                return False
            self._open_until = self._clock() + self._open_seconds
            return True

    def succeeded(self) -> None:
        """Close."""
        with self._lock:
            self._open_until = 0.0

    def failed(self) -> None:
        """Open, or stay open for another period."""
        with self._lock:
            self._open_until = self._clock() + self._open_seconds
