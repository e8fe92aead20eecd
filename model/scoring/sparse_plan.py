"""The sparse block of a campaign head, ready for the users of one pool: weights by the pool's own codes, so that a
user's values are looked up as they are stored. Each field has a rough way to add its weights, and an exact one."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from model.compiled import read_only
from model.heads.block import SparseWeights
from model.pool import CategoricalColumn, Column, MultiColumn, NumericColumn, Ordinals, Pool, VectorColumn
from model.scoring import kernels
from model.scoring.kernels import Codes, Doubles, Rows, Singles
from model.vocabulary import FARTHEST, FieldTranslation, Translation

# A list's sum of weights stays below 2^30 units of the fixed point, so that it fits 32 bits with its sign.
_FIXED_BITS = 30


@dataclass(frozen=True)
class Magnitude:
    """What bounds the rounding of a sum in single precision: the terms' greatest absolute sum and number, and what is
    rounded away before they are added."""

    total: float = 0.0
    terms: int = 0
    lost: float = 0.0

    def __add__(self, other: "Magnitude") -> "Magnitude":
        return Magnitude(self.total + other.total, self.terms + other.terms, self.lost + other.lost)


class FieldWeights(Protocol):
    """Adds what a field's values weigh to the logits of B users."""

    @property
    def magnitude(self) -> Magnitude:
        """Of what it adds."""

    def add_rough(self, column: Column, first: int, out: Singles) -> None:
        """Of B rows of the column from row `first` on, in single precision."""

    def add_exact(self, column: Column, rows: Rows, out: Doubles) -> None:
        """Of these rows [B] of the column, in float64, operations in a fixed order."""


@dataclass(frozen=True)
class SparsePlan:
    """One FieldWeights for each feature of the pool."""

    pool: Pool
    fields: tuple[FieldWeights, ...]

    @classmethod
    def of(cls, weights: SparseWeights, pool: Pool, translation: Translation) -> "SparsePlan":
        """translation: of this pool's values."""
        by_row = weights.by_row(translation.rows)
        vectors = iter(np.split(weights.vectors, np.cumsum(translation.vector_lengths)[:-1]))
        fields = (
            _field_weights(field, by_row, longest, weights.length_power, vectors)
            for field, longest in zip(translation.fields, pool.longest, strict=True)
        )
        return cls(pool, tuple(fields))

    @property
    def magnitude(self) -> Magnitude:
        """Of what all fields add."""
        return sum((field.magnitude for field in self.fields), Magnitude())

    def add_rough(self, start: int, stop: int, out: Singles) -> None:
        """Add to out [stop - start] what the values of these users weigh."""
        done = 0
        for shard, first, last in self.pool.pieces(start, stop):
            part = out[done : done + last - first]
            for field, column in zip(self.fields, shard.columns, strict=True):
                field.add_rough(column, first, part)
            done += len(part)

    def exact(self, ordinals: Ordinals) -> Doubles:
        """What the values of these users weigh: f64 [B]."""
        total = np.zeros(len(ordinals))
        for shard, here, rows in self.pool.by_shard(ordinals):
            part = np.zeros(len(rows))
            for field, column in zip(self.fields, shard.columns, strict=True):
                field.add_exact(column, rows, part)
            total[here] = part
        return total


def _field_weights(
    field: FieldTranslation, by_row: Doubles, longest: int, power: float, vectors: Iterator[Doubles]
) -> FieldWeights:
    missing = float(by_row[field.missing])
    numbers = next(vectors) if field.field.mean is not None else None
    if field.denied:
        return _Same(missing)
    if numbers is not None:
        return _Vector(field, numbers, missing)
    if field.field.edges is not None:
        return _Numeric(field.field.edges, by_row[field.bins], missing)
    by_code = by_row[field.known_rows]
    if not longest:
        return _Categorical(read_only(np.append(missing, by_code), np.float64))
    return _Multi(read_only(by_code, np.float64), missing, power, longest)


@dataclass(frozen=True)
class _Same:
    """A denied feature: missing for everyone."""

    weight: float

    @property
    def magnitude(self) -> Magnitude:
        return Magnitude(abs(self.weight), 1)

    def add_rough(self, _column: Column, _first: int, out: Singles) -> None:
        out += np.float32(self.weight)

    def add_exact(self, _column: Column, _rows: Rows, out: Doubles) -> None:
        out += self.weight


@dataclass(frozen=True)
class _Categorical:
    """table f64 [V + 1]: what a missing value weighs, then what each code does."""

    table: Doubles

    @cached_property
    def _rough_table(self) -> Singles:
        return read_only(self.table.astype(np.float32), np.float32)

    @property
    def magnitude(self) -> Magnitude:
        return Magnitude(float(np.abs(self.table).max()), 1)

    def add_rough(self, column: Column, first: int, out: Singles) -> None:
        kernels.add_categorical(_codes_of(column)[first : first + len(out)], self._rough_table, out)

    def add_exact(self, column: Column, rows: Rows, out: Doubles) -> None:
        kernels.exact_categorical(_codes_of(column), read_only(rows, np.int64), self.table, out)


