"""Seeds and hidden converters of held-out campaigns, and the figures that judge an audience."""

from dataclasses import replace

import numpy as np
import pytest

from model.dataset import Dataset, Interactions
from service.demo.campaigns import HeldOut, choose, judge
from tests.model.worlds import make_dataset


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def with_converters(*counts: int) -> Dataset:
    """A campaign each with so many converters and as many users who did not convert."""
    dataset = make_dataset(users=500, campaigns=len(counts))
    rows = sum(2 * count for count in counts)
    interactions = Interactions(
        campaign=np.repeat(np.arange(len(counts), dtype=np.int32), [2 * count for count in counts]),
        user=np.concatenate([np.arange(2 * count, dtype=np.int32) for count in counts]),
        label=(np.arange(rows) % 2).astype(np.uint8),
        split=None,
        weight=None,
    )
    return replace(dataset, interactions=interactions)


def drawn(dataset: Dataset, count: int = 10, seeds: int = 40) -> list[HeldOut]:
    campaigns = range(len(dataset.campaign_ids))
    return choose(dataset, campaigns, count=count, seeds=seeds, min_seeds=25, generator=random())


def test_seeds_and_hidden_users_are_all_the_converters_and_no_one_is_both() -> None:
    dataset = with_converters(100)
    (campaign,) = drawn(dataset)
    ids = dataset.users.column("user_id").to_pylist()
    assert len(campaign.seeds) == 40
    assert len(campaign.hidden) == 60
    assert campaign.hidden | set(campaign.seeds) == {ids[user] for user in range(1, 200, 2)}


def test_campaigns_with_enough_converters_come_first_and_the_others_give_half_of_theirs() -> None:
    dataset = with_converters(60, 200, 70, 80, 49)
    assert [len(campaign.seeds) for campaign in drawn(dataset)] == [40, 40, 35, 30]
    assert {campaign.campaign_id for campaign in drawn(dataset, count=2)} == {"c1", "c3"}


def test_campaign_features_go_with_the_campaign() -> None:
    (campaign, *_) = drawn(with_converters(100))
    assert campaign.attributes.keys() == {"topic"}


def test_recall_counts_hidden_converters_and_lift_compares_with_the_share_of_candidates() -> None:
    everybody = [f"u{number}" for number in range(110)]
    campaign = HeldOut("c", {}, seeds=tuple(everybody[:10]), hidden=frozenset(everybody[10:30]))
    found = judge(campaign, everybody[10:20], everybody, random())
    assert (found.size, found.candidates, found.hidden, found.hits) == (10, 100, 20, 10)
    assert found.recall == pytest.approx(0.5)
    assert found.lift == pytest.approx(5)


def test_random_audiences_are_drawn_without_seeds_and_have_a_lift_of_about_one() -> None:
    everybody = [f"u{number}" for number in range(1000)]
    campaign = HeldOut("c", {}, seeds=tuple(everybody[:500]), hidden=frozenset(everybody[500:600]))
    generator = random()
    found = [judge(campaign, everybody[500:600], everybody, generator) for _ in range(200)]
    assert np.mean([one.random_lift for one in found]) == pytest.approx(1, abs=0.05)
    assert len({one.random_hits for one in found}) > 5
