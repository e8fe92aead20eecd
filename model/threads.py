"""How many threads there may be, and how many torch may use where a result must not depend on it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: sums of floats depend on how they are shared out, and a ranking must not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0))
