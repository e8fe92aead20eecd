"""Turns Arrow columns of users into the pool's encoding, naming whatever cannot be encoded."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.columns import CategoricalColumn, Column, MultiColumn, NumericColumn, Ordinals, VectorColumn
from model.errors import DataError
from model.schema import Feature

LONGEST_ID = 128
_CONTROL = r"[\x00-\x1f\x7f-\x{9f}]"


@dataclass(frozen=True)
class EncodedFeature:
    """A feature of all users, and the sorted values that its codes stand for (None for numbers)."""

    column: Column
    dictionary: pa.StringArray | None


def sorted_ids(ids: pa.ChunkedArray, file: str) -> tuple[Ordinals, NDArray[np.bytes_]]:
    """Row numbers in byte order of the ids, and the ids in that order as fixed-width bytes 'S<w>' [N].

    Raises DataError for an id that is null, empty, too long, of control characters, or there twice.
    """
    if not _is_string(ids.type):
        raise DataError(f"must be a string, is {ids.type}", file=file, column="user_id")
    column = ids.cast(pa.large_string()).combine_chunks()
    if not len(column):
        raise DataError("there are no users", file=file, column="user_id")
    faults = (
        (pc.is_null(column), "is null"),
        (pc.equal(column, ""), "is empty"),
        (pc.greater(pc.utf8_length(column), LONGEST_ID), f"is longer than {LONGEST_ID} characters"),
        (pc.match_substring_regex(column, _CONTROL), "holds a control character"),
    )
    for fault, reason in faults:
        _refuse_first(fault, reason, file, "user_id")
    order = pc.sort_indices(column).to_numpy().astype(np.int64)
    width = pc.max(pc.binary_length(column.cast(pa.large_binary()))).as_py()
    ids_in_order = _fixed_width(column.take(pa.array(order)), width)
    twice = np.flatnonzero(ids_in_order[1:] == ids_in_order[:-1])
    if len(twice):
        rows = sorted(int(row) for row in order[twice[0] : twice[0] + 2])
        raise DataError(f"is the id of row {rows[0]} again", file=file, column="user_id", row=rows[1])
    return order, ids_in_order


def encode_feature(values: pa.ChunkedArray, feature: Feature, order: Ordinals, file: str) -> EncodedFeature:
    """Encode one column, users in `order`. Raises DataError for a type or value that does not fit the kind."""
    column = values.take(pa.array(order)).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # an extension of the type, or no row at all
        column = pa.concat_arrays(column.chunks)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    match feature.kind:
        case "categorical":
            return _encode_categorical(column, feature, file)
        case "multi":
            return _encode_multi(column, feature, file)
        case "numeric":
            return EncodedFeature(NumericColumn(_numbers(column, feature, order, file)), None)
        case "vector":
            return EncodedFeature(_encode_vector(column, feature, order, file), None)


def _encode_categorical(column: pa.Array, feature: Feature, file: str) -> EncodedFeature:
    codes, dictionary = _codes(_as_strings(column, feature, file))
    return EncodedFeature(CategoricalColumn(codes), dictionary)


def _encode_multi(column: pa.Array, feature: Feature, file: str) -> EncodedFeature:
    if not _is_list(column.type):
        raise DataError(f"must be a list of strings, is {column.type}", file=file, column=feature.name)
    column = column.cast(pa.large_list(column.type.value_field))
    users = pc.list_parent_indices(column).to_numpy()
    codes, dictionary = _codes(_as_strings(pc.list_flatten(column), feature, file))
    users, codes = users[codes >= 0], codes[codes >= 0]
    # The first time a user has a value, in the order given; then as many of those as count.
    keys = users * max(1, len(dictionary)) + codes
    first = np.sort(np.unique(keys, return_index=True)[1])
    users, keys = users[first], keys[first]
    if feature.max_length is not None:
        starts = np.searchsorted(users, np.arange(len(column)))
        kept = np.arange(len(users)) - starts[users] < feature.max_length
        users, keys = users[kept], keys[kept]
    keys = np.sort(keys)
    lengths = np.bincount(users, minlength=len(column))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return EncodedFeature(MultiColumn((keys % max(1, len(dictionary))).astype(np.int32), offsets), dictionary)


def _encode_vector(column: pa.Array, feature: Feature, order: Ordinals, file: str) -> VectorColumn:
    if not _is_list(column.type):
        raise DataError(f"must be a list of numbers, is {column.type}", file=file, column=feature.name)
    lengths = pc.list_value_length(column)
    dimension = feature.max_length or pc.max(lengths).as_py() or 1
    wrong = np.flatnonzero(
        pc.fill_null(pc.not_equal(lengths, dimension), fill_value=False).to_numpy(zero_copy_only=False)
    )
    if len(wrong):
        row = int(order[wrong[0]])
        raise DataError(f"must have {dimension} numbers", file=file, column=feature.name, row=row)
    values = np.full((len(column), dimension), np.nan, np.float32)
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    numbers = _numbers(pc.list_flatten(column), feature, np.repeat(order[present], dimension), file)
    values[present] = numbers.reshape(-1, dimension)
    return VectorColumn(values)


def _numbers(column: pa.Array, feature: Feature, rows: Ordinals, file: str) -> NDArray[np.float32]:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise DataError(f"must be numbers, is {column.type}", file=file, column=feature.name)
    values: NDArray[np.float32] = (
        pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy().astype(np.float32)
        if not pa.types.is_null(column.type)
        else np.full(len(column), np.nan, np.float32)
    )
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise DataError("is not finite", file=file, column=feature.name, row=int(rows[infinite[0]]))
    return values


def _codes(column: pa.Array) -> tuple[NDArray[np.int32], pa.StringArray]:
    """Codes i32 (-1 for null) into the sorted distinct values."""
    encoded = column.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order) + 1, np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    ranks[-1] = -1
    codes = pc.fill_null(encoded.indices, -1).to_numpy()
    return ranks[codes], encoded.dictionary.take(pa.array(order)).cast(pa.string())


def _as_strings(column: pa.Array, feature: Feature, file: str) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kinds = (_is_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise DataError(f"must be strings, is {column.type}", file=file, column=feature.name)
    return column.cast(pa.large_string())


def _fixed_width(ids: pa.LargeStringArray, width: int) -> NDArray[np.bytes_]:
    offsets = np.frombuffer(ids.buffers()[1], np.int64, len(ids) + 1, offset=8 * ids.offset)
    data = np.frombuffer(ids.buffers()[2], np.uint8, offsets[-1] - offsets[0], offset=offsets[0])
    lengths = np.diff(offsets)
    table = np.zeros((len(ids), width), np.uint8)
    within = np.arange(len(data)) - np.repeat(offsets[:-1] - offsets[0], lengths)
    table[np.repeat(np.arange(len(ids)), lengths), within] = data
    fixed: NDArray[np.bytes_] = table.view(f"S{width}").ravel()
    return fixed


def _refuse_first(fault: pa.BooleanArray, reason: str, file: str, column: str) -> None:
    found = pc.index(fault, pa.scalar(value=True)).as_py()
    if found >= 0:
        raise DataError(reason, file=file, column=column, row=found)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in kinds)
