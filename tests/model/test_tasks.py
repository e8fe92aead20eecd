from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import DataError
from model.tasks import (
    PARTS,
    campaign_rows,
    excerpt,
    kept_split,
    sample_negatives,
    sample_task,
    split_campaigns,
    split_rows,
)
from tests.model.worlds import make_dataset


@pytest.mark.parametrize(("campaigns", "sizes"), [(3, (1, 1, 1)), (10, (6, 1, 3)), (59, (35, 6, 18))])
def test_every_campaign_is_in_exactly_one_part(campaigns: int, sizes: tuple[int, int, int]) -> None:
    split = split_campaigns(make_dataset(campaigns=campaigns, rows=4), 0)
    parts = split.train, split.validation, split.test
    assert tuple(map(len, parts)) == sizes
    assert np.sort(np.concatenate(parts)).tolist() == list(range(campaigns))


def test_the_campaign_split_depends_on_the_seed_alone() -> None:
    dataset = make_dataset(campaigns=20, rows=4)
    assert np.array_equal(split_campaigns(dataset, 1).test, split_campaigns(dataset, 1).test)
    assert not np.array_equal(split_campaigns(dataset, 1).test, split_campaigns(dataset, 2).test)


def test_two_campaigns_are_too_few() -> None:
    with pytest.raises(DataError, match=r"2 campaigns cannot be split.*at least 3"):
        split_campaigns(make_dataset(campaigns=2, rows=4), 0)


def test_rows_are_halved_within_each_label() -> None:
    dataset = make_dataset()
    adapting, ranked = split_rows(dataset, 3, 0)
    assert np.sort(np.concatenate([adapting, ranked])).tolist() == dataset.rows_of(3).tolist()
    labels = dataset.interactions.label
    assert abs(int(labels[adapting].sum()) - int(labels[ranked].sum())) <= 1
    assert abs(len(adapting) - len(ranked)) <= 2


def test_the_datasets_own_split_is_kept() -> None:
    dataset = make_dataset()
    split = np.random.default_rng(0).integers(0, 2, len(dataset.interactions.label)).astype(np.int8)
    dataset = replace(dataset, interactions=replace(dataset.interactions, split=split))
    adapting, ranked = split_rows(dataset, 3, 0)
    assert (split[adapting] == 0).all()
    assert (split[ranked] == 1).all()


def test_a_cap_on_seeds_thins_negatives_alike_and_leaves_the_ranked_rows() -> None:
    dataset = make_dataset()
    labels = dataset.interactions.label
    adapting, ranked = split_rows(dataset, 3, 0)
    few, still = split_rows(dataset, 3, 0, max_seeds=5)
    assert set(few) < set(adapting)
    assert np.array_equal(ranked, still)
    assert labels[few].sum() == 5
    share = 5 / labels[adapting].sum()
    assert (labels[few] == 0).sum() == round(share * (labels[adapting] == 0).sum())


@given(st.lists(st.integers(0, 1), min_size=2, max_size=80), st.integers(1, 50), st.integers(1, 50), st.integers(0, 99))
def test_support_and_query_are_disjoint_and_hold_both_labels(labels, support, query, seed) -> None:  # type: ignore[no-untyped-def]
    values = np.array(labels, np.uint8)
    parts = sample_task(values, support, query, np.random.default_rng(seed))
    assert not set(parts[0]) & set(parts[1])
    for part, wanted in zip(parts, (support, query), strict=True):
        assert len(np.unique(part)) == len(part) <= wanted + 2
    for label in (0, 1):
        if (values == label).sum() >= 2:
            assert all((values[part] == label).any() for part in parts)


def test_a_big_campaign_gives_the_sizes_asked_for_in_its_own_proportion() -> None:
    labels = np.zeros(1000, np.uint8)
    labels[:100] = 1
    for part in sample_task(labels, 200, 300, np.random.default_rng(0)):
        assert labels[part].mean() == pytest.approx(0.1)
    assert [len(part) for part in sample_task(labels, 200, 300, np.random.default_rng(0))] == [200, 300]


