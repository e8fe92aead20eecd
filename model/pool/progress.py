"""Says how far an import is, often enough that its listener can stop it."""

from collections.abc import Callable
from typing import TypeVar

from model.lent_threads import lent_threads

Result = TypeVar("Result")

_SECONDS = 1.0


class Progress:
    """Tells `report` the fraction done of so many steps; what it raises ends the work."""

    def __init__(self, report: Callable[[float], None] | None, steps: int) -> None:
        self._report = report
        self._steps = steps
        self._done = 0

    def advance(self, steps: int) -> None:
        """So many more are done."""
        self._done += steps
        if self._report is not None:
            self._report(self._done / self._steps)

    def during(self, call: Callable[[], Result]) -> Result:
        """The result of a long call that cannot report by itself: it runs in a thread, and each second is reported."""
        with lent_threads(1) as thread:
            running = thread.submit(call)
            while True:
                try:
                    return running.result(timeout=_SECONDS)
                except TimeoutError:
                    self.advance(0)
