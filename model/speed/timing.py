"""Times on a machine that others may use too: works that are compared take turns, and the median of each counts."""

import time
from collections.abc import Callable, Sequence
from statistics import median

LEAST_ROUNDS = 3


def interleaved(works: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """The median time of each work in seconds, measured A B A B: for at least LEAST_ROUNDS rounds, and then as many as
    begin within so many seconds. Each was done once before, so that nothing is loaded or compiled any more."""
    times: list[list[float]] = [[] for _ in works]
    begin = time.perf_counter()
    while len(times[0]) < LEAST_ROUNDS or time.perf_counter() - begin < seconds:
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [median(taken) for taken in times]
