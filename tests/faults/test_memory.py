"""A worker that may have no more memory than it has: a job that needs more ends with a name, and the others run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.faults.one_of_each import MAX_ATTEMPTS, SECONDS, OneOfEach
from tests.fixtures.waiting import eventually

MORE = 1 << 20
SEEDS = 400_000  # of 64 characters: more than a hundred MiB once they are strings
ENDS = {"out-of-memory", "attempts-exhausted"}


class Limited:
    """The worker of an installation under a limit to its address space, as `prlimit --as` sets it, and its successors.

    The limit is what the worker has at the beginning, and so many bytes more.
    """

    def __init__(self, service: OneOfEach, more: int) -> None:
        self._service = service
        self._limit = psutil.Process(service.worker.pid).memory_info().vms + more
        self.crashes = 0
        self._limit_worker(self._limit)

    def keep(self) -> None:
        """Start a successor, as a supervisor would, if it has ended."""
        if self._service.worker.poll() is not None:
            self.crashes += 1
            self._service.keep_worker()
            self._limit_worker(self._limit)

    def lift(self) -> None:
        self._limit_worker(psutil.RLIM_INFINITY)

    def _limit_worker(self, limit: int) -> None:
        psutil.Process(self._service.worker.pid).rlimit(psutil.RLIMIT_AS, (limit, psutil.RLIM_INFINITY))


@contextmanager
def limited(service: OneOfEach, more: int) -> Iterator[Limited]:
    worker = Limited(service, more)
    try:
        yield worker
    finally:
        worker.keep()
        worker.lift()


def ended(service: OneOfEach, worker: Limited, job_id: str) -> dict[str, Any]:
    """The job, once it has ended, which it must do."""

    def done() -> bool:
        worker.keep()
        return bool(service.job(job_id)["done"])

    assert eventually(done, SECONDS), service.logs()
    return service.job(job_id)


def test_a_job_too_large_for_its_worker_ends_with_a_name_and_the_others_run(service: OneOfEach) -> None:
    expected = service.audience_of(service.submit())
    with limited(service, MORE) as worker:
        large = service.submit("large", [*service.seeds, *(f"{number:064d}" for number in range(SEEDS))])
        behind = [service.submit(f"behind-{number}") for number in range(3)]
        job = ended(service, worker, large)
        for job_id in behind:
            assert ended(service, worker, job_id)["state"] == "succeeded"
            assert service.audience(job_id) == expected
    print(f"{job['error']['type']} after {job['attempt']} attempts, {worker.crashes} of them crashes")  # noqa: T201
    assert (job["state"], job["attempt"]) == ("failed", MAX_ATTEMPTS)
    assert job["error"]["type"].rpartition("/")[2] in ENDS
    assert service.world.artifacts.audiences.names(f"audiences/{large}") == []
    assert [path.name for path in service.home.glob("*/.staging/*")] == []
    assert service.audience_of(service.submit()) == expected
