"""The one thread of a worker that renews the leases of all its running jobs."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context

from service.jobs.lease import Lease

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5  # at most two writes a second and job: SQLite has one writer
PATIENCE_SECONDS = 300.0  # no work goes on for so long between two checks


class Renewer:
    """Renews each lease, at half of its length or sooner, as long as its job is in `renewing`.

    Its thread is there before any job is: one that is to be started when a job has taken all memory may never run.
    Work that hangs, and does not stop long after it had to, ends with the process: a supervisor starts another one.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._pause = min(PROGRESS_SECONDS, lease_seconds / 4)
        self._lock = threading.Lock()
        self._held: dict[Lease, Context] = {}
        self._any_held = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()

    @contextmanager
    def renewing(self, lease: Lease) -> Iterator[None]:
        """In the block the lease is renewed; the log lines of that name the job as the caller's do."""
        with self._lock:
            self._held[lease] = copy_context()
            self._any_held.set()
        try:
            yield
        finally:
            with self._lock:  # no renewal is on its way after this
                del self._held[lease]
            lease.observe_stage()

    def _run(self) -> None:
        while True:
            self._any_held.wait()
            held = list(self._held)
            time.sleep(self._pause)  # who comes meanwhile is new enough, and a short job needs no renewal
            for lease in held:
                with self._lock:
                    if lease in self._held:
                        self._held[lease].run(_renew, lease)
            with self._lock:
                if not self._held:
                    self._any_held.clear()


def _renew(lease: Lease) -> None:
    if lease.ignored_seconds > PATIENCE_SECONDS:
        logger.critical("the job does not stop; the process ends")
        os._exit(1)
    lease.renew()
