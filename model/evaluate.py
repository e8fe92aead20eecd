"""Held-out campaigns, judged by the code that serves: adapt on the seed part, score and rank the evaluation part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.adapt import adapt
from model.dataset import Dataset
from model.labelled import Labelled
from model.metrics import auc, precision_at, recall_at
from model.model import Model
from model.pool import Pool, encode_users
from model.represent import Representation, represent
from model.scoring.plan import score_plan
from model.tasks import CampaignRows, Rows, campaign_rows, split_rows

TOP = 0.05
METRICS = ("auc", "p_at_5", "r_at_5")


@dataclass(frozen=True)
class CampaignResult:
    """One campaign: positives it adapted on, rows ranked and positives among them; the metrics of the ranking, and
    those of the same rows in random order. The top is 5 % of the ranked rows."""

    campaign_id: str
    seeds: int
    rows: int
    positives: int
    auc: float
    p_at_5: float
    r_at_5: float
    random_auc: float
    random_p_at_5: float
    random_r_at_5: float


@dataclass(frozen=True)
class Evaluation:
    """Results by campaign, and the ids of campaigns that lack a positive or a negative in one of their parts."""

    campaigns: tuple[CampaignResult, ...]
    skipped: tuple[str, ...]

    def summary(self) -> Mapping[str, float]:
        """Means over campaigns: auc, p_at_5, r_at_5, the same of a random order with the prefix random_, and the
        number of campaigns. Empty but for that number if there are none."""
        means = {
            name: float(np.mean([getattr(result, name) for result in self.campaigns]))
            for prefix in ("", "random_")
            for name in (prefix + metric for metric in METRICS)
            if self.campaigns
        }
        return {"campaigns": len(self.campaigns), **means}

    def cold_and_hot(self, threshold: float | None = None) -> tuple["Evaluation", "Evaluation"]:
        """Campaigns with at most `threshold` seeds (the median unless given), and the others."""
        if threshold is None:
            threshold = float(np.median([result.seeds for result in self.campaigns])) if self.campaigns else 0
        cold = tuple(result for result in self.campaigns if result.seeds <= threshold)
        hot = tuple(result for result in self.campaigns if result.seeds > threshold)
        return Evaluation(cold, ()), Evaluation(hot, ())


def evaluate(
    model: Model,
    dataset: Dataset,
    campaigns: Sequence[int] | Rows,
    *,
    seed: int,
    max_seeds: int | None = None,
    pool: Pool | None = None,
    representation: Representation | None = None,
    progress: Callable[[float], object] | None = None,
) -> Evaluation:
    """Evaluate these campaigns; `seed` splits their rows. pool: `encode_users` of the dataset's users, and
    representation: of that pool by this model, where they are there already. progress gets the fraction done."""
    if pool is None:
        pool = encode_users(dataset.users, dataset.schema.user_features)
    if representation is None:
        representation = represent(model, pool, progress=None if progress is None else lambda _: progress(0.0))
    ordinals = pool.ordinals(dataset.users.column("user_id").to_pylist())
    results = []
    skipped = []
    for done, campaign in enumerate(map(int, campaigns)):
        result = _evaluate_campaign(model, dataset, campaign, ordinals, pool, representation, seed, max_seeds)
        if result is None:
            skipped.append(dataset.campaign_ids[campaign])
        else:
            results.append(result)
        if progress is not None:
            progress((done + 1) / len(campaigns))
    return Evaluation(tuple(results), tuple(skipped))


def held_out_parts(
    dataset: Dataset, campaign: int, ordinals: Rows, seed: int, max_seeds: int | None = None
) -> tuple[Labelled, CampaignRows] | None:
    """The rows to adapt on and the rows to rank, as `split_rows` has them; None where one of them lacks a label.

    ordinals i64 [users]: the pool's ordinal of each row of dataset.users.
    """
    parts = split_rows(dataset, campaign, seed, max_seeds=max_seeds)
    adapting, ranked = (campaign_rows(dataset, ordinals, part) for part in parts)
    if any(len(np.unique(part.labels)) < 2 for part in (adapting, ranked)):
        return None
    return Labelled(adapting.ordinals, adapting.labels, adapting.weights), ranked


def _evaluate_campaign(
    model: Model,
    dataset: Dataset,
    campaign: int,
    ordinals: Rows,
    pool: Pool,
    representation: Representation | None,
    seed: int,
    max_seeds: int | None,
) -> CampaignResult | None:
    parts = held_out_parts(dataset, campaign, ordinals, seed, max_seeds)
    if parts is None:
        return None
    labelled, ranked = parts
    attributes = dataset.campaign_attributes(campaign)
    head = adapt(model, pool, representation, labelled, attributes)
    scores = score_plan(model, head, pool, representation).score_users(ranked.ordinals)
    random = np.random.default_rng([seed, 2, campaign]).random(len(scores))
    return CampaignResult(
        dataset.campaign_ids[campaign],
        seeds=int(labelled.labels.sum()),
        rows=len(ranked.labels),
        positives=int(ranked.labels.sum()),
        auc=auc(ranked.labels, scores),
        p_at_5=precision_at(ranked.labels, scores, TOP),
        r_at_5=recall_at(ranked.labels, scores, TOP),
        random_auc=auc(ranked.labels, random),
        random_p_at_5=precision_at(ranked.labels, random, TOP),
        random_r_at_5=recall_at(ranked.labels, random, TOP),
    )
