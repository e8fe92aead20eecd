from dataclasses import replace

import numpy as np
import pytest

from model.activity import value_counts
from model.benchmark.protocol import ALL, PU, PU_MATCHED, Protocol, default_seeds
from tests.model.worlds import make_dataset


def test_a_method_is_told_nothing_of_a_test_campaign(protocol: Protocol) -> None:
    split, known = protocol.split(0)
    whole = protocol.dataset
    assert len(split.test) > 0
    for campaign in range(12):
        assert (len(known.rows_of(campaign)) == 0) == (campaign in split.test)
    labels = [whole.interactions.label[whole.rows_of(int(campaign))] for campaign in split.train]
    kept = [known.interactions.label[known.rows_of(int(campaign))] for campaign in split.train]
    np.testing.assert_array_equal(np.concatenate(kept), np.concatenate(labels))


def test_every_part_ranks_the_same_rows(protocol: Protocol) -> None:
    parts = dict(protocol.parts(0))
    assert [held.task.campaign for held in parts[ALL]] == protocol.split(0)[0].test.tolist()
    rows = {held.task.campaign: held for held in parts[ALL]}
    for tasks in parts.values():
        for held in tasks:
            np.testing.assert_array_equal(held.task.candidates, rows[held.task.campaign].task.candidates)
            np.testing.assert_array_equal(held.labels, rows[held.task.campaign].labels)


def test_a_point_of_the_curve_has_exactly_that_many_seeds(protocol: Protocol) -> None:
    parts = dict(protocol.parts(0))
    assert {held.seeds for held in parts["seeds_25"]} == {25}
    assert parts["seeds_2000"] == []


@pytest.mark.parametrize("part", [PU, PU_MATCHED])
def test_without_negatives_seeds_are_kept_and_all_others_may_be_drawn(protocol: Protocol, part: str) -> None:
    parts = dict(protocol.parts(0))
    hidden = 0
    for whole, blind in zip(parts[ALL], parts[part], strict=True):
        labelled, given = blind.task.labelled, whole.task.labelled
        labelled.check()
        seeds = given.ordinals[given.labels == 1]
        np.testing.assert_array_equal(labelled.ordinals[labelled.labels == 1], seeds)
        drawn = labelled.ordinals[labelled.labels == 0]
        assert len(drawn) >= 900
        hidden += np.isin(drawn, whole.task.candidates[whole.labels == 1]).sum()
    assert hidden > 0


def test_matched_users_are_as_active_as_the_seeds() -> None:
    dataset = make_dataset(users=4000, campaigns=6, rows=400)
    protocol = Protocol.of(dataset)
    activity = value_counts(protocol.pool, np.arange(protocol.pool.size))
    assert len(np.unique(activity)) > 3
    for whole in dict(protocol.parts(0))[ALL]:
        # The most active only are made the seeds.
        labelled = whole.task.labelled
        top = labelled.ordinals[np.argsort(-activity[labelled.ordinals])[:30]]
        chosen = replace(labelled, labels=np.isin(labelled.ordinals, top).astype(np.float32))
        held = replace(whole, task=replace(whole.task, labelled=chosen))
        blind = [protocol._unlabelled(held, 0, matched=flag).task.labelled for flag in (False, True)]
        means = [activity[labelled.ordinals[labelled.labels == 0]].mean() for labelled in blind]
        assert abs(means[1] - activity[top].mean()) < abs(means[0] - activity[top].mean())


def test_cold_and_hot_share_the_campaigns_out_at_the_median(protocol: Protocol) -> None:
    tasks = dict(protocol.parts(0))[ALL]
    slices = protocol.slices(ALL, tasks)
    assert sorted(slices["cold"] + slices["hot"]) == slices["all"]
    assert max(tasks[at].seeds for at in slices["cold"]) < min(tasks[at].seeds for at in slices["hot"])
    assert set(protocol.slices(PU, tasks)) == {"pu", "pu_cold", "pu_hot"}


def test_a_bound_for_cold_campaigns_can_be_given(protocol: Protocol) -> None:
    tasks = dict(protocol.parts(0))[ALL]
    assert set(replace(protocol, cold=2000).slices(ALL, tasks)) == {"all", "cold"}


def test_few_campaigns_are_split_more_often(protocol: Protocol) -> None:
    assert default_seeds(protocol.dataset) == 10
    assert default_seeds(make_dataset(campaigns=100, rows=4)) == 3
