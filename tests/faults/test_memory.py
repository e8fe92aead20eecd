"""A worker out of memory: the job that needs too much ends as such, and those behind it run."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.faults.one_of_each import MAX_ATTEMPTS, OneOfEach

MANY = 150_000  # ids, of which nobody is in the pool
ROOM = 4 << 20


@contextmanager
def little_memory(pid: int) -> Iterator[None]:
    """The process may take some more bytes than it has, and no more."""
    process = psutil.Process(pid)
    _, hard = process.rlimit(psutil.RLIMIT_AS)
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + ROOM, hard))
    try:
        yield
    finally:
        if process.is_running():
            process.rlimit(psutil.RLIMIT_AS, (hard, hard))


def test_a_job_without_the_memory_it_needs_ends_and_those_behind_it_run(service: OneOfEach) -> None:
    expected = service.audience_of(service.submit())
    with little_memory(service.keep_worker().pid):
        large = service.submit("large", [*service.seeds, *(f"somebody-else-{number:06d}" for number in range(MANY))])
        behind = service.submit()
        assert service.audience_of(behind) == expected
        job = service.wait(large, "failed")
    assert job["error"]["type"] == "/problems/out-of-memory"
    assert job["attempt"] == MAX_ATTEMPTS
    assert service.keep_worker().poll() is None
    assert service.audience_of(service.submit()) == expected
