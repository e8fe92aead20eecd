"""One job after the other, as long as the process runs.

A worker has a lane for all its queues; a second one beside it keeps some capacity free for short jobs, whatever long
job the worker is at.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.jobs import claims
from service.jobs.claims import Claim
from service.jobs.runner import Runner
from service.jobs.states import Kind, Queue
from service.kit.bell import Bell
from service.kit.database import Database

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
DATABASE_PAUSE_SECONDS = 1.0


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Lane:
    """Takes jobs from `queues`, of the `kinds` that can be run now, and has the runner run them in `at_work`.

    `each_turn` is called before each look for a job. SQLAlchemyErrors are waited out; others end the lane.
    """

    database: Database
    runner: Runner
    bell: Bell
    queues: Sequence[Queue]
    kinds: Callable[[Session], Sequence[Kind]]
    owner: str
    each_turn: Callable[[], None] = _nothing
    at_work: Callable[[], AbstractContextManager[None]] = nullcontext

    def work(self) -> None:
        """Work until `runner.stopping` is set."""
        stopping = self.runner.stopping
        while not stopping.is_set():
            try:
                self.each_turn()
                claim = self._claim()
                if claim is not None:
                    with self.at_work():
                        self.runner.run(claim)
                    continue
            except SQLAlchemyError as error:
                logger.warning("the database cannot be used: %s", type(error).__name__)
                stopping.wait(DATABASE_PAUSE_SECONDS)
                continue
            self.bell.wait(POLL_SECONDS)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Work in a thread during the block. What ends the lane sets `runner.stopping` and is raised after the block:
        half a worker is none.
        """
        failures: list[Exception] = []

        def work() -> None:
            try:
                self.work()
            except Exception as error:  # to be raised where it is noticed
                failures.append(error)
                self.runner.stopping.set()

        thread = threading.Thread(target=work, name="lane-beside", daemon=True)
        thread.start()
        yield  # where it raises, the process ends by an error, which must not wait for anybody
        thread.join()
        if failures:
            raise failures[0]

    def _claim(self) -> Claim | None:
        # A look before the leap: an idle worker takes no write lock four times a second.
        with self.database.read() as session:
            if not claims.anything_queued(session, self.queues):
                return None
            kinds = self.kinds(session)
        with self.database.write() as session:
            return claims.claim(
                session, queues=self.queues, kinds=kinds, owner=self.owner, lease_seconds=self.runner.lease_seconds
            )
