"""Capacity kept free for short jobs: a second thread of a worker takes them, whatever long job the worker is at."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from service.jobs import claims
from service.jobs.claims import Claim
from service.jobs.runner import Runner
from service.jobs.states import Kind, Queue
from service.kit.bell import Bell
from service.kit.database import Database

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
DATABASE_PAUSE_SECONDS = 1.0


@dataclass
class Sideline:
    """Works, inside `with`, until `runner.stopping` is set."""

    database: Database
    runner: Runner
    bell: Bell
    queue: Queue
    kinds: Sequence[Kind]
    owner: str
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name=f"sideline-{self.queue}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.runner.stopping.is_set():  # else the process ends by an error, which must not wait for anybody
            self._thread.join()

    def _run(self) -> None:
        stopping = self.runner.stopping
        while not stopping.is_set():
            try:
                claim = self._claim()
                if claim is not None:
                    self.runner.run(claim)
                    continue
            except SQLAlchemyError as error:
                logger.warning("the database cannot be used: %s", type(error).__name__)
                stopping.wait(DATABASE_PAUSE_SECONDS)
                continue
            self.bell.wait(POLL_SECONDS)

    def _claim(self) -> Claim | None:
        with self.database.read() as session:
            if not claims.anything_queued(session, [self.queue]):
                return None
        with self.database.write() as session:
            return claims.claim(
                session,
                queues=[self.queue],
                kinds=self.kinds,
                owner=self.owner,
                lease_seconds=self.runner.lease_seconds,
            )
