"""Insights: shares as counted one by one, planted differences first, small crowds never."""

import numpy as np
import pyarrow as pa
import pytest

from model.insights import FEWEST_PEOPLE, MOST_INSIGHTS, Insight, ValueCounts, count_values, find_insights
from model.pool import Ordinals, Pool, encode_users, repeat_shards
from model.schema import Feature

FEATURES = (
    Feature("city", "categorical"),
    Feature("likes", "multi"),
    Feature("age", "numeric"),
    Feature("face", "vector"),
)
Everybody = tuple[ValueCounts, ...]
USERS = 4_000
AUDIENCE = np.arange(400)
SEEDS = np.arange(300, 500)


@pytest.fixture(scope="module")
def users() -> pa.Table:
    """The audience likes music more than others do; 19 of it, of 20 in all, like chess; some values are missing."""
    generator = np.random.default_rng(0)
    member = np.isin(np.arange(USERS), AUDIENCE)
    music = generator.random(USERS) < np.where(member, 0.6, 0.2)
    food = generator.random(USERS) < 0.5
    chess = np.isin(np.arange(USERS), [*range(19), 3_000])
    age = generator.integers(18, 80, USERS).astype(float)
    age[generator.random(USERS) < 0.1] = np.nan
    return pa.table(
        {
            "user_id": [f"u{number:05d}" for number in range(USERS)],
            "city": [None if draw == 9 else f"city {draw}" for draw in generator.integers(0, 10, USERS)],
            "likes": [
                [name for name, liked in (("music", a), ("food", b), ("chess", c)) if liked]
                for a, b, c in zip(music, food, chess, strict=True)
            ],
            "age": pa.array(age, from_pandas=True),
            "face": pa.array(generator.random((USERS, 2)).tolist()),
        }
    )


@pytest.fixture(scope="module")
def pool(users: pa.Table) -> Pool:
    return encode_users(users, FEATURES)


@pytest.fixture(scope="module")
def everybody(pool: Pool) -> Everybody:
    return count_values(pool)


def find(pool: Pool, everybody: Everybody, audience: Ordinals = AUDIENCE, deny: tuple[str, ...] = ()) -> list[Insight]:
    return find_insights(pool, everybody, audience, SEEDS, deny=deny)


def holds(users: pa.Table, insight: Insight) -> np.ndarray:
    """Who has the value, by looking at each user: bool [N]."""
    column = users.column(insight.feature).to_pylist()
    if insight.feature == "age":
        words = insight.value.split()
        if words[0] == "under":
            low, high = -np.inf, float(words[1])
        else:
            low, high = float(words[0]), np.inf if words[1] == "or" else float(words[3])
        return np.array([age is not None and low <= age < high for age in column])
    if insight.feature == "likes":
        return np.array([insight.value in likes for likes in column])
    return np.array([city == insight.value for city in column])


def test_shares_are_those_that_counting_one_by_one_gives(users: pa.Table, pool: Pool, everybody: Everybody) -> None:
    found = find(pool, everybody)
    assert {insight.feature for insight in found} == {"city", "likes", "age"}
    for insight in found:
        has = holds(users, insight)
        shares = (has[AUDIENCE].mean(), has[SEEDS].mean(), has.mean(), has[AUDIENCE].mean() / has.mean())
        told = (insight.audience_share, insight.seed_share, insight.pool_share, insight.lift)
        assert told == pytest.approx(shares, abs=1e-6), insight


def test_what_was_planted_comes_first(pool: Pool, everybody: Everybody) -> None:
    first, *others = find(pool, everybody)
    assert (first.feature, first.value) == ("likes", "music")
    assert first.lift > 2
    assert all(abs(np.log(other.lift)) < np.log(first.lift) for other in others)


def test_a_value_that_is_rarer_in_the_audience_is_told_too(pool: Pool, everybody: Everybody) -> None:
    others = np.setdiff1d(np.arange(USERS), AUDIENCE)
    likes_music = find(pool, everybody, others)[0]
    assert (likes_music.value, likes_music.lift < 1) == ("music", True)


