"""What the rows are measured on: a pool of the reference shapes, a model that knows its values, a campaign's seeds."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from model.adapt import adapt
from model.dataset import INTERACTIONS, USERS
from model.embedding import Fields
from model.errors import ModelError
from model.fitting import known_users
from model.heads.campaign import ConvexHead
from model.labelled import Labelled
from model.model import Model
from model.network import Encoder, build_network, initialise
from model.pool import Ordinals, Pool, open_pool, write_pool
from model.presets import ConvexConfig, HeadSetting
from model.represent import Representation, open_representation, write_representation
from model.schema import Schema
from model.synthetic import SCENARIOS, write_synthetic
from model.tasks import sample_negatives
from model.vocabulary import Vocabulary

# Rows of the made-up campaign, of which a fifth converts: enough for the largest adaptation.
CAMPAIGN_ROWS = 20_000
_SCENARIO = SCENARIOS["reference"]
# One head on φ and the values, one on the values alone; the penalties are among those that training chooses from.
SPARSE = HeadSetting(sparse_ridge=3.0, plain_ridge=10.0, plain_share=0.3, length_power=0.25, rarity_power=0.5)
DENSE = HeadSetting()


@dataclass(frozen=True)
class World:
    """The model is of the preset `default`, untrained, its φ of the pool mapped from files; seeds are ascending."""

    pool_directory: Path
    pool: Pool
    model: Model
    encoder: Encoder
    representation: Representation
    seeds: Ordinals

    @classmethod
    def open(cls, cache: Path, users: int, say: Callable[[str], object]) -> Self:
        """What `cache` holds of this size, made now if it does not. Raises ModelError where the users are too few."""
        if users < CAMPAIGN_ROWS:
            raise ModelError(f"speed is measured on at least {CAMPAIGN_ROWS:,} users; {users:,} are too few")
        directory = cache / f"reference-{users}"
        if not directory.exists():
            say(f"making up {users:,} users in {directory}")
            _make(cache, users, directory)
        pool = open_pool(directory / "pool")
        model, encoder = untrained(pool, ConvexConfig(heads=(SPARSE,), sampled_heads=(SPARSE,)))
        representation = represented(model, pool, directory / f"phi-{model.sha256[:16]}", say)
        return cls(directory / "pool", pool, model, encoder, representation, np.load(directory / "seeds.npy"))

    def labelled(self, seeds: int, negatives: int) -> Labelled:
        """So many of the seeds, and users sampled to stand for negatives; the same each time."""
        generator = np.random.default_rng(0)
        chosen = np.sort(generator.choice(self.seeds, min(seeds, len(self.seeds)), replace=False))
        ones = np.ones(len(chosen), np.float32)
        drawn = sample_negatives(self.pool.size, negatives, self.seeds, None, generator)
        return Labelled(chosen, ones, ones).with_sampled(drawn)

    def head(self, labelled: Labelled, setting: HeadSetting = SPARSE) -> ConvexHead:
        """Adapted in this way."""
        preset = ConvexConfig(heads=(setting,), sampled_heads=(setting,))
        head = adapt(replace(self.model, preset=preset), self.pool, self.representation, labelled, {})
        if not isinstance(head, ConvexHead):
            raise TypeError("the preset `default` has convex heads")
        return head


def represented(
    model: Model, pool: Pool, directory: Path, say: Callable[[str], object] = lambda _: None
) -> Representation:
    """What the model stores of the pool, as the directory holds it, made now if it is not there."""
    if not directory.exists():
        say("representing them")
        with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
            write_representation(model, pool, Path(scratch) / "made")
            (Path(scratch) / "made").rename(directory)
    return open_representation(directory, model_sha256=model.sha256, pool_sha256=pool.sha256)


@torch.no_grad()
def untrained(pool: Pool, config: ConvexConfig) -> tuple[Model, Encoder]:
    """A model that knows the pool's values, its weights drawn at random; its embeddings are so large that every one is
    seen in φ."""
    known = known_users(pool, min_count=config.min_count, numeric_bins=config.numeric_bins)
    network = build_network(config, known.vocabulary.shape, Fields(0, 0, ()))
    generator = torch.Generator().manual_seed(0)
    encoder = initialise(network, known.seen(), torch.zeros(0, dtype=torch.bool), generator)
    if not isinstance(encoder, Encoder):
        raise TypeError("the preset `default` has an encoder")
    encoder.rarity.copy_(known.rarity())
    encoder.embedding.table.mul_(10)
    schema = Schema(pool.features, ())
    return Model(config, schema, known.vocabulary, Vocabulary(()), encoder, torch.device("cpu")), encoder


def _make(cache: Path, users: int, directory: Path) -> None:
    """The pool and seeds of one campaign; a directory that is there is whole."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made, data = Path(scratch) / "made", Path(scratch) / "data"
        write_synthetic(data, replace(_SCENARIO, rows=(CAMPAIGN_ROWS, CAMPAIGN_ROWS)), users=users, campaigns=1)
        write_pool(data / USERS, _SCENARIO.schema.user_features, made / "pool")
        interactions = pq.read_table(data / INTERACTIONS)
        converted = interactions.filter(pc.equal(interactions.column("label"), 1)).column("user_id")
        np.save(made / "seeds.npy", np.sort(open_pool(made / "pool").ordinals(converted.to_pylist())))
        made.rename(directory)
