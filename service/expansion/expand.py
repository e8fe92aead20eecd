"""The `expand` job: match the seeds, adapt the model to them, score the pool, rank, publish the audience."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import floor
from typing import Any

import numpy as np
import torch
from sqlalchemy.orm import Session

from model.adapt import Head, Labelled, adapt
from model.errors import AdaptationError, CheckpointError, ObjectMissing, PoolError
from model.model import Model
from model.pool import Pool
from model.represent import Representation, represent
from model.scoring.plan import score_plan
from model.scoring.topk import Ranking, TopK
from service.audiences.publishing import AudiencePublisher
from service.campaigns.inputs import ExpansionInputs
from service.expansion.eligibility import Mask, eligible_users
from service.expansion.matching import Matched, labelled_rows, match
from service.jobs import claims
from service.jobs import repository as jobs
from service.jobs.lease import Lease, LeaseLost
from service.jobs.runner import JobFailed, NotReady, Outcome
from service.jobs.states import JobError, Stage
from service.jobs.tables import Job
from service.kit.database import Database, JsonObject
from service.kit.metrics import Metrics
from service.serving import repository as serving
from service.serving.loader import Loader
from service.serving.tables import Representation as RepresentationRow

SCORE_ROWS = 8_192
LOW_MATCH_RATE = 0.5
LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class Pinned:
    """What this job computes with, the same in every attempt."""

    version: str
    model: Model
    snapshot_id: str
    pool: Pool
    representation: Representation | None


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
        lease.stage(Stage.MATCHING)
        pinned = self._pin(job, lease)
        pool = pinned.pool
        inputs = self._inputs(job)
        request = job.request
        deny = frozenset(request["deny_features"])
        matched = match(pool, inputs)
        self._require_enough(matched, inputs)
        eligible = eligible_users(pool, request["eligibility"])
        random_seed = _random_seed(inputs, request, pinned)

        lease.stage(Stage.ADAPTING)
        representation = pinned.representation
        if deny or representation is None:
            # Without the denied features the stored representation does not hold: make one for this job alone.
            representation = represent(pinned.model, pool, deny=deny, progress=lambda _done: lease.check())
        rows = labelled_rows(matched, pool.size, eligible, np.random.default_rng(random_seed))
        head = self._adapt(pinned, representation, rows, request, deny)

        candidates = _candidates(eligible, matched, include_seeds=request["include_seed_users"])
        size, truncated = _audience_size(request, pool.size)
        plan = score_plan(pinned.model, head, pool, representation, deny=deny)
        top = TopK(size)
        started = time.monotonic()
        for start, stop in pool.spans(SCORE_ROWS):
            lease.stage(Stage.SCORING, scored=start, total=pool.size)
            scores = plan.score(start, stop)
            if not np.isfinite(scores).all():
                self.metrics.non_finite_scores_total.inc()
                raise JobFailed(JobError.INTERNAL, "The adapted model gave a score that is not a number.")
            kept = candidates[start:stop]
            if request["min_score"] is not None:
                kept = kept & (scores >= request["min_score"])
            ordinals = start + np.flatnonzero(kept)
            top.push(ordinals, scores[kept])
        self._observe_scoring(pinned.model.device, pool.size, time.monotonic() - started)

        lease.stage(Stage.RANKING, scored=pool.size, total=pool.size)
        ranking = top.result()
        lease.stage(Stage.PUBLISHING, scored=pool.size, total=pool.size)
        return self._publish(job, pinned, inputs, matched, eligible, ranking, random_seed, truncated=truncated)

    def _pin(self, job: Job, lease: Lease) -> Pinned:
        """Fix model, snapshot and representation at the first claim; later attempts find them in the row."""
        if job.model_version is None or job.snapshot_id is None:
            with self.database.write() as session:
                served = serving.get_serving(session)
                if served.model_version is None or served.snapshot_id is None:
                    raise NotReady("no model and pool are served yet")
                version = job.request["model_version"] or served.model_version
                made = serving.find_representation(session, version, served.snapshot_id)
                pinned = claims.pin(
                    session,
                    lease.claim,
                    model_version=version,
                    snapshot_id=served.snapshot_id,
                    representation_id=made.id if made else None,
                )
                snapshot_id, representation_id = served.snapshot_id, made.id if made else None
            if not pinned:
                raise LeaseLost
        else:
            version, snapshot_id, representation_id = job.model_version, job.snapshot_id, job.representation_id
        return self._load(version, snapshot_id, representation_id)

    def _load(self, version: str, snapshot_id: str, representation_id: str | None) -> Pinned:
        try:
            model = self.loader.model(version)
        except (CheckpointError, ObjectMissing) as error:
            raise JobFailed(JobError.MODEL_UNAVAILABLE, str(error)) from error
        try:
            pool = self.loader.pool(snapshot_id)
            representation = None
            if representation_id is not None:
                with self.database.read() as session:
                    row = session.get(RepresentationRow, representation_id)
                if row is not None and row.object_name is not None:
                    representation = self.loader.representation(row.object_name, model, pool)
        except (PoolError, ObjectMissing) as error:
            raise JobFailed(JobError.POOL_UNAVAILABLE, str(error)) from error
        return Pinned(version, model, snapshot_id, pool, representation)

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
        request: Mapping[str, Any],
        deny: frozenset[str],
    ) -> Head:
        started = time.monotonic()
        try:
            head = adapt(pinned.model, pinned.pool, representation, rows, request["attributes"], deny=deny)
        except AdaptationError as error:
            self.metrics.adaptation_failures_total.labels(reason="diverged").inc()
            raise JobFailed(JobError.INTERNAL, f"The model could not be adapted to these seeds: {error}") from error
        self.metrics.adaptation_duration_seconds.observe(time.monotonic() - started)
        self.metrics.adaptation_steps.observe(head.steps)
        self.metrics.adaptation_loss_ratio.observe(head.loss_last / head.loss_first)
        return head

    def _observe_scoring(self, where: torch.device, users: int, seconds: float) -> None:
        device = where.type
        self.metrics.users_scored_total.labels(device=device).inc(users)
        self.metrics.scoring_throughput_users_per_second.labels(device=device).observe(users / max(seconds, 1e-9))

    def _publish(
        self,
        job: Job,
        pinned: Pinned,
        inputs: ExpansionInputs,
        matched: Matched,
        eligible: Mask,
        ranking: Ranking,
        random_seed: int,
        *,
        truncated: bool,
    ) -> Outcome:
        seed = _seed_view(job.request["submitted"], inputs, matched)
        stored = self.publisher.store(job, pinned.version, pinned.pool.user_ids(ranking.ordinals), ranking.scores)
        warnings = []
        if seed["match_rate"] < LOW_MATCH_RATE:
            detail = f"Only {seed['match_rate']:.0%} of the distinct seed users are in the pool."
            warnings.append({"code": "low_match_rate", "detail": detail})
        if truncated:
            detail = f"An audience is at most half of the pool: {floor(pinned.pool.size * LARGEST_SHARE)} users."
            warnings.append({"code": "audience_truncated", "detail": detail})
        result: JsonObject = {
            "seed": seed,
            "pool_size": pinned.pool.size,
            "pool_eligible": int(eligible.sum()),
            "audience": stored.view(),
            "manifest": {
                "seed_sha256": inputs.seed_sha256(),
                "model_sha256": pinned.model.sha256,
                "pool_sha256": pinned.pool.sha256,
                "random_seed": random_seed,
                "audience_sha256": stored.sha256,
            },
            "warnings": warnings,
        }

        def publish(session: Session) -> None:
            self.publisher.insert(session, job, stored)

        def settled() -> None:
            self.metrics.audience_users.observe(stored.size)
            self.publisher.fill_cache(stored)

        def abandon() -> None:
            self.publisher.discard(stored)

        return Outcome(
            result,
            publish=publish,
            settled=settled,
            abandon=abandon,
            expires_in_days=self.publisher.retention_days,
        )


def _random_seed(inputs: ExpansionInputs, request: Mapping[str, Any], pinned: Pinned) -> int:
    """63 bits from the seeds, the options, the model and the pool: never from the job, so that a repeat is the same."""
    ignored = ("labels", "submitted")
    options = {name: value for name, value in request.items() if name not in ignored}
    parts = (
        inputs.seed_sha256(),
        *inputs.negatives,
        *inputs.excluded,
        json.dumps(options, sort_keys=True),
        pinned.model.sha256,
        pinned.pool.sha256,
    )
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:8], "big") >> 1


def _candidates(eligible: Mask, matched: Matched, *, include_seeds: bool) -> Mask:
    mask = eligible.copy()
    if not include_seeds:
        mask[matched.seeds] = False
    mask[matched.negatives] = False
    mask[matched.excluded] = False
    return mask


def _audience_size(request: Mapping[str, Any], pool_size: int) -> tuple[int, bool]:
    """The number of users asked for, at most half of the pool, and whether that cut it."""
    if request["audience_size"] is None:
        # The fraction as the caller wrote it: 0.29 of 100 users is 29, though the nearest float is below 0.29.
        return max(1, floor(Decimal(str(request["audience_fraction"])) * pool_size)), False
    largest = max(1, floor(pool_size * LARGEST_SHARE))
    return min(request["audience_size"], largest), request["audience_size"] > largest


def _seed_view(submitted: int, inputs: ExpansionInputs, matched: Matched) -> JsonObject:
    unique = len(inputs.seeds)
    return {
        "submitted": submitted,
        "unique": unique,
        "duplicates": submitted - unique,
        "matched": len(matched.seeds),
        "unknown": unique - len(matched.seeds),
        "match_rate": round(len(matched.seeds) / unique, 6),
    }
