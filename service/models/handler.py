"""The `train` job: the offline stage on a worker, as the scheduler asks for it."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from sqlalchemy.orm import Session

from model.errors import ModelError, StoreError
from model.training_state import SavedStates
from service.erasures.repository import TombstoneReader
from service.jobs.lease import Lease
from service.jobs.runner import JobFailed, Outcome
from service.jobs.states import JobError
from service.jobs.tables import Job
from service.kit.artifacts import Artifacts, training_prefix, version_prefix
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.models.outcomes import Outcomes
from service.models.tracking import Tracking
from service.models.training import TrainingRun, adopt, desired_version, train_candidate
from service.serving.loader import Loader

logger = logging.getLogger(__name__)

SCHEDULER = "scheduler"


@dataclass(frozen=True)
class TrainHandler:
    """Handles `train` jobs, which the scheduler makes."""

    database: Database
    artifacts: Artifacts
    loader: Loader
    metrics: Metrics
    device: torch.device
    max_attempts: int
    tombstones: TombstoneReader
    min_seeds: int
    tracking: Tracking | None = None

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """Train as the job's request says, from where an earlier attempt was stopped."""
        run = TrainingRun(
            data=Path(job.request["data"]),
            preset=job.request["preset"],
            max_seconds=job.request["max_seconds"],
            seed=job.request["seed"],
            frozen_embeddings=job.request.get("frozen_embeddings", False),  # older jobs do not say
        )
        states = SavedStates(
            self.artifacts.models, training_prefix(job.id), leaving=lambda: lease.leaving, hear=logger.warning
        )
        try:
            candidate = train_candidate(
                run,
                self.artifacts,
                self.loader,
                desired_version(self.database),
                self.device,
                lambda _phase, _fraction, _detail: lease.check(),
                states,
                Outcomes(self.database, self.tombstones, self.min_seeds, job.created_at),  # in every attempt the same
            )
        except StoreError:
            raise  # another attempt may find the store well again
        except ModelError as error:
            self.metrics.train_runs_total.labels(outcome="error").inc()
            raise JobFailed(JobError.INTERNAL, str(error)) from error

        gate = candidate.gate
        version = candidate.manifest.version

        def publish(session: Session) -> None:
            nonlocal gate
            gate = adopt(session, candidate, actor=SCHEDULER, max_attempts=self.max_attempts)

        def settled() -> None:
            self.metrics.train_runs_total.labels(outcome="published" if gate.accepted else "gate_failed").inc()
            promotion = "ok" if gate.accepted else "conflict" if candidate.gate.accepted else "gate_refused"
            self.metrics.model_promotions_total.labels(action="promote", outcome=promotion).inc()
            logger.info("trained", extra={"version": version, "promoted": gate.accepted, "reason": gate.reason})
            with suppress(StoreError):  # retention clears up what stays
                states.clear()
            if self.tracking is not None:
                self.tracking.log(candidate, gate, actor=SCHEDULER)

        return Outcome(
            {"model_version": version}, publish=publish, settled=settled, abandon=lambda: self._discard(version)
        )

    def _discard(self, version: str) -> None:
        self.artifacts.models.delete(version_prefix(version))
