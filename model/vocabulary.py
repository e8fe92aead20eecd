"""Vocabularies: at which row of a network's embedding table the values of a pool or of a campaign are found.

The fields share one table: each owns consecutive rows of it, laid out as in model/field_vocabulary.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from model.embedding import FeatureBatch, Fields
from model.errors import ModelError
from model.field_vocabulary import FIRST_VALUE, MISSING, FieldVocabulary, Floats, Rows, fit_field, read_field
from model.pool import CategoricalColumn, Column, MultiColumn, NumericColumn, Pool, UserBlock, VectorColumn
from model.schema import Feature

# Standard deviations: a number further out counts as this one.
FARTHEST = 10.0
# Shares among more users would not be told better than to a few tenths of a percent.
SAMPLE = 100_000


@dataclass(frozen=True)
class Vocabulary:
    """The fields in the order of the schema's features."""

    fields: tuple[FieldVocabulary, ...]

    @property
    def offsets(self) -> list[int]:
        """First row of each field in the shared table, and the number of rows of the table."""
        return list(accumulate((field.rows for field in self.fields), initial=0))

    @property
    def shape(self) -> Fields:
        """What a network is built from."""
        vectors = tuple((index, len(field.mean)) for index, field in enumerate(self.fields) if field.mean is not None)
        return Fields(self.offsets[-1], len(self.fields), vectors)

    @classmethod
    def fit(cls, pool: Pool, *, min_count: int, numeric_bins: int) -> "Vocabulary":
        """Values that at least min_count users of the pool have get a row; numbers get up to numeric_bins bins."""
        fitted = cls(
            tuple(
                fit_field(pool, index, feature, min_count, numeric_bins) for index, feature in enumerate(pool.features)
            )
        )
        counted = zip(fitted.fields, fitted.count(pool), strict=True)
        return cls(tuple(replace(field, counts=counts) for field, counts in counted))

    def count(self, pool: Pool) -> tuple[Rows, ...]:
        """How often each row of each field is met: i64 [rows] per field, among SAMPLE users spread evenly over the
        pool, or all of a smaller one. Of a vector only its absence is counted. Raises ModelError as `translate`."""
        ordinals = np.arange(0, pool.size, max(1, -(-pool.size // SAMPLE)))
        columns = pool.take(ordinals).columns
        fields = self.translate(pool).fields
        return tuple(
            np.bincount(field.bags(column, len(ordinals))[0] - field.offset, minlength=field.field.rows)
            for field, column in zip(fields, columns, strict=True)
        )

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Everything that was fitted, by "<prefix>.<field number>.<part>"; strings as UTF-8 bytes and offsets."""
        return {
            f"{prefix}.{index}.{name}": part
            for index, field in enumerate(self.fields)
            for name, part in field.arrays().items()
        }

    @classmethod
    def from_arrays(
        cls, features: Sequence[Feature], prefix: str, arrays: Mapping[str, npt.NDArray[Any]]
    ) -> "Vocabulary":
        """Read back what `arrays` wrote. Raises ModelError naming the first part that is missing or makes no sense."""
        return cls(tuple(read_field(feature, f"{prefix}.{index}", arrays) for index, feature in enumerate(features)))

    def translate(self, pool: Pool, deny: frozenset[str] = frozenset()) -> "Translation":
        """From the pool's codes to this vocabulary's rows. A denied feature reads as missing for everyone.

        Raises ModelError if the pool's features are not this vocabulary's, or if a denied feature is unknown.
        """
        if pool.features != tuple(field.feature for field in self.fields):
            raise ModelError("the pool's features are not those the model was trained on")
        unknown = deny - {field.feature.name for field in self.fields}
        if unknown:
            raise ModelError(f"cannot deny unknown features: {', '.join(sorted(unknown))}")
        if pool not in self._found:
            pairs = zip(self.fields, pool.dictionaries, strict=True)
            self._found[pool] = tuple(_code_rows(field, dictionary) for field, dictionary in pairs)
        return Translation(
            tuple(
                FieldTranslation(field, offset, code_rows, field.feature.name in deny)
                for field, offset, code_rows in zip(self.fields, self.offsets, self._found[pool], strict=False)
            )
        )

    @cached_property
    def _found(self) -> WeakKeyDictionary[Pool, tuple[Rows | None, ...]]:
        """The code_rows of each pool that was met: looking half a million values up takes longer than an expansion."""
        return WeakKeyDictionary()

    def attributes(self, attributes: Mapping[str, Any], device: torch.device) -> FeatureBatch:
        """A batch of one entity given as {feature name: str | float | list}; what is absent or None is missing.

        Raises ModelError for an unknown name or a value that does not fit its feature's kind.
        """
        unknown = attributes.keys() - {field.feature.name for field in self.fields}
        if unknown:
            raise ModelError(f"unknown campaign attributes: {', '.join(sorted(unknown))}")
        translations, columns = [], []
        for field, offset in zip(self.fields, self.offsets, strict=False):
            column, dictionary = _single(field, attributes.get(field.feature.name))
            translations.append(FieldTranslation(field, offset, _code_rows(field, dictionary), denied=False))
            columns.append(column)
        return Translation(tuple(translations)).batch(UserBlock(tuple(columns), 1), device)


@dataclass(frozen=True)
class FieldTranslation:
    """code_rows i64 [codes + 1]: row within the field of each code of a dictionary, the last one for code -1."""

    field: FieldVocabulary
    offset: int
    code_rows: Rows | None
    denied: bool

    @property
    def missing(self) -> int:
        """The row of the shared table that stands for no value."""
        return self.offset + MISSING

    @property
    def known_rows(self) -> Rows:
        """The row of the shared table of each code of the dictionary [V], of a field that has one."""
        if self.code_rows is None:
            raise ValueError(f"feature {self.field.feature.name!r} has no dictionary")
        return self.offset + self.code_rows[:-1]

    @property
    def bins(self) -> slice:
        """The rows of the shared table of a numeric field's bins."""
        return slice(self.offset + FIRST_VALUE, self.offset + self.field.rows)

    def bags(self, column: Column, size: int) -> tuple[Rows, Rows]:
        """Rows of the shared table i64 [T] and how many of them each of the B users has, i64 [B]. Raises ModelError for
        a column of another kind than the field's."""
        missing = self.missing
        if self.denied:
            return np.full(size, missing), np.ones(size, np.int64)
        match column:
            case CategoricalColumn(codes) if self.code_rows is not None:
                return self.offset + self.code_rows[codes], np.ones(size, np.int64)
            case MultiColumn(values, offsets) if self.code_rows is not None:
                lengths = np.diff(offsets)
                filled = np.maximum(lengths, 1)
                rows = np.full(filled.sum(), missing)
                rows[np.repeat(lengths > 0, filled)] = self.offset + self.code_rows[values]
                return rows, filled
            case NumericColumn(values) if self.field.edges is not None:
                bins = np.searchsorted(self.field.edges, values, side="right")
                return np.where(np.isnan(values), missing, self.offset + FIRST_VALUE + bins), np.ones(size, np.int64)
            case VectorColumn(values):
                absent = np.asarray(np.isnan(values).any(1))
                return np.full(int(absent.sum()), missing), absent.astype(np.int64)
        raise ModelError(f"feature {self.field.feature.name!r} is stored as another kind than the model was trained on")

    def vector(self, column: Column, size: int) -> Floats:
        """Standardised numbers of a vector field f32 [B, d], at most FARTHEST from 0; 0 where missing or denied. Raises
        ModelError for a column of another kind or dimension."""
        mean, scale = self.field.mean, self.field.scale
        if mean is None or scale is None or not isinstance(column, VectorColumn):
            raise ModelError(f"feature {self.field.feature.name!r} is not a vector")
        missing = np.isnan(column.values).any(1)
        if self.denied or missing.all():
            return np.zeros((size, len(mean)), np.float32)
        if column.values.shape[1] != len(mean):
            raise ModelError(
                f"feature {self.field.feature.name!r} has {column.values.shape[1]} numbers, the model knows {len(mean)}"
            )
        standard = ((column.values.astype(np.float64) - mean) / scale).clip(-FARTHEST, FARTHEST)
        standard[missing] = 0
        return standard.astype(np.float32)


@dataclass(frozen=True)
class Translation:
    """Turns blocks of one pool into tensors for one network."""

    fields: tuple[FieldTranslation, ...]

    @property
    def rows(self) -> int:
        """Rows of the shared table."""
        return self.fields[-1].offset + self.fields[-1].field.rows if self.fields else 0

    @property
    def vector_lengths(self) -> tuple[int, ...]:
        """Numbers of each vector field."""
        return tuple(len(field.field.mean) for field in self.fields if field.field.mean is not None)

    def batch(self, block: UserBlock, device: torch.device) -> FeatureBatch:
        """The block's bags, field after field, and its vectors."""
        bags = [field.bags(column, block.rows) for field, column in zip(self.fields, block.columns, strict=True)]
        rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in bags)])
        lengths = np.concatenate([np.zeros(1, np.int64), *(lengths for _, lengths in bags)])
        vectors = tuple(
            torch.from_numpy(field.vector(column, block.rows)).to(device)
            for field, column in zip(self.fields, block.columns, strict=True)
            if field.field.mean is not None
        )
        offsets = torch.from_numpy(np.cumsum(lengths)).to(device)
        return FeatureBatch(torch.from_numpy(rows).to(device), offsets, vectors, block.rows)


