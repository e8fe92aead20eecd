"""The truth of a made-up world: users' tastes, the values they lead to, and what campaigns are after.

Every user has a taste, TASTES independent normal numbers. The values of a field fall into groups, each with a direction
among tastes; the nearer it is to a user's taste, the likelier are the group's values, which are popular by Zipf's law
within it. Everything follows from the scenario and a seed, block of users by block of users, so that a larger world
begins with the users of a smaller one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
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
    """The values of one field, sorted by group. cumulative f64 [V]: of their popularity in that order; bounds i64
    [G + 1]: where groups begin; directions f64 [G, TASTES]."""

    order: Integers
    cumulative: Floats
    bounds: Integers
    directions: Floats

    @classmethod
    def of(cls, count: int, generator: np.random.Generator) -> "Values":
        """count values, the first the most popular."""
        groups = min(count, _GROUPS)
        group = np.arange(count) % groups
        order = np.argsort(group, kind="stable")
        popularity = (np.arange(count) + 1.0) ** -_ZIPF
        directions = generator.standard_normal((groups, TASTES))
        directions *= _TELLING / np.linalg.norm(directions, axis=1, keepdims=True)
        bounds = np.concatenate([[0], np.bincount(group).cumsum()])
        return cls(order, popularity[order].cumsum(), bounds, directions)

    def draw(self, tastes: Floats, times: int, generator: np.random.Generator) -> Integers:
        """Values [n, times] of n users, with repeats; tastes f64 [n, TASTES]."""
        ends = np.concatenate([[0.0], self.cumulative])[self.bounds]
        # Less half its square, a direction makes its group no more popular on the whole.
        logits = np.log(np.diff(ends)) + tastes @ self.directions.T - 0.5 * _TELLING**2
        chances = np.exp(logits - logits.max(1, keepdims=True)).cumsum(1)
        drawn = generator.random((2, len(tastes), times))
        group = (drawn[0][:, :, None] * chances[:, None, -1:] > chances[:, None, :-1]).sum(2)
        popularity = ends[group] + drawn[1] * (ends[group + 1] - ends[group])
        at = np.searchsorted(self.cumulative, popularity, side="right")
        values: Integers = self.order[at.clip(self.bounds[group], self.bounds[group + 1] - 1)]
        return values


@dataclass(frozen=True)
class World:
    """A scenario made concrete by a seed."""

    scenario: Scenario
    seed: int

    def blocks(self, users: int) -> Iterator[tuple[int, Floats, pa.Table]]:
        """Block by block: the number of its first user, tastes f64 [n, TASTES], and user_id with a column per field."""
        for start in range(0, users, BLOCK_USERS):
            generator = self._generator(_USERS, start)
            tastes = generator.standard_normal((BLOCK_USERS, TASTES))
            columns = {
                field.feature.name: _column(field, self._values[number], tastes, generator)
                for number, field in enumerate(self.scenario.user_fields)
            }
            table = pa.table({"user_id": user_ids(np.arange(start, start + BLOCK_USERS)), **columns})
            count = min(BLOCK_USERS, users - start)
            yield start, tastes[:count], table.slice(0, count)

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
            Values.of(max(1, field.values), self._generator(_FIELDS, number))
            for number, field in enumerate(self.scenario.user_fields)
        ]

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *purpose])


def user_ids(numbers: Integers) -> pa.StringArray:
    """As u00000001."""
    return pa.array([f"u{number:08d}" for number in numbers.tolist()], pa.string())


def _column(field: Field, values: Values, tastes: Floats, generator: np.random.Generator) -> pa.Array:
    """The field's values of these users, some missing."""
    missing = generator.random(len(tastes)) < _MISSING
    feature = field.feature
    if feature.kind == "numeric":
        numbers = 40 + 10 * (tastes @ values.directions[0] + 0.5 * generator.standard_normal(len(tastes)))
        return pa.array(numbers.astype(np.float32), mask=missing)
    names = pa.array([f"{feature.name}-{value}" for value in range(field.values)], pa.string())
    if feature.max_length is None:
        return names.take(pa.array(values.draw(tastes, 1, generator)[:, 0], mask=missing))
    drawn = values.draw(tastes, feature.max_length, generator)
    counts = generator.integers(1, feature.max_length + 1, len(tastes))
    taken = np.arange(feature.max_length) < counts[:, None]
    # A value drawn twice counts once: a user's values come in rising order.
    distinct = np.unique((np.arange(len(tastes))[:, None] * field.values + drawn)[taken])
    offsets = np.searchsorted(distinct, np.arange(len(tastes) + 1) * field.values).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(distinct % field.values)))
    return pa.ListArray.from_arrays(pa.array(offsets), lists.values, mask=pa.array(missing))
