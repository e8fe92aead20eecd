"""The `expand` job: match the seeds, adapt the model to them, score the pool, rank, publish the audience."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import floor
from typing import Any

import numpy as np
import torch
from sqlalchemy.orm import Session

from model.adapt import Head, adapt
from model.errors import AdaptationError, ScoreError
from model.labelled import Labelled
from model.represent import Representation, represent
from model.scoring.plan import ScorePlan, score_plan
from model.scoring.scan import scan
from model.scoring.topk import Ranking
from model.threads import usable_cores
from service.audiences.publishing import AudiencePublisher, StoredAudience
from service.campaigns.inputs import ExpansionInputs
from service.expansion.eligibility import Mask, eligible_users
from service.expansion.matching import Matched, labelled_rows, match
from service.expansion.pinning import Pinned, Pinning
from service.expansion.result import describe, draw_seed
from service.jobs import repository as jobs
from service.jobs.lease import Lease
from service.jobs.runner import JobFailed, Outcome
from service.jobs.states import JobError, Stage
from service.jobs.tables import Job
from service.kit.database import Database, JsonObject
from service.kit.metrics import Metrics
from service.serving.loader import Loader

LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class ExpandHandler:
    """Handles `expand` jobs."""

    database: Database
    loader: Loader
    publisher: AudiencePublisher
    metrics: Metrics
    min_seeds: int

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """Run the stages one after the other; raises JobFailed with the problem that the caller will see."""
        request = job.request
        deny = frozenset(request["deny_features"])

        lease.stage(Stage.MATCHING)
        pinned = Pinning(self.database, self.loader).of(job, lease)
        model, pool = pinned.model, pinned.pool
        inputs = self._inputs(job)
        matched = match(pool, inputs)
        self._require_enough(matched, inputs)
        eligible = eligible_users(pool, request["eligibility"])
        random_seed = draw_seed(inputs, request, pinned)

        lease.stage(Stage.ADAPTING)
        representation = pinned.representation
        if deny or representation is None:
            # Without the denied features the stored representation does not hold: make one for this job alone.
            representation = represent(model, pool, deny=deny, progress=lambda _done: lease.check())
        rows = labelled_rows(matched, pool.size, eligible, np.random.default_rng(random_seed))
        head = self._adapt(pinned, representation, rows, request["attributes"], deny)

        plan = score_plan(model, head, pool, representation, deny=deny)
        largest = max(1, floor(pool.size * LARGEST_SHARE))
        size = min(_asked_size(request, pool.size), largest)
        candidates = _candidates(eligible, matched, include_seeds=request["include_seed_users"])
        ranking = self._rank(pinned, plan, candidates, size, request["min_score"] or 0.0, lease)

        lease.stage(Stage.PUBLISHING, scored=pool.size, total=pool.size)
        stored = self._store(job, pinned, ranking)
        result = describe(
            request,
            inputs,
            matched,
            pinned,
            stored,
            eligible=int(eligible.sum()),
            random_seed=random_seed,
            largest_size=largest,
        )
        return self._outcome(job, stored, result)

    def _inputs(self, job: Job) -> ExpansionInputs:
        with self.database.read() as session:
            payload = jobs.get_payload(session, job.id)
        if payload is None:
            raise JobFailed(JobError.INTERNAL, "The seeds of this job were deleted before it ran.")
        return ExpansionInputs.decode(payload)

    def _require_enough(self, matched: Matched, inputs: ExpansionInputs) -> None:
        self.metrics.seed_users.observe(len(inputs.seeds))
        self.metrics.seed_match_ratio.observe(len(matched.seeds) / len(inputs.seeds))
        if len(matched.seeds) < self.min_seeds:
            self.metrics.seed_rejected_jobs_total.labels(reason="too_few_matched").inc()
            # The number that did match stays untold: it would tell who is in the pool.
            raise JobFailed(
                JobError.TOO_FEW_MATCHED_SEEDS,
                f"Fewer than {self.min_seeds} distinct seed users are in the pool; the expansion needs that many.",
            )

    def _adapt(
        self,
        pinned: Pinned,
        representation: Representation | None,
        rows: Labelled,
        attributes: Mapping[str, Any],
        deny: frozenset[str],
    ) -> Head:
        started = time.monotonic()
        try:
            head = adapt(pinned.model, pinned.pool, representation, rows, attributes, deny=deny)
        except AdaptationError as error:
            self.metrics.adaptation_failures_total.labels(reason="diverged").inc()
            raise JobFailed(JobError.INTERNAL, f"The model could not be adapted to these seeds: {error}") from error
        self.metrics.adaptation_duration_seconds.observe(time.monotonic() - started)
        self.metrics.adaptation_steps.observe(head.steps)
        self.metrics.adaptation_loss_ratio.observe(head.loss_last / head.loss_first)
        return head

    def _rank(
        self, pinned: Pinned, plan: ScorePlan, candidates: Mask, size: int, min_score: float, lease: Lease
    ) -> Ranking:
        """Pass the pool by the plan; of the candidates the best."""
        pool = pinned.pool
        started = time.monotonic()

        def report(done: int) -> None:
            lease.stage(Stage.SCORING if done < pool.size else Stage.RANKING, scored=done, total=pool.size)

        report(0)
        try:
            scanned = scan(plan, pool, candidates, size, min_score=min_score, threads=usable_cores(), progress=report)
        except ScoreError as error:
            self.metrics.non_finite_scores_total.inc()
            raise JobFailed(JobError.INTERNAL, "The adapted model gave a score that is not a number.") from error
        self._observe_scoring(pinned.model.device, pool.size, time.monotonic() - started)
        return scanned.ranking

    def _observe_scoring(self, where: torch.device, users: int, seconds: float) -> None:
        device = where.type
        self.metrics.users_scored_total.labels(device=device).inc(users)
        self.metrics.scoring_throughput_users_per_second.labels(device=device).observe(users / max(seconds, 1e-9))

    def _store(self, job: Job, pinned: Pinned, ranking: Ranking) -> StoredAudience:
        return self.publisher.store(job, pinned.version, pinned.pool.user_ids(ranking.ordinals), ranking.scores)

    def _outcome(self, job: Job, stored: StoredAudience, result: JsonObject) -> Outcome:
        def publish(session: Session) -> None:
            self.publisher.insert(session, job, stored)

        def settled() -> None:
            self.metrics.audience_users.observe(stored.size)
            self.publisher.fill_cache(stored)

        return Outcome(
            result,
            publish=publish,
            settled=settled,
            abandon=lambda: self.publisher.discard(stored),
            expires_in_days=self.publisher.retention_days,
        )


def _candidates(eligible: Mask, matched: Matched, *, include_seeds: bool) -> Mask:
    mask = eligible.copy()
    if not include_seeds:
        mask[matched.seeds] = False
    mask[matched.negatives] = False
    mask[matched.excluded] = False
    return mask


def _asked_size(request: Mapping[str, Any], pool_size: int) -> int:
    if request["audience_size"] is not None:
        return int(request["audience_size"])
    # The fraction as the caller wrote it: 0.29 of 100 users is 29, though the nearest float is below 0.29.
    return max(1, floor(Decimal(str(request["audience_fraction"])) * pool_size))
