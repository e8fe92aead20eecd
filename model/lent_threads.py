"""Threads that are lent to whoever has work for some, and stay.

To start a thread where memory is short is worse than to fail: if there is none left for its first steps, it ends before
it has said that it began, and whoever started it waits for that for ever.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager


def _nothing() -> None:
    return None


_IDLE: defaultdict[tuple[int, Callable[[], None]], deque[ThreadPoolExecutor]] = defaultdict(deque)


@contextmanager
def lent_threads(count: int, prepare: Callable[[], None] = _nothing) -> Iterator[Executor]:
    """So many threads, each of which has called `prepare` (a module's function) once; started only if none are idle.

    What was submitted to them has been done when the block is over.
    """
    idle = _IDLE[count, prepare]
    try:
        threads = idle.pop()
    except IndexError:
        threads = ThreadPoolExecutor(count, initializer=prepare)
        _meet(threads, count)  # by which all of them are there
    try:
        yield threads
    finally:
        _meet(threads, count)
        idle.append(threads)


def _meet(threads: Executor, count: int) -> None:
    """Have every thread come to an end with what it does."""
    all_there = threading.Barrier(count + 1)
    for _ in range(count):
        threads.submit(all_there.wait)
    all_there.wait()
