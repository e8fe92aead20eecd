"""What is known of the values of one feature, and the embedding rows they have.

Row 0 of a field is "unknown" (a value seen too rarely or never), row 1 "missing"; then come its values (categorical,
multi) or quantile bins (numeric). A vector field has no values; its numbers are standardised and go through a linear
map, and its "missing" row stands in where there are none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.errors import ModelError
from model.pool import CategoricalColumn, Column, MultiColumn, NumericColumn, Pool, VectorColumn
from model.schema import Feature

UNKNOWN = 0
MISSING = 1
FIRST_VALUE = 2
_FIT_ROWS = 1 << 16

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FieldVocabulary:
    """What is known of one feature. values: of a categorical or multi feature; edges f32 [E] between the E + 1 bins
    of a numeric one; mean and scale f32 [d] of a vector. counts i64 [rows]: how often a sample of the users that it was
    fitted to has each row, where that is known; no score depends on it."""

    feature: Feature
    values: pa.LargeStringArray | None = None
    edges: Floats | None = None
    mean: Floats | None = None
    scale: Floats | None = None
    counts: Rows | None = None

    @property
    def rows(self) -> int:
        """Number of embedding rows."""
        if self.values is not None:
            return FIRST_VALUE + len(self.values)
        return FIRST_VALUE + (len(self.edges) + 1 if self.edges is not None else 0)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What was fitted, by name of the part; strings as UTF-8 bytes and offsets."""
        parts: dict[str, npt.NDArray[Any] | None]
        parts = {"edges": self.edges, "mean": self.mean, "scale": self.scale, "counts": self.counts}
        if self.values is not None:
            encoded = [value.encode() for value in self.values.to_pylist()]
            parts["bytes"] = np.frombuffer(b"".join(encoded), np.uint8).copy()
            parts["offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return {name: part for name, part in parts.items() if part is not None}

    def rows_of(self, values: pa.Array) -> Rows:
        """Row i64 [n], counted within the field, of each string; UNKNOWN for one that was not fitted."""
        found = pc.index_in(values.cast(pa.large_string()), value_set=self.values)
        rows: Rows = pc.fill_null(pc.add(found, FIRST_VALUE), UNKNOWN).to_numpy(zero_copy_only=False).astype(np.int64)
        return rows


def fit_field(pool: Pool, index: int, feature: Feature, min_count: int, numeric_bins: int) -> FieldVocabulary:
    """Fit the pool's feature number `index` on all of its users."""
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


def read_field(feature: Feature, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> FieldVocabulary:
    """Read back `FieldVocabulary.arrays` named "<prefix>.<part>". Raises ModelError naming the first faulty part."""
    field = _read_values(feature, prefix, arrays)
    counts = arrays.get(f"{prefix}.counts")
    if counts is None:  # of a model stored before they were kept
        return field
    if counts.dtype != np.int64 or counts.shape != (field.rows,) or (counts < 0).any():
        raise ModelError(f"{prefix}.counts is not a number for each of the field's {field.rows} rows")
    return replace(field, counts=counts)


def _read_values(feature: Feature, prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> FieldVocabulary:

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