@given(st.integers(0, 40), st.sets(st.integers(0, 39)), st.none() | st.sets(st.integers(0, 39)), st.integers(0, 50))
def test_negatives_are_distinct_eligible_and_never_excluded(size, excluded, chosen, count) -> None:  # type: ignore[no-untyped-def]
    exclude = np.array(sorted(ordinal for ordinal in excluded if ordinal < size), np.int64)
    eligible = None if chosen is None else np.isin(np.arange(size), list(chosen))
    negatives = sample_negatives(size, count, exclude, eligible, np.random.default_rng(0))
    allowed = set(range(size)) - excluded
    if eligible is not None:
        allowed &= set(np.flatnonzero(eligible))
    assert set(negatives) <= allowed
    assert len(negatives) == min(count, len(allowed))
    assert (np.diff(negatives) > 0).all()


@pytest.mark.parametrize("eligible", [None, np.ones(10, bool)])
def test_negatives_are_uniform(eligible: np.ndarray | None) -> None:
    generator = np.random.default_rng(0)
    exclude = np.array([0, 4, 5])
    drawn = np.concatenate([sample_negatives(10, 3, exclude, eligible, generator) for _ in range(7000)])
    counts = np.bincount(drawn, minlength=10)
    assert counts[exclude].sum() == 0
    assert (np.abs(counts[[1, 2, 3, 6, 7, 8, 9]] - 3000) < 250).all()


def test_campaign_rows_are_ordered_by_ordinal_with_their_own_labels_and_weights() -> None:
    dataset = make_dataset()
    weights = np.random.default_rng(0).random(len(dataset.interactions.label)).astype(np.float32)
    dataset = replace(dataset, interactions=replace(dataset.interactions, weight=weights))
    ordinals = np.random.default_rng(1).permutation(300)
    rows = campaign_rows(dataset, ordinals, dataset.rows_of(2))
    assert (np.diff(rows.ordinals) > 0).all()
    expected = {
        ordinals[dataset.interactions.user[row]]: (dataset.interactions.label[row], weights[row])
        for row in dataset.rows_of(2)
    }
    found = dict(zip(rows.ordinals, zip(rows.labels, rows.weights, strict=True), strict=True))
    assert found == expected


def test_an_excerpt_says_the_same_of_fewer_people() -> None:
    dataset = make_dataset()
    small = excerpt(dataset, np.array([2, 7]), max_positives=5, max_negatives=9, generator=np.random.default_rng(0))
    assert small.campaign_ids == ["c2", "c7"]
    assert small.users.num_rows <= 28

    def facts(of: object) -> set[tuple[str, str, int]]:
        users = of.users.column("user_id").to_pylist()  # type: ignore[attr-defined]
        parts = of.interactions  # type: ignore[attr-defined]
        return {
            (of.campaign_ids[c], users[u], int(y))  # type: ignore[attr-defined]
            for c, u, y in zip(parts.campaign, parts.user, parts.label, strict=True)
        }

    assert facts(small) < facts(dataset)
    for campaign in range(2):
        labels = small.interactions.label[small.rows_of(campaign)]
        assert (labels.sum(), (labels == 0).sum()) == (5, 9)


def test_what_an_earlier_model_was_taught_is_never_held_out_later() -> None:
    first = make_dataset(campaigns=20)
    earlier = split_campaigns(first, 0).names(first)
    later = make_dataset(campaigns=40)
    kept = kept_split(later, 7, earlier)
    assert kept is not None
    names = kept.names(later)
    assert all(set(earlier[part]) <= set(names[part]) for part in PARTS)
    assert sorted(name for part in PARTS for name in names[part]) == sorted(later.campaign_ids)
    assert len(kept.test) > len(earlier["test"])


def test_an_earlier_split_that_leaves_a_part_empty_is_not_kept() -> None:
    dataset = make_dataset(campaigns=6)
    assert kept_split(dataset, 0, {part: [] for part in PARTS}) is None
    assert kept_split(dataset, 0, {"train": dataset.campaign_ids, "validation": [], "test": []}) is None
