"""Vocabularies: which feature values a network knows, and at which row of its embedding table.

Each field owns consecutive rows of one shared table: first "unknown" (a value seen too rarely or never), then
"missing", then its values (categorical, multi) or quantile bins (numeric). A vector field has no values; its numbers
are standardised and go through a linear map, and its "missing" row stands in where there are none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from model.errors import ModelError
from model.network import FeatureBatch, Fields
from model.pool import CategoricalColumn, Column, MultiColumn, NumericColumn, Pool, UserBlock, VectorColumn
from model.schema import Feature

UNKNOWN = 0
MISSING = 1
_FIRST_VALUE = 2
_FIT_ROWS = 1 << 16

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FieldVocabulary:
    """What is known of one feature. values: of a categorical or multi feature; edges f32 [E] between the E + 1 bins
    of a numeric one; mean and scale f32 [d] of a vector."""

    feature: Feature
    values: pa.LargeStringArray | None = None
    edges: Floats | None = None
    mean: Floats | None = None
    scale: Floats | None = None

    @property
    def rows(self) -> int:
        """Number of embedding rows."""
        if self.values is not None:
            return _FIRST_VALUE + len(self.values)
        return _FIRST_VALUE + (len(self.edges) + 1 if self.edges is not None else 0)

    def rows_of(self, values: pa.Array) -> Rows:
        """Row, counted within the field, of each string."""
        found = pc.index_in(values.cast(pa.large_string()), value_set=self.values)
        rows: Rows = pc.fill_null(pc.add(found, _FIRST_VALUE), UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
        return rows


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
        return cls(
            tuple(
                _fit_field(pool, index, feature, min_count, numeric_bins) for index, feature in enumerate(pool.features)
            )
        )

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Everything that was fitted, by "<prefix>.<field number>.<part>"; strings as UTF-8 bytes and offsets."""
        named: dict[str, npt.NDArray[Any]] = {}
        for index, field in enumerate(self.fields):
            parts: dict[str, npt.NDArray[Any] | None]
            parts = {"edges": field.edges, "mean": field.mean, "scale": field.scale}
            if field.values is not None:
                encoded = [value.encode() for value in field.values.to_pylist()]
                parts["bytes"] = np.frombuffer(b"".join(encoded), np.uint8).copy()
                parts["offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
            named |= {f"{prefix}.{index}.{name}": part for name, part in parts.items() if part is not None}
        return named

    @classmethod
    def from_arrays(
        cls, features: Sequence[Feature], prefix: str, arrays: Mapping[str, npt.NDArray[Any]]
    ) -> "Vocabulary":
        """Read back what `arrays` wrote. Raises ModelError naming the first part that is missing or makes no sense."""
        return cls(tuple(_read_field(feature, f"{prefix}.{index}", arrays) for index, feature in enumerate(features)))

    def translate(self, pool: Pool, deny: frozenset[str] = frozenset()) -> "Translation":
        """From the pool's codes to this vocabulary's rows. A denied feature reads as missing for everyone.

        Raises ModelError if the pool's features are not this vocabulary's, or if a denied feature is unknown.
        """
        if pool.features != tuple(field.feature for field in self.fields):
            raise ModelError("the pool's features are not those the model was trained on")
        unknown = deny - {field.feature.name for field in self.fields}
        if unknown:
            raise ModelError(f"cannot deny unknown features: {', '.join(sorted(unknown))}")
        return Translation(
            tuple(
                FieldTranslation(field, offset, _code_rows(field, dictionary), field.feature.name in deny)
                for field, offset, dictionary in zip(self.fields, self.offsets, pool.dictionaries, strict=False)
            )
        )

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

    def bags(self, column: Column, size: int) -> tuple[Rows, Rows]:
        """Rows of the shared table [T] and how many of them each of the B users has [B]."""
        missing = self.offset + MISSING
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
                return np.where(np.isnan(values), missing, self.offset + _FIRST_VALUE + bins), np.ones(size, np.int64)
            case VectorColumn(values):
                absent = np.asarray(np.isnan(values).any(1))
                return np.full(int(absent.sum()), missing), absent.astype(np.int64)
        raise ModelError(f"feature {self.field.feature.name!r} is stored as another kind than the model was trained on")

    def vector(self, column: Column, size: int) -> Floats:
        """Standardised numbers of a vector field [B, d]; 0 where missing or denied."""
        mean, scale = self.field.mean, self.field.scale
        if mean is None or scale is None or not isinstance(column, VectorColumn):
            raise ModelError(f"feature {self.field.feature.name!r} is not a vector")
        if self.denied:
            return np.zeros((size, len(mean)), np.float32)
        if column.values.shape[1] != len(mean):
            raise ModelError(
                f"feature {self.field.feature.name!r} has {column.values.shape[1]} numbers, the model knows {len(mean)}"
            )
        standard = (column.values - mean) / scale
        standard[np.isnan(standard).any(1)] = 0
        return standard


@dataclass(frozen=True)
class Translation:
    """Turns blocks of one pool into tensors for one network."""

    fields: tuple[FieldTranslation, ...]

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


def _fit_field(pool: Pool, index: int, feature: Feature, min_count: int, numeric_bins: int) -> FieldVocabulary:
    columns = [pool.block(start, stop).columns[index] for start, stop in pool.spans(_FIT_ROWS)]
    dictionary = pool.dictionaries[index]
    if dictionary is not None:
        counts = np.zeros(len(dictionary), np.int64)
        for column in columns:
            codes = column.codes if isinstance(column, CategoricalColumn) else _multi_values(column)
            counts += np.bincount(codes[codes >= 0], minlength=len(dictionary))
        return FieldVocabulary(feature, values=dictionary.cast(pa.large_string()).filter(pa.array(counts >= min_count)))
    numbers = [column.values for column in columns if isinstance(column, NumericColumn | VectorColumn)]
    values = np.concatenate(numbers)
    if feature.kind == "numeric":
        return FieldVocabulary(feature, edges=_edges(values[~np.isnan(values)], numeric_bins))
    present = values[~np.isnan(values).any(1)].astype(np.float64)
    if not len(present):
        return FieldVocabulary(feature, mean=np.zeros_like(values[0]), scale=np.ones_like(values[0]))
    deviation = present.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return FieldVocabulary(feature, mean=present.mean(0).astype(np.float32), scale=scale.astype(np.float32))


def _multi_values(column: Column) -> npt.NDArray[np.int32]:
    if not isinstance(column, MultiColumn):
        raise ModelError("a feature with a dictionary is neither categorical nor multi")
    return column.values


def _edges(values: Floats, bins: int) -> Floats:
    """Inner quantiles, each kept once; a constant feature has one edge, one without values none."""
    if not len(values):
        return np.empty(0, np.float32)
    return np.unique(np.quantile(values, np.arange(1, bins) / bins, method="nearest")).astype(np.float32)


def _read_field(feature: Feature, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> FieldVocabulary:
    def part(name: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
        array = arrays.get(f"{prefix}.{name}")
        if array is None or array.dtype != dtype or array.ndim != 1:
            raise ModelError(f"{prefix}.{name} is not there, or not a list of {dtype.__name__}")
        return array

    if feature.kind in ("categorical", "multi"):
        data, offsets = part("bytes", np.uint8), part("offsets", np.int64)
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
            raise ModelError(f"{prefix}.offsets does not cut {prefix}.bytes into values")
        values = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
        try:
            values.validate(full=True)
        except pa.ArrowInvalid as error:
            raise ModelError(f"{prefix}.bytes is not UTF-8 text") from error
        return FieldVocabulary(feature, values=values)
    if feature.kind == "numeric":
        return FieldVocabulary(feature, edges=part("edges", np.float32))
    mean, scale = part("mean", np.float32), part("scale", np.float32)
    if len(mean) != len(scale):
        raise ModelError(f"{prefix}.mean and {prefix}.scale differ in length")
    return FieldVocabulary(feature, mean=mean, scale=scale)


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
