"""A model of the preset `metaheac` for the pool that rows are measured on, and campaigns to train and adapt it with."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from model.adapt import adapt
from model.adapt_network import Adaptation, AdaptedHead, adapting
from model.embedding import FeatureBatch
from model.fitting import known_users
from model.labelled import Labelled
from model.model import Model
from model.network import USER_TABLE, HybridExpertsCritics, build_experts_and_critics, initialise
from model.pool import Ordinals, Pool, encode_users
from model.presets import PUBLISHED_STAGE, MetaHeacConfig
from model.represent import Representation
from model.schema import Schema
from model.speed.world import World, represented
from model.synthetic import SCENARIOS
from model.tasks import CampaignRows
from model.vocabulary import Translation

# The published online stage over all rows. Every value of the pool has an embedding, however rare it is.
CONFIG = MetaHeacConfig(online=(PUBLISHED_STAGE,), online_epoch_rows=0, min_count=1)
_SCENARIO = SCENARIOS["reference"]


@dataclass(frozen=True, eq=False)
class MetaHeacWorld:
    """The pool and seeds of `world`, with an untrained network of the reference sizes; with frozen embeddings, what is
    stored of the pool too, mapped from files."""

    world: World
    model: Model
    network: HybridExpertsCritics
    representation: Representation | None

    @classmethod
    def of(cls, world: World, *, frozen: bool = False) -> Self:
        """Its vocabularies know every value of the pool that is held often enough, and every value of a campaign."""
        config = replace(CONFIG, frozen_embeddings=frozen)
        users = known_users(world.pool, min_count=config.min_count, numeric_bins=config.numeric_bins)
        campaigns = known_users(_campaigns(), min_count=1, numeric_bins=config.numeric_bins)
        network = initialise(
            build_experts_and_critics(config, users.vocabulary.shape, campaigns.vocabulary.shape),
            users.seen(),
            campaigns.seen(),
            torch.Generator().manual_seed(0),
        )
        schema = Schema(world.pool.features, _SCENARIO.schema.campaign_features)
        device = torch.device("cpu")
        model = Model(config, schema, users.vocabulary, campaigns.vocabulary, network, device)
        stored = world.pool_directory.parent / f"stored-{model.sha256[:16]}"
        return cls(world, model, network, represented(model, world.pool, stored) if frozen else None)

    def head(self, labelled: Labelled) -> AdaptedHead:
        """Adapted as published."""
        head = adapt(self.model, self.world.pool, self.representation, labelled, _ATTRIBUTES)
        if not isinstance(head, AdaptedHead):
            raise TypeError("the preset `metaheac` adapts its network")
        return head

    def adapting(self, labelled: Labelled) -> AbstractContextManager[Adaptation]:
        """The same before its first step."""
        pool = self.world.pool
        return adapting(self.model, self.network, pool, self.representation, labelled, _ATTRIBUTES, frozenset())

    def parameters(self, head: AdaptedHead) -> dict[str, Tensor]:
        """Of the whole adapted network; what the rows did not touch, or what is frozen, is the model's own."""
        own = {name: value.detach() for name, value in self.network.named_parameters()}
        return {**own, **head.dense, USER_TABLE: own[USER_TABLE].index_copy(0, head.rows, head.table)}

    def users(self, ordinals: Ordinals) -> FeatureBatch:
        """Their features."""
        return self._translation.batch(self.world.pool.take(ordinals), self.model.device)

    def tasks(self) -> list[tuple[CampaignRows, FeatureBatch]]:
        """As many campaigns as a step takes, with the same features: labelled users and sampled ones."""
        count = CONFIG.tasks_per_step
        parts = np.array_split(np.random.default_rng(0).permutation(self.world.seeds), count)
        drawn = (replace(self.world, seeds=np.sort(part)) for part in parts)
        found = (world.labelled(len(world.seeds), 4 * len(world.seeds)) for world in drawn)
        return [(CampaignRows(rows.ordinals, rows.labels, rows.weights), self.campaign) for rows in found]

    @cached_property
    def campaign(self) -> FeatureBatch:
        """The features of the campaign."""
        return self.model.campaigns.attributes(_ATTRIBUTES, self.model.device)

    @cached_property
    def _translation(self) -> Translation:
        return self.model.vocabulary.translate(self.world.pool)


_ATTRIBUTES = {field.feature.name: f"{field.feature.name}-0" for field in _SCENARIO.campaign_fields}


def _campaigns() -> Pool:
    """Campaigns that have every value of every campaign feature."""
    rows = np.arange(max(field.values for field in _SCENARIO.campaign_fields))
    columns = {
        field.feature.name: pa.array([f"{field.feature.name}-{row % field.values}" for row in rows])
        for field in _SCENARIO.campaign_fields
    }
    ids = pa.array([f"c{row}" for row in rows], pa.large_string())
    return encode_users(pa.table({"user_id": ids, **columns}), _SCENARIO.schema.campaign_features)
