"""How many threads torch may use where a result must not depend on it, and work shared out to several."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import TypeVar

import torch

from model.lent_threads import lent_threads

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: sums of floats depend on how they are shared out, and a ranking must not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def torch_threads(count: int) -> Iterator[Executor]:
    """So many threads in each of which torch uses no other, nor does it meanwhile in the caller's."""
    with one_thread(), lent_threads(count, _use_one_thread) as threads:
        yield threads


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def work_off(
    work: Callable[[T], object], items: Iterable[T], threads: int, between: Callable[[], object] = lambda: None
) -> None:
    """Do the work on every item, by the calling thread and threads - 1 others, in each of which torch uses no other.

    Whoever is free takes the next item: nobody is woken for it. The calling thread calls `between` after each of its
    own. Raises what either raises; then no more items are begun.
    """
    left = iter(items)
    lock = threading.Lock()

    def taken() -> Iterator[T]:
        while True:
            with lock:
                try:
                    item = next(left)
                except StopIteration:
                    return
            yield item

    def work_on(between: Callable[[], object]) -> None:
        nonlocal left
        try:
            for item in taken():
                work(item)
                between()
        except BaseException:
            left = iter(())
            raise

    if threads == 1:
        with one_thread():
            work_on(between)
        return
    with torch_threads(threads - 1) as others:
        working = [others.submit(work_on, lambda: None) for _ in range(threads - 1)]
        work_on(between)
        for other in working:
            other.result()


def map_by_threads(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """The results in the order of the items, worked out by so many threads in each of which torch uses no other.

    They are at most two items a thread ahead of the caller, whose torch uses one thread until the generator is closed
    or has ended.
    """
    with torch_threads(threads) as executor:
        ahead: deque[Future[R]] = deque()
        for item in items:
            ahead.append(executor.submit(work, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
