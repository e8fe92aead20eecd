"""Small made-up campaign datasets with a taste that can be learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from model.dataset import Dataset, Interactions, write_dataset
from model.embedding import Fields
from model.model import Model
from model.network import Encoder, build_network, initialise
from model.pool import Pool
from model.presets import ConvexConfig, MetaHeacConfig, PresetConfig
from model.schema import Feature, Schema
from model.vocabulary import Vocabulary

CITY = Feature("city", "categorical")
HOBBIES = Feature("hobbies", "multi", 4)
AGE = Feature("age", "numeric")
FACE = Feature("face", "vector")
ALL = (CITY, HOBBIES, AGE, FACE)
TOPIC = Feature("topic", "categorical")

SMALL_DEFAULT = ConvexConfig(embedding=8, hidden=(16,), representation=8, campaigns_per_step=4, users_per_task=64)
SMALL_METAHEAC = MetaHeacConfig(
    embedding=8, experts=3, critics=2, hidden=(8, 8), tasks_per_step=2, support_rows=64, query_rows=64
)
FROZEN_METAHEAC = replace(SMALL_METAHEAC, frozen_embeddings=True)
SMALL = {"default": SMALL_DEFAULT, "metaheac": SMALL_METAHEAC}


def make_dataset(
    *,
    users: int = 300,
    campaigns: int = 12,
    rows: int = 120,
    features: tuple[Feature, ...] = ALL,
    campaign_features: tuple[Feature, ...] = (TOPIC,),
    seed: int = 0,
) -> Dataset:
    """Every user has a hidden taste of 2 numbers that all features tell about; a campaign likes one direction of it.
    Some values are missing; user_ids are not in row order."""
    generator = np.random.default_rng(seed)
    taste = generator.normal(size=(users, 2))
    missing = generator.random((users, 4)) < 0.05
    hobby = taste @ generator.normal(size=(2, 12)) + generator.normal(size=(users, 12))
    columns = {
        "city": pa.array([f"city{v}" for v in np.digitize(taste[:, 0], [-1, 0, 1])], mask=missing[:, 0]),
        "hobbies": pa.array([[f"hobby{v}" for v in np.argsort(-row)[:3]] for row in hobby], mask=missing[:, 1]),
        "age": pa.array(taste[:, 1].astype(np.float32) * 10 + 40, mask=missing[:, 2]),
        "face": pa.array(
            (taste @ generator.normal(size=(2, 3))).astype(np.float32).tolist(),
            pa.list_(pa.float32()),
            mask=missing[:, 3],
        ),
    }
    ids = pa.array([f"u{v}" for v in generator.permutation(users)], pa.large_string())
    table = pa.table({"user_id": ids, **{feature.name: columns[feature.name] for feature in features}})
    angle = generator.uniform(0, 2 * np.pi, campaigns)
    topics = {"topic": pa.array([f"topic{int(v)}" for v in angle])}
    names = pa.array([f"c{v}" for v in range(campaigns)], pa.large_string())
    campaign_table = pa.table(
        {"campaign_id": names, **{feature.name: topics[feature.name] for feature in campaign_features}}
    )
    chosen = [np.sort(generator.choice(users, min(rows, users), replace=False)) for _ in range(campaigns)]
    liking = [3 * taste[user] @ [np.cos(a), np.sin(a)] for user, a in zip(chosen, angle, strict=True)]
    labels = [generator.random(len(like)) < 1 / (1 + np.exp(-like)) for like in liking]
    interactions = Interactions(
        campaign=np.repeat(np.arange(campaigns, dtype=np.int32), [len(user) for user in chosen]),
        user=np.concatenate(chosen).astype(np.int32),
        label=np.concatenate(labels).astype(np.uint8),
        split=None,
        weight=None,
    )
    return Dataset(Schema(features, campaign_features), table, campaign_table, interactions, ())


def make_untrained(pool: Pool, config: PresetConfig = SMALL_DEFAULT) -> Model:
    """A model that knows the pool's values, and of no campaign feature; its weights are random, biases too, and its
    embeddings so large that every term is seen in what is stored of a user."""
    vocabulary = Vocabulary.fit(pool, min_count=5, numeric_bins=8)
    seen = torch.ones(vocabulary.shape.table_rows, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    network = initialise(build_network(config, vocabulary.shape, Fields(0, 0, ())), seen, seen[:0], generator)
    embedding = network.embedding if isinstance(network, Encoder) else network.user_embedding
    with torch.no_grad():
        embedding.table.mul_(10)
        for name, parameter in network.named_parameters():
            if "bias" in name:
                parameter.normal_(generator=generator)
    return Model(config, Schema(pool.features, ()), vocabulary, Vocabulary(()), network, torch.device("cpu"))


def with_labels(dataset: Dataset, labels: np.ndarray) -> Dataset:
    """The same dataset with other labels."""
    return replace(dataset, interactions=replace(dataset.interactions, label=labels.astype(np.uint8)))


def write(dataset: Dataset, directory: Path) -> None:
    """The dataset as a campaign-dataset directory."""
    found = dataset.interactions
    interactions = pa.table(
        {
            "campaign_id": dataset.campaigns.column("campaign_id").take(pa.array(found.campaign)),
            "user_id": dataset.users.column("user_id").take(pa.array(found.user)),
            "label": found.label,
        }
    )
    write_dataset(directory, dataset.schema, dataset.users, dataset.campaigns, interactions)
