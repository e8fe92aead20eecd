"""The `erase` job: does every erasure that is pending, and leaves a receipt of each."""

import logging
import time
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.audiences.service import ROW_SECONDS
from service.erasures import repository
from service.erasures.audiences import AudienceEraser, erase_from_seeds
from service.erasures.pools import PoolEraser, note_counts
from service.erasures.service import unpack
from service.jobs.lease import Interrupted, Lease
from service.jobs.runner import JobFailed, NotReady, Outcome
from service.jobs.states import JobError
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EraseHandler:
    """Handles `erase` jobs, of which one runs at a time. What is done stays done if the job is stopped half-way."""

    database: Database
    pools: PoolEraser
    audiences: AudienceEraser
    metrics: Metrics

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """Take the users out of everything that is stored; publishers have filtered since their tombstones were
        committed, so nothing new with them comes up behind the job's back.

        Where an audience cannot be looked through, the job does all the rest and fails.
        """
        try:
            return self._erase(job, lease)
        except (Interrupted, NotReady):
            raise
        except Exception:
            self.metrics.erasures_total.labels(outcome="failed").inc()
            raise

    def _erase(self, job: Job, lease: Lease) -> Outcome:
        with self.database.read() as session:
            erasures = repository.pending(session)
        if not erasures:  # an earlier job has done this one's too
            return Outcome({"erasures": 0})
        lots = [frozenset(unpack(erasure.user_ids or b"")) for erasure in erasures]
        user_ids = sorted(frozenset[str]().union(*lots))
        generation = erasures[-1].generation

        # Counted once, before anything is touched: a second attempt would find fewer.
        new = [row for row, erasure in enumerate(erasures) if erasure.users_in_pool is None]
        counts = self.pools.count([lots[row] for row in new])
        with self.database.write() as session:
            note_counts(session, [erasures[row] for row in new], counts)

        self.pools.erase(user_ids, generation, lease)
        erase_from_seeds(self.database, user_ids, lease)
        erased = self.audiences.erase(user_ids, job, lease)
        # The api may have looked a row up just before it moved.
        time.sleep(2 * ROW_SECONDS if erased.rewritten else 0)
        self.audiences.sweep(erased.rewritten, job)
        self.pools.sweep()
        if erased.lost:
            raise JobFailed(JobError.INTERNAL, f"Audiences lost by the store, which may hold them: {len(erased.lost)}.")

        def publish(session: Session) -> None:
            repository.finish(session, [erasure.id for erasure in erasures])

        def settled() -> None:
            self.metrics.erasures_total.labels(outcome="done").inc(len(erasures))
            logger.info("users erased", extra={"erasures": len(erasures), "generation": generation})

        return Outcome({"erasures": len(erasures), "generation": generation}, publish=publish, settled=settled)
