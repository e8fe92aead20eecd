from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.meta_tasks import TaskRows, TaskSampler, UserMajorTasks
from model.pool import Pool, encode_users
from model.presets import ConvexConfig
from model.schema import Feature
from model.tasks import CampaignRows, campaign_rows
from model.value_tasks import ValueTasks
from model.vocabulary import Translation, Vocabulary
from tests.model.worlds import make_dataset

CONFIG = ConvexConfig(
    campaigns_per_step=12,
    values_per_step=0,
    users_per_task=10,
    support_share=(0.1, 0.9),
    unlabelled_share=0.0,
    unlabelled_users=0,
)


@pytest.fixture(scope="module")
def world() -> tuple[Pool, Translation]:
    dataset = make_dataset()
    pool = encode_users(dataset.users, dataset.schema.user_features)
    return pool, Vocabulary.fit(pool, min_count=2, numeric_bins=8).translate(pool)


def make_campaigns(count: int = 12) -> list[CampaignRows]:
    dataset = make_dataset()
    return [campaign_rows(dataset, np.arange(300), dataset.rows_of(campaign)) for campaign in range(count)]


def draw(
    world: tuple[Pool, Translation], campaigns: Sequence[CampaignRows], seed: int = 0, **changes: object
) -> UserMajorTasks:
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return TaskSampler(campaigns, ValueTasks.of(*world), world[0].size, config).draw(np.random.default_rng(seed))


def facts(tasks: UserMajorTasks, part: TaskRows) -> list[set[tuple[int, int]]]:
    """Of each task the pairs (ordinal, label) that weigh something."""
    return [
        {(int(tasks.ordinals[row]), int(label)) for row, label, weight in zip(*task, strict=True) if weight}
        for task in zip(part.rows, part.labels, part.weights, strict=True)
    ]


def test_every_labelled_user_of_the_union_serves_every_campaign_once(world: tuple[Pool, Translation]) -> None:
    campaigns = make_campaigns()
    tasks = draw(world, campaigns)
    assert tasks.count == 12
    sets = list(zip(facts(tasks, tasks.support), facts(tasks, tasks.query), strict=True))
    assert not any(support & query for support, query in sets)
    truth = [
        {(int(o), int(y)) for o, y in zip(c.ordinals, c.labels, strict=True) if o in tasks.ordinals} for c in campaigns
    ]
    assert sorted(sorted(support | query) for support, query in sets) == sorted(map(sorted, truth))
    for part in (tasks.support, tasks.query):
        for rows in part.rows:
            assert len(np.unique(rows)) == len(rows)


def test_a_campaign_without_both_labels_in_both_sets_is_left_out(world: tuple[Pool, Translation]) -> None:
    whole = CampaignRows(np.arange(40), np.tile([0, 1], 20).astype(np.float32), np.ones(40, np.float32))
    one_positive = CampaignRows(np.arange(40), (np.arange(40) == 3).astype(np.float32), np.ones(40, np.float32))
    for seed in range(20):
        tasks = draw(world, [whole, one_positive], seed, users_per_task=40, support_share=(0.4, 0.6))
        assert tasks.count == 1


def test_unlabelled_users_stand_in_for_negatives_in_the_support_but_never_in_the_query(
    world: tuple[Pool, Translation],
) -> None:
    campaigns = make_campaigns(1)
    known = set(campaigns[0].ordinals.tolist())
    tasks = draw(world, campaigns, unlabelled_share=1.0, unlabelled_users=100, users_per_task=60)
    support, query = facts(tasks, tasks.support)[0], facts(tasks, tasks.query)[0]
    assert {user for user, _ in query} <= known
    assert {label for _, label in query} == {0, 1}
    assert {user for user, label in support if label} <= known
    assert any(user not in known for user, label in support if not label)
    assert not {user for user, _ in support} & {user for user, _ in query}


def test_a_value_task_asks_users_of_the_union_who_has_the_value(world: tuple[Pool, Translation]) -> None:
    pool, translation = world
    tasks = draw(world, make_campaigns(1), values_per_step=3, users_per_task=60, support_share=(0.4, 0.6))
    hidden = tasks.hidden
    batch = translation.batch(pool.take(tasks.ordinals), torch.device("cpu"))
    owner = np.tile(np.arange(batch.size), len(pool.features)).repeat(batch.offsets.diff().numpy())
    values = batch.rows.numpy()
    assert len(hidden) == 3
    assert tasks.count == 4
    for number, (start, stop) in enumerate(hidden, start=1):
        parts = (tasks.support, tasks.query)
        asked = {int(row) for part in parts for row in part.rows[number][part.weights[number] == 1]}
        yes = {int(row) for part in parts for row in part.rows[number][part.labels[number] == 1]} & asked
        answers = [set(owner[values == value].tolist()) & asked for value in range(start, stop)]
        assert yes in answers
        assert len(asked) >= 10


def test_a_single_value_is_hidden_with_its_whole_field_and_one_of_a_list_alone(
    world: tuple[Pool, Translation],
) -> None:
    pool, translation = world
    values = ValueTasks.of(pool, translation)
    kinds = {}
    for row, (start, stop) in zip(values.values, values.hidden, strict=True):
        field = next(part for part in reversed(translation.fields) if part.offset <= row)
        kinds[field.field.feature.kind] = stop - start
        assert start <= row < stop
    assert kinds["multi"] == 1
    assert kinds["categorical"] > 1


def test_others_are_drawn_by_the_length_of_their_lists() -> None:
    """So that having a long list does not tell the holders of a value from the others."""
    generator = np.random.default_rng(0)
    lengths = np.where(np.arange(2000) < 1000, 2, 12)
    lists = [sorted(generator.choice(40, length, replace=False).astype(str).tolist()) for length in lengths]
    table = pa.table({"user_id": [f"{user:04d}" for user in range(2000)], "tags": lists})
    pool = encode_users(table, (Feature("tags", "multi"),))
    values = ValueTasks.of(pool, Vocabulary.fit(pool, min_count=1, numeric_bins=8).translate(pool))
    long = []
    for _ in range(200):
        task = values.draw(120, generator)
        others = np.setdiff1d(task.users, task.holders)
        long.append((others >= 1000).mean())
    assert 0.6 < np.mean(long) < 0.85


def test_a_pool_without_common_values_has_no_value_tasks(world: tuple[Pool, Translation]) -> None:
    dataset = make_dataset()
    users = dataset.users.slice(0, 10)
    pool = encode_users(users, dataset.schema.user_features)
    values = ValueTasks.of(pool, Vocabulary.fit(pool, min_count=1, numeric_bins=8).translate(pool))
    assert not len(values.values)
    campaign = CampaignRows(np.arange(10), np.tile([0, 1], 5).astype(np.float32), np.ones(10, np.float32))
    tasks = TaskSampler([campaign], values, 10, replace(CONFIG, values_per_step=4)).draw(np.random.default_rng(0))
    assert tasks.count == 1
