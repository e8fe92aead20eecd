"""Which feature values set an audience, and its seeds, apart from the pool they come from.

A value is the more telling the less its share of the audience looks like a draw from the pool: by the likelihood ratio
of the two shares (G-test; Dunning 1993), which unlike the bare lift is not led by rare values that a few people happen
to have. Before it is taken, the audience's share is drawn towards the pool's, by as much as PRIOR_USERS members would.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from model.pool import CategoricalColumn, Column, MultiColumn, NumericColumn, Ordinals, Pool
from model.pool.columns import take_column

# No value is told that fewer members have: what is said must be of a crowd, not of persons.
FEWEST_PEOPLE = 20
MOST_INSIGHTS = 100
PRIOR_USERS = 20
DECIMALS = 6

_RANGES = 10
# Shares among more users, evenly drawn from all of them, would not be told better than to a sixth of a percent.
_SAMPLE = 100_000
_BLOCK_ROWS = 1 << 18
_DIGITS = range(2, 10)  # of a bound; 9 tell any two 32-bit numbers apart
_SHIFT = 0.1

Counts = NDArray[np.int64]
Bounds = NDArray[np.float32]
Floats = NDArray[np.float64]

_NO_BOUNDS: Bounds = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Insight:
    """A value, or a range of numbers, in the words of the pool's owner; the share of the audience, of the seeds and of
    the pool that has it; lift: how many times its share of the pool that of the audience is."""

    feature: str
    value: str
    audience_share: float
    seed_share: float
    pool_share: float
    lift: float


@dataclass(frozen=True)
class ValueCounts:
    """How many users of a pool have each of the V values of its feature of this number: counts i64 [V]. The values of a
    numeric feature are ranges, which meet at bounds [V - 1]; others have no bounds."""

    feature: int
    counts: Counts
    bounds: Bounds

    def add(self, column: Column) -> None:
        """Count the users of a column of the feature too."""
        np.add(self.counts, np.bincount(self._codes(column), minlength=len(self.counts)), out=self.counts)

    def _codes(self, column: Column) -> NDArray[np.int32] | NDArray[np.int64]:
        match column:
            case CategoricalColumn(codes):
                return codes[codes >= 0]
            case MultiColumn(codes, _):
                return codes
            case NumericColumn(numbers):
                return np.searchsorted(self.bounds, numbers[~np.isnan(numbers)], side="right")
            case _:
                raise TypeError("vectors cannot be counted")

    def word(self, pool: Pool, value: int) -> str:
        """The value as the pool's owner knows it."""
        dictionary = pool.dictionaries[self.feature]
        if dictionary is not None:
            return str(dictionary[value].as_py())
        bounds = [np.format_float_positional(bound, trim="-") for bound in self.bounds]
        if not bounds:
            return "any number"
        if value == 0:
            return f"under {bounds[0]}"
        return f"{bounds[-1]} or more" if value == len(bounds) else f"{bounds[value - 1]} to under {bounds[value]}"


def count_values(pool: Pool) -> tuple[ValueCounts, ...]:
    """Count everybody's values of each feature but vectors; made once for a pool."""
    found = tuple(_nothing_yet(pool, index) for index, feature in enumerate(pool.features) if feature.kind != "vector")
    for span in pool.spans(_BLOCK_ROWS):
        columns = pool.block(*span).columns
        for values in found:
            values.add(columns[values.feature])
    return found


