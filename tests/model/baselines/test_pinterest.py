from dataclasses import replace

import numpy as np
import pytest

from model.baselines.base import TrainingData
from model.baselines.campaign_network import build
from model.baselines.held_out import HeldOut
from model.baselines.inputs import USERS_ONLY, Inputs
from model.baselines.pinterest import TABLES, Regions, SeedDensity
from model.baselines.shared_bottom import SharedBottom
from model.baselines.universal import UniversalEmbedding, linear_scores
from model.labelled import Labelled

CONFIG = replace(USERS_ONLY, embedding=4, hidden=(5,), tower=())


@pytest.fixture(scope="module")
def embedding(data: TrainingData) -> UniversalEmbedding:
    inputs = Inputs.of(data, CONFIG)
    return UniversalEmbedding(build(SharedBottom, inputs, 3, CONFIG, 0), inputs)


def test_a_score_is_the_mean_share_of_seeds_in_the_regions_of_a_user(
    embedding: UniversalEmbedding, tasks: list[HeldOut]
) -> None:
    task = tasks[0].task
    generator = np.random.default_rng(0)
    weights = generator.uniform(0.5, 2, len(task.labelled.labels)).astype(np.float32)
    task = replace(task, labelled=replace(task.labelled, weights=weights))
    middle, planes = embedding.of(np.arange(100)).mean(0), generator.normal(size=(5, TABLES, 4))
    regions = Regions(bits=3, smoothing=2.0)
    scores = dict(SeedDensity(embedding, middle, planes).trials(task, (regions,)))[regions]
    average = (weights * task.labelled.labels).sum() / weights.sum()
    known, asked = (embedding.of(users) - middle for users in (task.labelled.ordinals, task.candidates[:5]))
    for candidate, score in zip(asked, scores[:5], strict=True):
        shares = []
        for table in range(TABLES):
            cut = planes[:, table, :3]
            here = np.array([((user @ cut > 0) == (candidate @ cut > 0)).all() for user in known])
            seeds = (weights * task.labelled.labels)[here].sum()
            shares.append((seeds + 2 * average) / (weights[here].sum() + 2))
        assert score == pytest.approx(np.mean(shares), rel=1e-5)


def test_a_user_is_the_same_in_every_campaign(embedding: UniversalEmbedding) -> None:
    users = np.array([3, 1, 7])
    np.testing.assert_allclose(embedding.of(users)[1:2], embedding.of(users[1:2]), rtol=1e-6)


def test_a_linear_head_separates_what_can_be_separated(embedding: UniversalEmbedding, tasks: list[HeldOut]) -> None:
    users = np.arange(60)
    labels = (embedding.of(users)[:, 0] > np.median(embedding.of(users)[:, 0])).astype(np.float32)
    task = replace(tasks[0].task, labelled=Labelled(users, labels, np.ones(60, np.float32)), candidates=users)
    right = (linear_scores(embedding, task, 0.01) > 0.5) == (labels == 1)
    assert right.mean() > 0.9


def test_a_constant_embedding_gives_everybody_the_share_of_seeds(data: TrainingData, tasks: list[HeldOut]) -> None:
    inputs = Inputs.of(data, CONFIG)
    network = build(SharedBottom, inputs, 3, CONFIG, 0)
    for parameter in network.parameters():
        parameter.data.zero_()
    task = tasks[0].task
    scores = linear_scores(UniversalEmbedding(network, inputs), task, 1.0)
    np.testing.assert_allclose(scores, task.labelled.labels.mean(), rtol=1e-6)
