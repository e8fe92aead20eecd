"""The truth of a made-up world: users' tastes, the values they lead to, and what campaigns are after.

Every user has a taste, TASTES independent normal numbers. The values of a field fall into groups, each with a direction
among tastes; the nearer it is to a user's taste, the likelier are the group's values, which are popular by Zipf's law
within it. Everything follows from the scenario and a seed, block of users by block of users, so that a larger world
begins with the users of a smaller one.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.synthetic.scenarios import Field, Scenario

TASTES = 8
BLOCK_USERS = 1 << 16

_ZIPF = 1.05
_GROUPS = 24
# Length of a group's direction: how much a value tells.
_TELLING = 1.2
_MISSING = 0.02
_SAMPLE = 20_000
# What a generator is for: the second number of its seed.
_FIELDS, _USERS, _CAMPAIGNS, _SEGMENTS, _THRESHOLDS, _EXPOSURES = range(6)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Values:
    """The V values of one field, in G groups: value v is in group v % G, and M = ⌈V / G⌉ is the size of the largest.

    names [V]. directions f64 [G, TASTES]; shares f64 [G]: how popular a group is. keep f64 and other i64, both [M·G],
    are alias tables, which draw from a group in one step: any of its values, evenly, is kept with its chance or else
    given up for its other.
    """

    names: pa.StringArray
    directions: Floats
    shares: Floats
    keep: Floats
    other: Integers

    @classmethod
    def of(cls, field: Field, generator: np.random.Generator) -> "Values":
        """Of a field, the first the most popular; of a numeric one, a direction is all that counts."""
        count = max(1, field.values)
        groups = min(count, _GROUPS)
        popularity = np.zeros(-(-count // groups) * groups)
        popularity[:count] = (np.arange(count) + 1.0) ** -_ZIPF
        by_group = popularity.reshape(-1, groups).T
        directions = generator.standard_normal((groups, TASTES))
        directions *= _TELLING / np.linalg.norm(directions, axis=1, keepdims=True)
        shares = by_group.sum(1)
        keep, other = (np.stack(part) for part in zip(*map(_alias_table, by_group / shares[:, None]), strict=True))
        names = pa.array([f"{field.feature.name}-{value}" for value in range(count)], pa.string())
        return cls(names, directions, shares, keep.T.ravel(), (other * groups + np.arange(groups)[:, None]).T.ravel())

    def draw(self, tastes: Floats, counts: Integers, generator: np.random.Generator) -> tuple[Integers, Integers]:
        """Whose and which: users i64 [T] and values i64 [T], `counts` i64 [n] to each of n users in any order, with
        repeats; tastes f64 [n, TASTES]."""
        # Less half its square, a direction makes its group no more popular on the whole.
        logits = self.directions @ tastes.T + (np.log(self.shares) - 0.5 * _TELLING**2)[:, None]
        chances = np.exp((logits - logits.max(0)).astype(np.float32))
        for number in range(1, len(chances)):
            chances[number] += chances[number - 1]
        # Users lie next to each other in memory: every step is one long loop.
        drawn = generator.random((int(counts.max(initial=0)), len(tastes)), np.float32) * chances[-1]
        group = np.zeros(drawn.shape, np.int8)
        for chance in chances[:-1]:
            group += drawn >= chance
        times, users = np.nonzero(np.arange(len(drawn))[:, None] < counts)
        place, luck = np.divmod(generator.random(len(users)) * (len(self.keep) // len(self.shares)), 1)
        values = place.astype(np.int64) * len(self.shares) + group[times, users]
        return users, np.where(luck < self.keep[values], values, self.other[values])


def _alias_table(chances: Floats) -> tuple[Floats, Integers]:
    """The chance f64 [M] to keep each entry, and the entry i64 [M] to take otherwise; M `chances` that sum to 1."""
    keep, other = chances * len(chances), np.arange(len(chances))
    few, many = np.flatnonzero(keep < 1).tolist(), np.flatnonzero(keep >= 1).tolist()
    left: list[float] = keep.tolist()
    while few and many:
        poor, rich = few.pop(), many[-1]
        other[poor] = rich
        left[rich] -= 1 - left[poor]
        if left[rich] < 1:
            few.append(many.pop())
    # Rounding may leave some on either side, all but at 1.
    keep[:] = left
    keep[few + many] = 1
    return keep, other


@dataclass(frozen=True)
class World:
    """A scenario made concrete by a seed."""

    scenario: Scenario
    seed: int

    def blocks(self, users: int) -> Iterator[tuple[int, Floats, pa.Table]]:
        """Block by block: the number of its first user, tastes f64 [n, TASTES], and user_id with a column per field.

        As many are made at a time as there are cores.
        """
        threads = len(os.sched_getaffinity(0))
        values = self._values
        with ThreadPoolExecutor(threads) as executor:
            ahead: deque[Future[tuple[Floats, pa.Table]]] = deque()
            for start in range(0, users + threads * BLOCK_USERS, BLOCK_USERS):
                if start < users:
                    ahead.append(executor.submit(self._block, start, values))
                first = start - threads * BLOCK_USERS
                if first >= 0:
                    count = min(BLOCK_USERS, users - first)
                    tastes, table = ahead.popleft().result()
                    yield first, tastes[:count], table.slice(0, count)

    def campaigns(self, count: int) -> tuple[pa.Table, Floats]:
        """campaign_id with a column per campaign field, and what each is after: f64 [count, segments, TASTES + 1], a
        direction among tastes for each kind of people, and how much appeal it takes."""
        scenario = self.scenario
        shape = (scenario.segments, TASTES)
        rows, aims = [], []
        for number in range(count):
            generator = self._generator(_CAMPAIGNS, number)
            values = [int(generator.integers(field.values)) for field in scenario.campaign_fields]
            told = sum(
                (
                    self._generator(_CAMPAIGNS, 1, field, value).standard_normal(shape)
                    for field, value in enumerate(values)
                ),
                np.zeros(shape),
            )
            told /= max(1, len(values)) ** 0.5
            aim = scenario.told**0.5 * told + (1 - scenario.told) ** 0.5 * generator.standard_normal(shape)
            aims.append(scenario.strength * aim / np.linalg.norm(aim, axis=1, keepdims=True))
            named = zip(scenario.campaign_fields, values, strict=True)
            rows.append({field.feature.name: f"{field.feature.name}-{value}" for field, value in named})
        names = {"campaign_id": pa.array([f"c{number:05d}" for number in range(count)], pa.string())}
        columns = {
            field.feature.name: pa.array([row[field.feature.name] for row in rows], pa.string())
            for field in scenario.campaign_fields
        }
        found = np.stack(aims)
        thresholds = np.array([self._threshold(aim) for aim in found])
        taken = np.broadcast_to(thresholds[:, None, None], (count, scenario.segments, 1))
        return pa.table({**names, **columns}), np.concatenate([found, taken], axis=2)

    def chances(self, tastes: Floats, aim: Floats) -> Floats:
        """The chance of each user [n] to convert in a campaign (one of those of `campaigns`): no method knows more."""
        chances: Floats = 1 / (1 + np.exp(aim[0, -1] - self._appeal(tastes, aim[:, :-1])))
        return chances

    def exposures(self, campaign: int, users: int) -> tuple[Integers, Floats]:
        """Whom a campaign was shown: users ascending, and a number in [0, 1) each: who has one below their chance
        converted."""
        generator = self._generator(_EXPOSURES, campaign)
        fewest, most = self.scenario.rows
        rows = round(fewest * (most / fewest) ** generator.random())
        shown = np.sort(generator.choice(users, rows, replace=False, shuffle=False))
        return shown, generator.random(rows)

    def _block(self, start: int, values: list[Values]) -> tuple[Floats, pa.Table]:
        generator = self._generator(_USERS, start)
        tastes = generator.standard_normal((BLOCK_USERS, TASTES))
        columns = {
            field.feature.name: _column(field, held, tastes, generator)
            for field, held in zip(self.scenario.user_fields, values, strict=True)
        }
        return tastes, pa.table({"user_id": user_ids(np.arange(start, start + BLOCK_USERS)), **columns})

    def _appeal(self, tastes: Floats, directions: Floats) -> Floats:
        appeals: Floats = np.take_along_axis(tastes @ directions.T, self._segment(tastes)[:, None], axis=1)[:, 0]
        return appeals

    def _segment(self, tastes: Floats) -> Integers:
        """Which kind of people each user is of."""
        corners = self._generator(_SEGMENTS).standard_normal((self.scenario.segments, TASTES))
        kinds: Integers = (tastes @ corners.T).argmax(1)
        return kinds

    def _threshold(self, directions: Floats) -> float:
        """By bisection: so that the scenario's share converts."""
        tastes = self._generator(_THRESHOLDS).standard_normal((_SAMPLE, TASTES))
        appeal = self._appeal(tastes, directions)
        low, high = -50.0, 50.0
        for _ in range(40):
            middle = (low + high) / 2
            if float((1 / (1 + np.exp(middle - appeal))).mean()) > self.scenario.positives:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    @cached_property
    def _values(self) -> list[Values]:
        return [
            Values.of(field, self._generator(_FIELDS, number)) for number, field in enumerate(self.scenario.user_fields)
        ]

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *purpose])


