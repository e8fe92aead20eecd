"""Held-out campaigns: which of their converters are sent as seeds, and which stay hidden to judge the audience by."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.dataset import Dataset


@dataclass(frozen=True)
class HeldOut:
    """A campaign nothing of which was seen in training; seeds and hidden converters are disjoint, by user_id."""

    campaign_id: str
    attributes: dict[str, Any]
    seeds: tuple[str, ...]
    hidden: frozenset[str]


def choose(
    dataset: Dataset,
    campaigns: Iterable[int],
    *,
    count: int,
    seeds: int,
    min_seeds: int,
    generator: np.random.Generator,
) -> list[HeldOut]:
    """Draw up to `count` of these campaigns (rows of dataset.campaigns) and their seeds.

    Campaigns with twice as many converters as seeds come first, in random order; then the others, largest first,
    with half of their converters as seeds. Those with fewer than min_seeds seeds are left out.
    """
    converters = {campaign: _converters(dataset, campaign) for campaign in campaigns}
    drawn = generator.permutation(sorted(converters)).tolist()
    ample = [campaign for campaign in drawn if len(converters[campaign]) >= 2 * seeds]
    scarce = sorted((campaign for campaign in drawn if campaign not in ample), key=lambda c: -len(converters[c]))
    chosen = []
    for campaign in (*ample, *scarce)[:count]:
        users = generator.permutation(converters[campaign]).tolist()
        sent = min(seeds, len(users) // 2)
        if sent < min_seeds:
            break
        chosen.append(
            HeldOut(
                campaign_id=dataset.campaign_ids[campaign],
                attributes=dataset.campaign_attributes(campaign),
                seeds=tuple(users[:sent]),
                hidden=frozenset(users[sent:]),
            )
        )
    return chosen


def _converters(dataset: Dataset, campaign: int) -> list[str]:
    rows = dataset.rows_of(campaign)
    users = dataset.interactions.user[rows[dataset.interactions.label[rows] == 1]]
    ids: list[str] = dataset.users.column("user_id").take(users).to_pylist()
    return ids


@dataclass(frozen=True)
class Judgement:
    """How many of `hidden` converters an audience of `size` holds, and a random one of the same size drawn from the
    same `candidates` (everybody but the seeds)."""

    size: int
    candidates: int
    hidden: int
    hits: int
    random_hits: int

    @property
    def recall(self) -> float:
        """Share of the hidden converters that the audience holds."""
        return self.hits / self.hidden

    @property
    def random_recall(self) -> float:
        """The same of the random audience."""
        return self.random_hits / self.hidden

    @property
    def lift(self) -> float:
        """Hidden converters in the audience over what its share of the candidates would hold on average."""
        return self.recall * self.candidates / self.size

    @property
    def random_lift(self) -> float:
        """The same of the random audience: near 1, off by the luck of its draw."""
        return self.random_recall * self.candidates / self.size


def judge(
    campaign: HeldOut, audience: Iterable[str], everybody: Iterable[str], generator: np.random.Generator
) -> Judgement:
    """Count the hidden converters in the audience and in a random one of the same size."""
    members = set(audience)
    sent = set(campaign.seeds)
    candidates = [user_id for user_id in everybody if user_id not in sent]
    drawn = generator.choice(len(candidates), len(members), replace=False)
    return Judgement(
        size=len(members),
        candidates=len(candidates),
        hidden=len(campaign.hidden),
        hits=len(members & campaign.hidden),
        random_hits=sum(candidates[index] in campaign.hidden for index in drawn),
    )
