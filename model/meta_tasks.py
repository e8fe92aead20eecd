"""Batches of tasks for the meta-training of `default`: campaigns, and values of features, over one union of users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.presets import ConvexConfig
from model.tasks import CampaignRows, Floats, Rows
from model.value_tasks import ValueTask, ValueTasks

_OTHERS = 3

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class UserMajorTasks:
    """K tasks over one union of B users: ordinals i64 [B]; and for each task R users of the union: rows i64 [K, R] in
    it, labels, support and query weights f32 [K, R], a weight being 0 where the user is not in that set. A task with
    fewer users is filled up with users of weight 0 in both. hidden: the rows (start, stop) of the users' table that
    nobody of the union may be seen to have."""

    ordinals: Rows
    rows: Rows
    labels: Floats
    support: Floats
    query: Floats
    hidden: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class TaskSampler:
    """Draws tasks from these campaigns, from the values of features, and unlabelled users from the whole pool."""

    campaigns: Sequence[CampaignRows]
    values: ValueTasks
    pool_size: int
    config: ConvexConfig

    def draw(self, generator: np.random.Generator) -> UserMajorTasks:
        """Anchors first: some campaigns and values, and up to users_per_task users of each, half of them positive where
        there are enough. Then every campaign uses every user of the union that it has a label for, and every value its
        own and some others. Each task splits its users into support and query by a share
        of its own, drawn log-uniformly.

        A share of the campaigns has for negatives in its support what a seed set has online: users of the pool that it
        knows nothing about. Tasks that lack a label in one of their sets are left out; there is always one left.
        """
        while True:
            tasks = self._draw(generator)
            if len(tasks.labels):
                return tasks

    def _draw(self, generator: np.random.Generator) -> UserMajorTasks:
        config = self.config
        most = min(config.campaigns_per_step, len(self.campaigns))
        campaigns = [self.campaigns[i] for i in generator.choice(len(self.campaigns), most, replace=False)]
        count = config.values_per_step if len(self.values.values) else 0
        values = [self.values.draw(config.users_per_task, generator) for _ in range(count)]
        anchors = [_anchors(campaign, config.users_per_task, generator) for campaign in campaigns]
        unlabelled = generator.integers(0, self.pool_size, config.unlabelled_users)
        union = np.unique(np.concatenate([*anchors, *(value.users for value in values), unlabelled]))
        anonymous = np.isin(union, unlabelled)
        drawn = [
            *(self._campaign(campaign, union, anonymous, generator) for campaign in campaigns),
            *(self._value(value, union, generator) for value in values),
        ]
        labels, support, query = (np.stack(part) for part in zip(*drawn, strict=True))
        sets_and_labels = ((part > 0) & (labels == label) for part in (support, query) for label in (0, 1))
        complete = np.all([found.any(1) for found in sets_and_labels], axis=0)
        labels, support, query = labels[complete], support[complete], query[complete]
        used = support + query > 0
        rows = np.argsort(~used, axis=1, kind="stable")[:, : used.sum(1).max(initial=0)]
        labels, support, query = (np.take_along_axis(part, rows, axis=1) for part in (labels, support, query))
        return UserMajorTasks(union, rows, labels, support, query, tuple(value.hidden for value in values))

    def _campaign(
        self, campaign: CampaignRows, union: Rows, anonymous: Mask, generator: np.random.Generator
    ) -> tuple[Floats, Floats, Floats]:
        at = np.minimum(np.searchsorted(campaign.ordinals, union), len(campaign.ordinals) - 1)
        known = campaign.ordinals[at] == union
        labels = campaign.labels[at] * known
        weights = campaign.weights[at] * known
        in_support = self._in_support(len(union), generator)
        if generator.random() < self.config.unlabelled_share:
            in_support = np.where(labels == 1, in_support, anonymous)
            weights = np.where(anonymous & ~known, 1, weights).astype(np.float32)
        return labels, weights * in_support, weights * ~in_support

    def _value(self, value: ValueTask, union: Rows, generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        labels = np.isin(union, value.holders).astype(np.float32)
        # Its own users, and others up to about as many as a campaign finds in the union.
        others = _OTHERS * self.config.users_per_task / len(union)
        asked = np.isin(union, value.users) | (generator.random(len(union)) < others)
        in_support = self._in_support(len(union), generator)
        return labels, (asked & in_support).astype(np.float32), (asked & ~in_support).astype(np.float32)

    def _in_support(self, users: int, generator: np.random.Generator) -> Mask:
        least, most = np.log(self.config.support_share)
        return np.asarray(generator.random(users) < np.exp(generator.uniform(least, most)))


def _anchors(campaign: CampaignRows, count: int, generator: np.random.Generator) -> Rows:
    positives, negatives = (generator.permutation(campaign.ordinals[campaign.labels == label]) for label in (1, 0))
    few = min(len(positives), max(count // 2, count - len(negatives)))
    return np.concatenate([positives[:few], negatives[: count - few]])