@dataclass(frozen=True)
class _Multi:
    """table f64 [V]: what each code weighs; missing: what an empty list does. The sum over a list of n values is
    divided by n^power; no list has more than `longest`."""

    table: Doubles
    missing: float
    power: float
    longest: int

    @property
    def magnitude(self) -> Magnitude:
        heaviest = float(np.abs(self.table).max(initial=0.0))
        # A list weighs at most n^(1 - power) times the heaviest value, and is rounded by half a unit for each value.
        spread = max(1.0, self.longest ** (1 - self.power))
        return Magnitude(max(abs(self.missing), spread * heaviest), self.longest, spread * self._unit / 2)

    @cached_property
    def _counts(self) -> bool:
        """Whether anything here has a weight."""
        return bool(self.table.any() or self.missing)

    @cached_property
    def _unit(self) -> float:
        """Of the fixed point: a power of two."""
        heaviest = float(np.abs(self.table).max(initial=0.0)) * self.longest
        return float(np.ldexp(1.0, int(np.frexp(heaviest)[1]) - _FIXED_BITS))

    @cached_property
    def _fixed(self) -> Codes:
        return read_only(np.rint(self.table / self._unit).astype(np.int32), np.uint32)

    @cached_property
    def _divisors(self) -> Doubles:
        """Of each length."""
        return read_only(np.maximum(np.arange(self.longest + 1), 1.0) ** self.power, np.float64)

    @cached_property
    def _factors(self) -> Singles:
        return read_only((self._unit / self._divisors).astype(np.float32), np.float32)

    @cached_property
    def _terms(self) -> Singles:
        """What each length adds: nothing, but for that of an empty list."""
        terms = np.zeros(self.longest + 1, np.float32)
        terms[0] = self.missing
        return read_only(terms, np.float32)

    def add_rough(self, column: Column, first: int, out: Singles) -> None:
        if self._counts:
            values, offsets = _lists_of(column, first, len(out))
            kernels.add_multi(values, offsets, self._fixed, self._factors, self._terms, out)

    def add_exact(self, column: Column, rows: Rows, out: Doubles) -> None:
        values, offsets = _lists_of(column)
        chosen = read_only(rows, np.int64)
        kernels.exact_multi(values, offsets, chosen, self.table, self._divisors, self.missing, out)


@dataclass(frozen=True)
class _Numeric:
    """edges f32 [E] between bins, table f64 [E + 1]: what each bin weighs."""

    edges: Singles
    table: Doubles
    missing: float

    @property
    def magnitude(self) -> Magnitude:
        return Magnitude(max(abs(self.missing), float(np.abs(self.table).max())), 1)

    def add_rough(self, column: Column, first: int, out: Singles) -> None:
        out += self._weights(_numbers_of(column)[first : first + len(out)]).astype(np.float32)

    def add_exact(self, column: Column, rows: Rows, out: Doubles) -> None:
        out += self._weights(_numbers_of(column)[rows])

    def _weights(self, numbers: Singles) -> Doubles:
        bins = np.searchsorted(self.edges, numbers, side="right")
        return np.where(np.isnan(numbers), self.missing, self.table[bins])


@dataclass(frozen=True)
class _Vector:
    """weights f64 [d] of a vector field's standardised numbers."""

    field: FieldTranslation
    weights: Doubles
    missing: float

    @property
    def magnitude(self) -> Magnitude:
        total = max(abs(self.missing), FARTHEST * float(np.abs(self.weights).sum()))
        return Magnitude(total, len(self.weights) + 1)

    def add_rough(self, column: Column, first: int, out: Singles) -> None:
        part = VectorColumn(_vectors_of(column).values[first : first + len(out)])
        out += self._weights(part).astype(np.float32)

    def add_exact(self, column: Column, rows: Rows, out: Doubles) -> None:
        out += self._weights(VectorColumn(_vectors_of(column).values[rows]))

    def _weights(self, column: VectorColumn) -> Doubles:
        total = np.where(np.isnan(column.values).any(1), self.missing, 0.0)
        numbers = self.field.vector(column, len(total)).astype(np.float64)
        for number, weight in zip(numbers.T, self.weights, strict=True):
            total += number * weight
        return total


def _codes_of(column: Column) -> Codes:
    if not isinstance(column, CategoricalColumn):
        raise TypeError("a categorical feature is stored as another kind")
    return read_only(column.codes, np.uint32)


def _lists_of(column: Column, first: int = 0, rows: int | None = None) -> tuple[Codes, Codes]:
    """Values and offsets of so many rows from `first` on, all by default; offsets may begin anywhere."""
    if not isinstance(column, MultiColumn):
        raise TypeError("a multi-valued feature is stored as another kind")
    values, offsets = column.values, column.offsets[first : None if rows is None else first + rows + 1]
    if offsets.itemsize > 4:
        values, offsets = values[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.int32)
    return read_only(values, np.uint32), read_only(offsets, np.uint32)


def _numbers_of(column: Column) -> Singles:
    if not isinstance(column, NumericColumn):
        raise TypeError("a numeric feature is stored as another kind")
    return column.values


def _vectors_of(column: Column) -> VectorColumn:
    if not isinstance(column, VectorColumn):
        raise TypeError("a vector feature is stored as another kind")
    return column
