"""Columns of users in the pool's encoding: what they are, how they are sliced and gathered, how they are hashed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ordinals = NDArray[np.int64]


@dataclass(frozen=True)
class CategoricalColumn:
    """codes i32 [B] into the feature's dictionary; -1 is missing."""

    codes: NDArray[np.int32]


@dataclass(frozen=True)
class MultiColumn:
    """Sets: values i32 [T], sorted and unique within a user, and offsets [B + 1]; nothing is missing but empty.

    Offsets are i32 in a shard, unless it holds 2^31 values or more, and i64 where users are gathered or joined.
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True)
class NumericColumn:
    """values f32 [B]; NaN is missing."""

    values: NDArray[np.float32]


@dataclass(frozen=True)
class VectorColumn:
    """values f32 [B, d]; a row of NaN is missing."""

    values: NDArray[np.float32]


Column = CategoricalColumn | MultiColumn | NumericColumn | VectorColumn


def arrays_of(column: Column) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays a column is made of, by name."""
    yield from vars(column).items()


def slice_column(column: Column, start: int, stop: int) -> Column:
    """Users start .. stop - 1; views, but for the offsets of a multi-valued column."""
    match column:
        case CategoricalColumn(codes):
            return CategoricalColumn(codes[start:stop])
        case MultiColumn(values, offsets):
            cut = offsets[start : stop + 1]
            return MultiColumn(values[cut[0] : cut[-1]], cut - cut[0])
        case NumericColumn(values):
            return NumericColumn(values[start:stop])
        case VectorColumn(values):
            return VectorColumn(values[start:stop])


def take_column(column: Column, rows: Ordinals) -> Column:
    """The users in these rows i64 [B], in that order; copies."""
    match column:
        case CategoricalColumn(codes):
            return CategoricalColumn(codes[rows])
        case MultiColumn(values, offsets):
            starts = offsets[rows]
            lengths = offsets[rows + 1] - starts
            taken = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
            # Position of each value: where its user's values start, plus how far it is into them.
            positions = np.repeat(starts - taken[:-1], lengths) + np.arange(taken[-1])
            return MultiColumn(values[positions], taken)
        case NumericColumn(values):
            return NumericColumn(values[rows])
        case VectorColumn(values):
            return VectorColumn(values[rows])


def join_columns(columns: Sequence[Column]) -> Column:
    """One column from several of the same kind, one after the other."""
    first = columns[0]
    if isinstance(first, MultiColumn):
        parts = [column for column in columns if isinstance(column, MultiColumn)]
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return MultiColumn(np.concatenate([part.values for part in parts]), offsets)
    name, _ = next(arrays_of(first))
    return type(first)(np.concatenate([getattr(column, name) for column in columns]))


def recode_column(column: Column, codes: NDArray[np.int32]) -> Column:
    """The same users with codes[c] [V + 1] in place of code c, and of numbers the same column."""
    match column:
        case CategoricalColumn(old):
            return CategoricalColumn(codes[old])
        case MultiColumn(values, offsets):
            owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
            keys = np.sort(owners << 32 | codes[values])
            return MultiColumn((keys & 0xFFFFFFFF).astype(np.int32), offsets)
        case _:
            return column


def narrow_offsets(offsets: NDArray[Any]) -> NDArray[Any]:
    """Offsets [B + 1] of a shard as i32 if they fit, as they do where no user has thousands of values."""
    return offsets.astype(np.int32, copy=False) if offsets[-1] <= np.iinfo(np.int32).max else offsets


def array_sha256(array: NDArray[Any]) -> str:
    """Hash of an array's type, shape and numbers: the same for an array in memory and in a file."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