def find_insights(
    pool: Pool, everybody: Sequence[ValueCounts], audience: Ordinals, seeds: Ordinals, *, deny: Collection[str] = ()
) -> list[Insight]:
    """The most telling values first, at most MOST_INSIGHTS, more frequent and less frequent ones alike; none of the
    denied features, none that fewer than FEWEST_PEOPLE of the audience have.

    audience i64 [A] and seeds i64 [S]: ordinals, each unique, in any order; of a large audience every n-th rank is
    looked at.
    """
    audience, seeds = _thinned(audience), _thinned(seeds)
    wanted = [values for values in everybody if pool.features[values.feature].name not in deny]
    among_members, among_seeds = _count_users(pool, wanted, audience), _count_users(pool, wanted, seeds)
    candidates: list[tuple[float, int, int]] = []
    for number, (values, members) in enumerate(zip(wanted, among_members, strict=True)):
        common = np.flatnonzero(members.counts >= FEWEST_PEOPLE)
        strength = _strength(members.counts[common], len(audience), values.counts[common], pool.size)
        candidates += zip(strength.tolist(), repeat(number), common.tolist())
    # Of two as telling, as the two values of a yes or no are, the one that the audience has more of.
    candidates.sort(key=lambda candidate: (-abs(candidate[0]), -candidate[0], candidate[1:]))
    found = []
    for _, number, value in candidates[:MOST_INSIGHTS]:
        share = among_members[number].counts[value] / len(audience)
        seed_share = among_seeds[number].counts[value] / max(1, len(seeds))
        pool_share = wanted[number].counts[value] / pool.size
        shares = (round(float(part), DECIMALS) for part in (share, seed_share, pool_share, share / pool_share))
        feature = pool.features[wanted[number].feature].name
        found.append(Insight(feature, wanted[number].word(pool, value), *shares))
    return found


def _nothing_yet(pool: Pool, feature: int) -> ValueCounts:
    dictionary = pool.dictionaries[feature]
    bounds = _bounds(pool, feature) if dictionary is None else _NO_BOUNDS
    return ValueCounts(feature, np.zeros(len(bounds) + 1 if dictionary is None else len(dictionary), np.int64), bounds)


def _count_users(pool: Pool, wanted: Sequence[ValueCounts], users: Ordinals) -> list[ValueCounts]:
    """The same values counted among these users."""
    found = [replace(values, counts=np.zeros_like(values.counts)) for values in wanted]
    for shard, _, rows in pool.by_shard(users):
        for values in found:
            values.add(take_column(shard.columns[values.feature], rows))
    return found


def _thinned(users: Ordinals) -> Ordinals:
    """Evenly from all of them; neighbours in the pool are read fastest one after the other."""
    return np.sort(users[:: max(1, -(-len(users) // _SAMPLE))])


def _strength(members: Counts, audience: int, users: Counts, pool: int) -> Floats:
    """Signed root of the likelihood ratio, about a standard score where there is nothing to tell [V]."""
    expected = users / pool
    found = (members + PRIOR_USERS * expected) / (audience + PRIOR_USERS)
    deviance = 2 * audience * (_surprise(found, expected) + _surprise(1 - found, 1 - expected))
    strength: Floats = np.sign(found - expected) * np.sqrt(np.maximum(deviance, 0))
    return strength


def _surprise(found: Floats, expected: Floats) -> Floats:
    """found · ln(found / expected), 0 for a share of 0."""
    some = found > 0
    ratio = np.divide(found, expected, out=np.ones_like(found), where=some)
    return found * np.log(ratio)


def _bounds(pool: Pool, feature: int) -> Bounds:
    """Where ranges of numbers meet that hold about as many users each."""
    sample = np.concatenate([_NO_BOUNDS, *_sample(pool, feature)])
    if not len(sample):
        return _NO_BOUNDS
    lowest = sample.min()
    bounds = np.unique(np.quantile(sample, np.arange(1, _RANGES) / _RANGES, method="lower"))
    return _rounded(bounds[bounds > lowest], lowest)


def _sample(pool: Pool, feature: int) -> Iterator[Bounds]:
    step = -(-pool.size // _SAMPLE)
    for span in pool.spans(_BLOCK_ROWS):
        column = pool.block(*span).columns[feature]
        if isinstance(column, NumericColumn):
            values = column.values[::step]
            yield values[~np.isnan(values)]


def _rounded(bounds: Bounds, lowest: np.float32) -> Bounds:
    """In as few digits as leave them where they are, compared with how far apart they and the lowest number are."""
    rounded = bounds
    gaps = np.diff(bounds, prepend=lowest)
    for digits in _DIGITS:
        rounded = np.array([float(f"{bound:.{digits}g}") for bound in bounds], np.float32)
        if (np.abs(rounded - bounds) <= _SHIFT * gaps.min(initial=np.inf)).all():
            break
    return rounded