def test_a_large_crowd_tells_more_than_a_large_lift_of_a_few() -> None:
    rare = ["rare" if number < 20 else "usual" for number in range(USERS)]
    common = ["yes" if number < 380 or number % 2 else "no" for number in range(USERS)]
    table = pa.table({"user_id": [f"u{number:05d}" for number in range(USERS)], "rare": rare, "common": common})
    pool = encode_users(table, (Feature("rare", "categorical"), Feature("common", "categorical")))
    found = find(pool, count_values(pool))
    lifts = {(insight.feature, insight.value): insight.lift for insight in found}
    assert lifts["rare", "rare"] == 10 > lifts["common", "yes"]
    assert (found[0].feature, found[0].value) == ("common", "yes")


def test_fewer_than_twenty_people_are_never_told_of(pool: Pool, everybody: Everybody) -> None:
    assert all(insight.value != "chess" for insight in find(pool, everybody))
    assert all(insight.audience_share * len(AUDIENCE) >= FEWEST_PEOPLE - 1e-3 for insight in find(pool, everybody))
    twenty = np.append(AUDIENCE, 3_000)
    assert any(insight.value == "chess" for insight in find(pool, everybody, twenty))
    assert find(pool, everybody, AUDIENCE[:19]) == []
    assert find(pool, everybody, AUDIENCE[:0]) == []


def test_denied_features_are_not_told_of(pool: Pool, everybody: Everybody) -> None:
    found = find(pool, everybody, deny=("likes", "city"))
    assert {insight.feature for insight in found} == {"age"}
    assert find(pool, everybody, deny=tuple(feature.name for feature in FEATURES)) == []


def test_ranges_of_numbers_cover_everybody_in_few_digits(pool: Pool, everybody: Everybody) -> None:
    ranges = [insight for insight in find(pool, everybody, np.arange(USERS)) if insight.feature == "age"]
    assert len(ranges) == 10
    assert sum(insight.pool_share for insight in ranges) == pytest.approx(np.mean(~np.isnan(ages(pool))), abs=1e-4)
    assert all(len(word) <= 2 for insight in ranges for word in insight.value.split() if word.isdigit())


def ages(pool: Pool) -> np.ndarray:
    values: np.ndarray = pool.block(0, pool.size).columns[2].values  # type: ignore[union-attr]
    return values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0] * USERS, {"any number"}),
        ([None] * USERS, set()),
        ([float(number % 2) for number in range(USERS)], {"under 1", "1 or more"}),
        ([0.125 if number % 2 else 0.1251 for number in range(USERS)], {"under 0.1251", "0.1251 or more"}),
        ([1.7e9 + 1e6 * (number % 2) for number in range(USERS)], {"under 1701000000", "1701000000 or more"}),
    ],
)
def test_numbers_of_few_values(values: list[float | None], words: set[str]) -> None:
    table = pa.table({"user_id": [f"u{number:05d}" for number in range(USERS)], "n": pa.array(values, pa.float64())})
    pool = encode_users(table, (Feature("n", "numeric"),))
    assert {insight.value for insight in find(pool, count_values(pool))} == words


def test_shards_are_counted_together(pool: Pool) -> None:
    twice = repeat_shards(pool, 2)
    both = np.concatenate([AUDIENCE, AUDIENCE + USERS])
    once, again = find(pool, count_values(pool)), find(twice, count_values(twice), both)
    by_value = {(insight.feature, insight.value): insight.audience_share for insight in again}
    for insight in once:
        assert by_value[insight.feature, insight.value] == insight.audience_share


def test_no_more_are_told_than_anybody_reads() -> None:
    many = pa.table(
        {"user_id": [f"u{number:05d}" for number in range(USERS)], "v": [str(number % 150) for number in range(USERS)]}
    )
    pool = encode_users(many, (Feature("v", "categorical"),))
    found = find(pool, count_values(pool), np.arange(USERS))
    assert len(found) == MOST_INSIGHTS
