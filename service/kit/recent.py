"""What was found a moment ago, for those who would ask the same again and again."""

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

MOST_REMEMBERED = 10_000

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Recent(Generic[KeyT, ValueT]):
    """Values that may be at most so many seconds old. What was not found is asked for again each time."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._known: dict[KeyT, tuple[float, ValueT]] = {}

    def recall(self, key: KeyT) -> ValueT | None:
        """What was found lately; never waits."""
        known = self._known.get(key)
        return known[1] if known is not None and self._clock() - known[0] < self._seconds else None

    def find(self, key: KeyT, ask: Callable[[], ValueT | None]) -> ValueT | None:
        """What was found lately, or is found now."""
        value = self.recall(key)
        if value is None:
            asked_at = self._clock()
            value = ask()
            if value is not None:
                if len(self._known) >= MOST_REMEMBERED:
                    self._known = {}
                self._known[key] = (asked_at, value)
        return value

    def forget(self) -> None:
        """Ask anew for everything."""
        self._known = {}
