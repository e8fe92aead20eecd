"""The `expand` job: match the seeds, adapt the model to them, score the pool, rank, publish the audience."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from sqlalchemy.orm import Session

from model.adapt import Head
from model.errors import AdaptationError, ScoreError
from model.insights import Insight, find_insights
from model.labelled import Labelled
from model.lent_threads import lent_threads
from model.pool import Ordinals, Pool
from model.quality import Quality
from model.scoring.plan import ScorePlan
from model.scoring.scan import Scanned, scan
from model.scoring.topk import Ranking
from service.audiences.publishing import AudiencePublisher, StoredAudience
from service.campaigns.inputs import ExpansionInputs
from service.campaigns.sizes import asked_size, largest_size
from service.erasures.repository import TombstoneReader, demand_generation
from service.erasures.tombstones import Tombstones
from service.expansion.campaign import CampaignModel
from service.expansion.drift import ScoreDrift
from service.expansion.eligibility import Mask, eligible_users
from service.expansion.matching import Matched, labelled_rows, match, stored_inputs
from service.expansion.pinning import Pinned, Pinning
from service.expansion.result import describe, draw_seed
from service.jobs.lease import Lease
from service.jobs.runner import JobFailed, Outcome
from service.jobs.states import JobError, Stage
from service.jobs.tables import Job
from service.kit import tracing
from service.kit.database import Database, JsonObject
from service.kit.metrics import Metrics
from service.serving.loader import Loader

MEASURED_FRACTION = 0.1  # where the metric of lift looks


@dataclass(frozen=True)
class ExpandHandler:
    """Handles `expand` jobs."""

    database: Database
    loader: Loader
    publisher: AudiencePublisher
    metrics: Metrics
    min_seeds: int
    tombstones: TombstoneReader

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """Run the stages one after the other; raises JobFailed with the problem that the caller will see."""
        request = job.request

        lease.stage(Stage.MATCHING)
        pinned = Pinning(self.database, self.loader).of(job, lease)
        pool = pinned.pool
        inputs = stored_inputs(self.database, job, pool)
        matched = match(pool, inputs)
        self._require_enough(matched, inputs)
        eligible = eligible_users(pool, request["eligibility"])
        random_seed = draw_seed(inputs, request, pinned)

        lease.stage(Stage.ADAPTING)
        campaign = CampaignModel.of(pinned, request, lease.check)
        rows = labelled_rows(matched, pool.size, eligible, np.random.default_rng(random_seed))
        head = self._adapt(campaign, rows)
        lease.check()
        largest = largest_size(pool.size)
        size = min(asked_size(request, pool.size), largest)
        quality = self._judge(campaign, rows, eligible, size, random_seed)

        candidates = _candidates(eligible, matched, include_seeds=request["include_seed_users"])
        scanned = self._scan(pinned, campaign.plan(head), candidates, size, request["min_score"] or 0.0, lease)

        lease.stage(Stage.PUBLISHING, scored=pool.size, total=pool.size)

        def tell(stored: StoredAudience) -> JsonObject:
            return describe(
                request,
                inputs,
                matched,
                pinned,
                stored,
                eligible=int(eligible.sum()),
                random_seed=random_seed,
                largest_size=largest,
                quality=quality,
            )

        def tell_apart(members: Ordinals) -> list[Insight]:
            return find_insights(pool, self.loader.value_counts(pool), members, matched.seeds, deny=campaign.deny)

        return self._outcome(job, pinned, scanned, tell, tell_apart)

    @cached_property
    def _drift(self) -> ScoreDrift:
        return ScoreDrift(self.database, self.metrics)

    def _require_enough(self, matched: Matched, inputs: ExpansionInputs) -> None:
        self.metrics.seed_users.observe(len(inputs.seeds))
        self.metrics.seed_match_ratio.observe(len(matched.seeds) / max(1, len(inputs.seeds)))  # all may be erased
        if len(matched.seeds) < self.min_seeds:
            self.metrics.seed_rejected_jobs_total.labels(reason="too_few_matched").inc()
            # The number that did match stays untold: it would tell who is in the pool.
            raise JobFailed(
                JobError.TOO_FEW_MATCHED_SEEDS,
                f"Fewer than {self.min_seeds} distinct seed users are in the pool; the expansion needs that many.",
            )

    def _adapt(self, campaign: CampaignModel, rows: Labelled) -> Head:
        started = time.monotonic()
        try:
            head = campaign.head(rows)
        except AdaptationError as error:
            self.metrics.adaptation_failures_total.labels(reason=error.fault).inc()
            raise JobFailed(JobError.INTERNAL, f"The model could not be adapted to these seeds: {error}") from error
        except (MemoryError, torch.OutOfMemoryError) as error:
            self.metrics.adaptation_failures_total.labels(reason="oom").inc()
            raise MemoryError from error
        self.metrics.adaptation_duration_seconds.observe(time.monotonic() - started)
        self.metrics.adaptation_steps.observe(head.steps)
        self.metrics.adaptation_loss_ratio.observe(head.loss_last / head.loss_first)
        return head

    def _judge(
        self, campaign: CampaignModel, rows: Labelled, eligible: Mask, size: int, random_seed: int
    ) -> Quality | None:
        with tracing.span("quality"):
            quality = campaign.quality(rows, eligible, audience_size=size, random_seed=random_seed)
        if quality is not None:
            self.metrics.audience_heldout_auc.observe(quality.auc)
            lift = next(point.lift for point in quality.lift_curve if point.fraction == MEASURED_FRACTION)
            if lift is not None:
                self.metrics.audience_lift.observe(lift)
        return quality

    def _scan(
        self, pinned: Pinned, plan: ScorePlan, candidates: Mask, size: int, min_score: float, lease: Lease
    ) -> Scanned:
        """Pass the pool by the plan; of the candidates the best, and how the scores of all are spread."""
        pool = pinned.pool
        started = time.monotonic()

        def report(done: int) -> None:
            lease.stage(Stage.SCORING if done < pool.size else Stage.RANKING, scored=done, total=pool.size)

        report(0)
        try:
            scanned = scan(
                plan, pool, candidates, size, min_score=min_score, threads=torch.get_num_threads(), progress=report
            )
        except ScoreError as error:
            self.metrics.non_finite_scores_total.inc()
            raise JobFailed(JobError.INTERNAL, "The adapted model gave a score that is not a number.") from error
        self._observe_scoring(pinned.model.device, pool.size, time.monotonic() - started)
        return scanned

    def _observe_scoring(self, where: torch.device, users: int, seconds: float) -> None:
        device = where.type
        self.metrics.users_scored_total.labels(device=device).inc(users)
        self.metrics.scoring_throughput_users_per_second.labels(device=device).observe(users / max(seconds, 1e-9))

    def _store(self, job: Job, pinned: Pinned, ranking: Ranking) -> StoredAudience:
        return self.publisher.store(job, pinned.version, pinned.pool.id_array(ranking.ordinals), ranking.scores)

    def _outcome(
        self,
        job: Job,
        pinned: Pinned,
        scanned: Scanned,
        tell: Callable[[StoredAudience], JsonObject],
        tell_apart: Callable[[Ordinals], list[Insight]],
    ) -> Outcome:
        """Store the audience without users erased since the pool was made; again, if others are before the commit."""
        tombstones = self.tombstones.since(pinned.erasure_generation)
        left = _without_erased(scanned.ranking, pinned.pool, tombstones)
        with lent_threads(1) as meanwhile:  # a disk takes its time to flush
            found = meanwhile.submit(tell_apart, left.ordinals)
            stored = self._store(job, pinned, left)
        insights = [asdict(insight) for insight in found.result()]
        result = tell(stored)

        def publish(session: Session) -> None:
            demand_generation(session, tombstones.generation)
            self.publisher.insert(session, job, stored, insights)

        def again() -> Outcome:
            self.publisher.discard(stored)
            return self._outcome(job, pinned, scanned, tell, tell_apart)

        def settled() -> None:
            self.metrics.audience_users.observe(stored.size)
            for warning in result["warnings"]:
                self.metrics.audience_warnings_total.labels(code=warning["code"]).inc()
            self.publisher.fill_cache(stored)
            if job.request["model_version"] is None:  # a job may ask for another model than the served one
                self._drift.take(pinned.version, scanned.counts)

        return Outcome(
            result,
            publish=publish,
            settled=settled,
            abandon=lambda: self.publisher.discard(stored),
            again=again,
            expires_in_days=self.publisher.retention_days,
        )


def _candidates(eligible: Mask, matched: Matched, *, include_seeds: bool) -> Mask:
    mask = eligible.copy()
    if not include_seeds:
        mask[matched.seeds] = False
    mask[matched.negatives] = False
    mask[matched.excluded] = False
    return mask


def _without_erased(ranking: Ranking, pool: Pool, tombstones: Tombstones) -> Ranking:
    if not tombstones.digests:
        return ranking
    left = ~tombstones.erased([user_id.encode() for user_id in pool.user_ids(ranking.ordinals)])
    return Ranking(ranking.ordinals[left], ranking.scores[left])