def user_ids(numbers: Integers) -> pa.StringArray:
    """As u00000001."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, padding="0")
    return pc.binary_join_element_wise("u", digits, "")


def _column(field: Field, values: Values, tastes: Floats, generator: np.random.Generator) -> pa.Array:
    """The field's values of these users, some missing."""
    count = len(tastes)
    missing = generator.random(count) < _MISSING
    feature = field.feature
    if feature.kind == "numeric":
        numbers = 40 + 10 * (tastes @ values.directions[0] + 0.5 * generator.standard_normal(count))
        return pa.array(numbers.astype(np.float32), mask=missing)
    if feature.max_length is None:
        _, drawn = values.draw(tastes, np.ones(count, np.int64), generator)
        return values.names.take(pa.array(drawn, mask=missing))
    users, drawn = values.draw(tastes, generator.integers(1, feature.max_length + 1, count), generator)
    # A value drawn twice counts once: a user's values come in rising order.
    keys = np.sort(users << 32 | drawn)
    keys = keys[np.diff(keys, prepend=-1) > 0]
    offsets = np.searchsorted(keys, np.arange(count + 1) << 32).astype(np.int32)
    held = values.names.take(pa.array(keys & 0xFFFFFFFF))
    return pa.ListArray.from_arrays(pa.array(offsets), held, mask=pa.array(missing))