def _code_rows(field: FieldVocabulary, dictionary: pa.Array | None) -> Rows | None:
    if field.values is None or dictionary is None:
        return None
    return np.append(field.rows_of(dictionary), MISSING)


def _single(field: FieldVocabulary, value: object) -> tuple[Column, pa.Array | None]:
    """A column of one row, and its own little dictionary."""
    wrong = ModelError(f"attribute {field.feature.name!r} does not fit a {field.feature.kind} feature")
    match field.feature.kind:
        case "categorical":
            strings = _strings([] if value is None else [value], wrong)
            return CategoricalColumn(np.array([len(strings) - 1], np.int32)), pa.array(strings, pa.large_string())
        case "multi":
            given = dict.fromkeys(_strings([] if value is None else value, wrong))
            strings = sorted(list(given)[: field.feature.max_length])
            codes = np.arange(len(strings), dtype=np.int32)
            return MultiColumn(codes, np.array([0, len(strings)])), pa.array(strings, pa.large_string())
        case "numeric":
            return NumericColumn(_floats([float("nan") if value is None else value], wrong)), None
        case "vector":
            length = 0 if field.mean is None else len(field.mean)
            numbers = np.full(length, np.nan, np.float32) if value is None else _floats(value, wrong)
            return VectorColumn(numbers[None, :]), None


def _strings(values: object, wrong: ModelError) -> list[str]:
    """As text, whole numbers and truth values spelled as the pool's encoding spells them."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str | int) for value in values):
        raise wrong
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]


def _floats(values: object, wrong: ModelError) -> Floats:
    if not isinstance(values, Sequence) or not all(isinstance(value, int | float) for value in values):
        raise wrong
    return np.array(values, np.float32)
