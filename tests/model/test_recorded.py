"""Recorded campaigns become campaigns of a data set: who is in it, with which labels, weights and features."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from model.dataset import Dataset, load_dataset
from model.recorded import NEGATIVES_A_SEED, Joined, RecordedCampaign, join_recorded
from model.schema import Feature, Schema
from model.user_ids import normal_ids
from tests.model.worlds import make_dataset, write

FEWEST = 3
USERS = 120
DATASET = make_dataset(users=USERS, campaigns=4, rows=30)


def column(user_ids: Sequence[str]) -> pa.LargeStringArray:
    return pa.array(user_ids, pa.large_string())


def ids(*numbers: int) -> list[str]:
    return [f"u{number}" for number in numbers]


def campaign(
    seeds: Sequence[str],
    negatives: Sequence[str] = (),
    excluded: Sequence[str] = (),
    *,
    key: int = 7,
    weights: Sequence[float] | None = None,
    **attributes: Any,
) -> RecordedCampaign:
    given = None if weights is None else np.array(weights)
    return RecordedCampaign(key, attributes, column(seeds), given, column(negatives), column(excluded))


def join(*campaigns: RecordedCampaign, dataset: Dataset = DATASET, seed: int = 0, barred: Sequence[str] = ()) -> Joined:
    def mask(user_ids: pa.LargeStringArray) -> NDArray[np.bool_]:
        return np.isin(user_ids.to_pylist(), barred)

    return join_recorded(dataset, campaigns, mask, fewest=FEWEST, seed=seed)


def labels_of(joined: Joined, name: str = "expansion-7") -> dict[str, int]:
    """The label of each user of a campaign."""
    dataset = joined.dataset
    rows = dataset.rows_of(dataset.campaign_ids.index(name))
    users = dataset.users.column("user_id").take(pa.array(dataset.interactions.user[rows])).to_pylist()
    assert len(set(users)) == len(users)
    return dict(zip(users, dataset.interactions.label[rows].tolist(), strict=True))


def sampled(joined: Joined, name: str = "expansion-7") -> set[str]:
    return {user_id for user_id, label in labels_of(joined, name).items() if label == 0}


def test_seeds_are_converters_and_known_negatives_are_not() -> None:
    joined = join(campaign(ids(1, 2, 3, 4), ids(10, 11, 12)))
    assert labels_of(joined) == dict.fromkeys(ids(1, 2, 3, 4), 1) | dict.fromkeys(ids(10, 11, 12), 0)
    assert (joined.campaigns, joined.unknown_users, joined.sampled_negatives) == (1, 0, 0)


def test_what_the_data_set_had_stays_where_it_was() -> None:
    joined = join(campaign(ids(1, 2, 3)), campaign(ids(4, 5, 6), key=9)).dataset
    before = len(DATASET.interactions.label)
    assert joined.campaign_ids == [*DATASET.campaign_ids, "expansion-7", "expansion-9"]
    for name in ("campaign", "user", "label"):
        assert getattr(joined.interactions, name)[:before].tolist() == getattr(DATASET.interactions, name).tolist()
    assert joined.users is DATASET.users
    assert [joined.campaign_attributes(number) for number in range(4)] == [
        DATASET.campaign_attributes(number) for number in range(4)
    ]


def test_seeds_alone_get_negatives_who_are_nothing_else() -> None:
    seeds, excluded, barred = ids(*range(10)), ids(*range(10, 40)), ids(*range(40, 60))
    joined = join(campaign(seeds, ids(60, 61), excluded), barred=barred)
    drawn = sampled(joined) - set(ids(60, 61))  # too few to do with
    assert joined.sampled_negatives == len(drawn) == NEGATIVES_A_SEED * len(seeds)
    assert drawn <= set(ids(*range(62, USERS)))


def test_where_hardly_anybody_is_left_all_of_them_stand_for_negatives() -> None:
    joined = join(campaign(ids(*range(60)), (), ids(*range(60, 115))))
    assert sampled(joined) == set(ids(*range(115, USERS)))


def test_the_same_run_draws_the_same_whatever_else_was_recorded() -> None:
    one, other = campaign(ids(1, 2, 3)), campaign(ids(1, 2, 3), key=9)
    found = sampled(join(one))
    both = join(other, one)
    assert sampled(both) == found != sampled(both, "expansion-9")
    assert sampled(join(one, seed=1)) != found


def test_users_that_the_data_do_not_have_are_dropped_and_counted() -> None:
    joined = join(campaign([*ids(1, 2, 3), "nobody"], [*ids(4, 5, 6), "no", "none"], ["never"]))
    assert labels_of(joined).keys() == set(ids(1, 2, 3, 4, 5, 6))
    assert joined.unknown_users == 3


def test_barred_users_count_as_unknown() -> None:
    joined = join(campaign(ids(1, 2, 3, 4), ids(5, 6, 7, 8)), barred=ids(1, 8))
    assert labels_of(joined).keys() == set(ids(2, 3, 4, 5, 6, 7))
    assert joined.unknown_users == 2


def test_a_campaign_of_whom_the_data_have_too_few_is_left_out() -> None:
    joined = join(campaign([*ids(1, 2), "nobody"]), campaign(ids(1, 2, 3), key=9))
    assert joined.too_few == ("expansion-7",)
    assert joined.dataset.campaign_ids[4:] == ["expansion-9"]


def test_a_name_that_the_data_have_is_not_given_twice() -> None:
    names = pa.array(["c0", "c1", "expansion-7", "c3"], pa.large_string())
    dataset = replace(DATASET, campaigns=DATASET.campaigns.set_column(0, "campaign_id", names))
    joined = join(campaign(ids(1, 2, 3)), dataset=dataset)
    assert joined.namesakes == ("expansion-7",)
    assert joined.dataset is dataset


def test_nothing_recorded_is_the_very_same_data_set() -> None:
    assert join().dataset is DATASET


def test_weights_are_relative_and_everybody_else_has_one() -> None:
    assert join(campaign(ids(1, 2, 3))).dataset.interactions.weight is None
    joined = join(campaign(ids(1, 2, 3), ids(4, 5, 6), weights=[1e300, 3e300, 2e300]), campaign(ids(7, 8, 9), key=9))
    weight = joined.dataset.interactions.weight
    assert weight is not None
    assert weight.dtype == np.float32
    rows = joined.dataset.rows_of(4)
    assert weight[rows].tolist() == pytest.approx([0.5, 1.5, 1, 1, 1, 1])
    assert (np.delete(weight, rows) == 1).all()


def test_data_that_say_who_adapts_say_so_of_recorded_campaigns() -> None:
    count = len(DATASET.interactions.label)
    dataset = replace(DATASET, interactions=replace(DATASET.interactions, split=np.ones(count, np.int8)))
    joined = join(campaign(ids(*range(10)), ids(*range(20, 40))), dataset=dataset).dataset
    split, rows = joined.interactions.split, joined.rows_of(4)
    assert split is not None
    assert (split[:count] == 1).all()
    for label, half in ((1, 5), (0, 10)):
        assert (split[rows][joined.interactions.label[rows] == label] == 0).sum() == half


KINDS = (
    Feature("topic", "categorical"),
    Feature("channels", "multi"),
    Feature("budget", "numeric"),
    Feature("style", "vector"),
)


def with_features() -> Dataset:
    table = pa.table(
        {
            "campaign_id": DATASET.campaigns.column("campaign_id"),
            "topic": pa.array([1, 2, None, 1]),  # numbers for names
            "channels": pa.array([["mail"], None, [], ["web", "mail"]]),
            "budget": pa.array([1, 2, 3, None], pa.int32()),
            "style": pa.array([[0.5, 1.0], None, [1.0, 2.0], [0.0, 0.0]], pa.list_(pa.float32())),
        }
    )
    return replace(DATASET, schema=Schema(DATASET.schema.user_features, KINDS), campaigns=table)


def test_attributes_become_features_and_the_data_set_still_reads(tmp_path: Path) -> None:
    given = {"topic": "3", "channels": ["web"], "budget": 4, "style": [1, 2.5]}
    joined = join(campaign(ids(1, 2, 3), ids(4, 5, 6), **given), dataset=with_features()).dataset
    assert joined.campaign_attributes(4) == given
    assert joined.campaign_attributes(0) == {"topic": "1", "channels": ["mail"], "budget": 1.0, "style": [0.5, 1.0]}
    write(joined, tmp_path / "data")
    read = load_dataset(tmp_path / "data")
    assert [read.campaign_attributes(number) for number in range(5)] == [
        joined.campaign_attributes(number) for number in range(5)
    ]
    assert read.interactions.label.tolist() == joined.interactions.label.tolist()


@pytest.mark.parametrize(
    "unfit",
    [
        {"topic": 3},
        {"channels": "web"},
        {"channels": [1]},
        {"budget": True},
        {"budget": 10**400},
        {"budget": float("inf")},
        {"style": [1.0]},
        {"style": [1.0, 1e300]},
        {"colour": "red"},
        {},
    ],
)
def test_what_does_not_fit_a_feature_is_missing(unfit: dict[str, Any]) -> None:
    joined = join(campaign(ids(1, 2, 3), **unfit), dataset=with_features()).dataset
    assert joined.campaign_attributes(4) == {}


def test_users_are_found_whatever_form_of_their_id_the_data_have() -> None:
    addresses = [f"User{number}@Example.com " for number in range(USERS)]
    users = DATASET.users.set_column(0, "user_id", column(addresses))
    schema = replace(DATASET.schema, id_kind="email_sha256")
    seeds = normal_ids(addresses[:4], "email_sha256")
    joined = join(campaign(seeds), dataset=replace(DATASET, schema=schema, users=users))
    assert {user_id for user_id, label in labels_of(joined).items() if label} == set(addresses[:4])
