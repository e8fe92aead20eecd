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
class TaskRows:
    """The support or the query sets of K tasks, each filled up to R users: rows i64 [K, R] in the union, labels and
    weights f32 [K, R], the weight being 0 for who fills up."""

    rows: Rows
    labels: Floats
    weights: Floats

    @classmethod
    def of(cls, labels: Floats, weights: Floats) -> "TaskRows":
        """From labels and weights of all users of the union [K, B]."""
        present = weights > 0
        rows = np.argsort(~present, axis=1, kind="stable")[:, : present.sum(1).max(initial=0)]
        return cls(rows, np.take_along_axis(labels, rows, axis=1), np.take_along_axis(weights, rows, axis=1))


@dataclass(frozen=True)
class UserMajorTasks:
    """K tasks over one union of B users, ordinals i64 [B]; no user is in both sets of a task. hidden: the rows (start,
    stop) of the users' table that nobody of the union may be seen to have."""

    ordinals: Rows
    support: TaskRows
    query: TaskRows
    hidden: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """K."""
        return len(self.support.rows)


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
        own and some others. All tasks split their users into support and query by the same
        share, drawn log-uniformly: in most draws the support sets, which are costly, are small.

        A share of the campaigns has for negatives in its support what a seed set has online: users of the pool that it
        knows nothing about. Tasks that lack a label in one of their sets are left out; there is always one left.
        """
        while True:
            tasks = self._draw(generator)
            if tasks.count:
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
        share = float(np.exp(generator.uniform(*np.log(config.support_share))))
        drawn = [
            *(self._campaign(campaign, union, anonymous, share, generator) for campaign in campaigns),
            *(self._value(value, union, share, generator) for value in values),
        ]
        labels, support, query = (np.stack(part) for part in zip(*drawn, strict=True))
        sets_and_labels = ((part > 0) & (labels == label) for part in (support, query) for label in (0, 1))
        complete = np.all([found.any(1) for found in sets_and_labels], axis=0)
        support_rows, query_rows = (TaskRows.of(labels[complete], part[complete]) for part in (support, query))
        return UserMajorTasks(union, support_rows, query_rows, tuple(value.hidden for value in values))

    def _campaign(
        self, campaign: CampaignRows, union: Rows, anonymous: Mask, share: float, generator: np.random.Generator
    ) -> tuple[Floats, Floats, Floats]:
        at = np.minimum(np.searchsorted(campaign.ordinals, union), len(campaign.ordinals) - 1)
        known = campaign.ordinals[at] == union
        labels = campaign.labels[at] * known
        weights = campaign.weights[at] * known
        in_support = generator.random(len(union)) < share
        if generator.random() < self.config.unlabelled_share:
            in_support = np.where(labels == 1, in_support, anonymous)
            weights = np.where(anonymous & ~known, 1, weights).astype(np.float32)
        return labels, weights * in_support, weights * ~in_support

    def _value(
        self, value: ValueTask, union: Rows, share: float, generator: np.random.Generator
    ) -> tuple[Floats, Floats, Floats]:
        labels = np.isin(union, value.holders).astype(np.float32)
        # Its own users, and others up to about as many as a campaign finds in the union.
        others = _OTHERS * self.config.users_per_task / len(union)
        asked = np.isin(union, value.users) | (generator.random(len(union)) < others)
        in_support = generator.random(len(union)) < share
        return labels, (asked & in_support).astype(np.float32), (asked & ~in_support).astype(np.float32)


def _anchors(campaign: CampaignRows, count: int, generator: np.random.Generator) -> Rows:
    positives, negatives = (generator.permutation(campaign.ordinals[campaign.labels == label]) for label in (1, 0))
    few = min(len(positives), max(count // 2, count - len(negatives)))
    return np.concatenate([positives[:few], negatives[: count - few]])
