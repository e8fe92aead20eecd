"""Turns Arrow columns of users into the pool's encoding, naming whatever cannot be encoded."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.errors import DataError
from model.pool.columns import CategoricalColumn, Column, MultiColumn, NumericColumn, Ordinals, VectorColumn
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
    column = id_column(ids, file, "user_id")
    if not len(column):
        raise DataError("there are no users", file=file, column="user_id")
    for reason, fault in id_faults(column):
        found = np.flatnonzero(fault)
        if len(found):
            raise DataError(reason, file=file, column="user_id", row=int(found[0]))
    order = pc.sort_indices(column).to_numpy().astype(np.int64)
    width = pc.max(pc.binary_length(column.cast(pa.large_binary()))).as_py()
    ids_in_order = _fixed_width(column.take(pa.array(order)), width)
    twice = np.flatnonzero(ids_in_order[1:] == ids_in_order[:-1])
    if len(twice):
        rows = sorted(int(row) for row in order[twice[0] : twice[0] + 2])
        raise DataError(f"is the id of row {rows[0]}", file=file, column="user_id", row=rows[1])
    return order, ids_in_order


def id_column(ids: pa.ChunkedArray, file: str, name: str) -> pa.LargeStringArray:
    """A column of ids as one array. Raises DataError if it does not hold strings, or strings that are not UTF-8."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if not _is_string(ids.type):
        raise DataError(f"must be strings, is {ids.type}", file=file, column=name)
    column = ids.cast(pa.large_string()).combine_chunks()
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(f"is not valid: {error}", file=file, column=name) from error
    return column


def id_faults(column: pa.LargeStringArray) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What no id may be, and which rows are."""
    faults = (
        ("is null", pc.is_null(column)),
        ("is empty", pc.equal(column, "")),
        (f"is longer than {LONGEST_ID} characters", pc.greater(pc.utf8_length(column), LONGEST_ID)),
        ("holds a control character", pc.match_substring_regex(column, _CONTROL)),
    )
    for reason, fault in faults:
        yield reason, pc.fill_null(fault, fill_value=False).to_numpy(zero_copy_only=False)


def feature_faults(values: pa.ChunkedArray, feature: Feature, file: str) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What no value of the feature may be, and which rows are. Raises DataError if the column's type does not fit."""
    _check_type(values.type, feature, file)
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(f"is not valid: {error}", file=file, column=feature.name) from error
    if feature.kind == "numeric":
        yield "must be a finite 32-bit number", np.isinf(_floats(_whole(values, feature)))
    elif feature.kind == "vector":
        column = _whole(values, feature)
        dimension = _dimension(column, feature)
        lengths = pc.fill_null(pc.list_value_length(column), dimension).to_numpy()
        fault = lengths != dimension
        fault[pc.list_parent_indices(column).to_numpy()[~np.isfinite(_floats(pc.list_flatten(column)))]] = True
        yield f"must be {dimension} finite numbers", fault


def nan_count(values: pa.ChunkedArray) -> int:
    """How many numbers are NaN, which is as good as null. For a column without faults."""
    return int(pc.sum(pc.is_nan(values.cast(pa.float64()))).as_py() or 0)


def encode_feature(values: pa.ChunkedArray, feature: Feature, order: Ordinals, file: str) -> EncodedFeature:
    """Encode one column, users in `order`. Raises DataError for a type or value that does not fit the kind."""
    for reason, fault in feature_faults(values, feature, file):
        found = np.flatnonzero(fault)
        if len(found):
            raise DataError(reason, file=file, column=feature.name, row=int(found[0]))
    column = _whole(values, feature).take(pa.array(order))
    match feature.kind:
        case "categorical":
            codes, dictionary = _codes(_texts(column))
            return EncodedFeature(CategoricalColumn(codes), dictionary)
        case "multi":
            return _encode_sets(column, feature.max_length)
        case "numeric":
            return EncodedFeature(NumericColumn(_floats(column)), None)
        case "vector":
            vectors = np.full((len(column), _dimension(column, feature)), np.nan, np.float32)
            present = column.is_valid().to_numpy(zero_copy_only=False)
            vectors[present] = _floats(pc.list_flatten(column)).reshape(-1, vectors.shape[1])
            return EncodedFeature(VectorColumn(vectors), None)


def is_number(kind: pa.DataType) -> bool:
    """Whether Arrow's type is a number, or a truth value."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(is_kind(kind) for is_kind in kinds)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_type(kind: pa.DataType, feature: Feature, file: str) -> None:
    found = kind
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if feature.kind in ("multi", "vector"):
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_null)
        if not any(is_kind(kind) for is_kind in lists):
            raise DataError(f"{feature.kind} values must be lists, is {found}", file=file, column=feature.name)
        kind = kind if pa.types.is_null(kind) else kind.value_type
    discrete = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_string(kind)
    fits = is_number(kind) if feature.kind in ("numeric", "vector") else discrete
    if not (fits or pa.types.is_null(kind)):
        wanted = "numbers" if feature.kind in ("numeric", "vector") else "strings"
        raise DataError(f"{feature.kind} values must be {wanted}, is {found}", file=file, column=feature.name)


def _whole(values: pa.ChunkedArray, feature: Feature) -> pa.Array:
    """One array, of a type whose offsets have 64 bits."""
    kind = values.type
    if pa.types.is_null(kind):
        kind = pa.large_list(pa.null()) if feature.kind in ("multi", "vector") else kind
        return pa.nulls(len(values), kind)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_string(kind):
        kind = pa.large_string()
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = pa.large_list(kind.value_type)
    return values.cast(kind).combine_chunks()


def _encode_sets(column: pa.LargeListArray, max_length: int | None) -> EncodedFeature:
    users = pc.list_parent_indices(column).to_numpy()
    codes, dictionary = _codes(_texts(pc.list_flatten(column)))
    users, codes = users[codes >= 0], codes[codes >= 0]
    # The first time a user has a value, in the order given; then as many of those as count.
    keys = users * max(1, len(dictionary)) + codes
    first = np.sort(np.unique(keys, return_index=True)[1])
    users, keys = users[first], keys[first]
    if max_length is not None:
        starts = np.searchsorted(users, np.arange(len(column)))
        kept = np.arange(len(users)) - starts[users] < max_length
        users, keys = users[kept], keys[kept]
    values = (np.sort(keys) % max(1, len(dictionary))).astype(np.int32)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(users, minlength=len(column)))])
    return EncodedFeature(MultiColumn(values, offsets), dictionary)


def _dimension(column: pa.LargeListArray, feature: Feature) -> int:
    return int(feature.max_length or pc.max(pc.list_value_length(column)).as_py() or 1)


def _floats(column: pa.Array) -> NDArray[np.float32]:
    """NaN for null, and infinite for what 32 bits cannot hold."""
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def _texts(column: pa.Array) -> pa.LargeStringArray:
    return column.cast(pa.large_string())


def _codes(column: pa.Array) -> tuple[NDArray[np.int32], pa.StringArray]:
    """Codes i32 (-1 for null) into the sorted distinct values."""
    encoded = column.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order) + 1, np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    ranks[-1] = -1
    codes = pc.fill_null(encoded.indices, -1).to_numpy()
    return ranks[codes], encoded.dictionary.take(pa.array(order)).cast(pa.string())


def _fixed_width(ids: pa.LargeStringArray, width: int) -> NDArray[np.bytes_]:
    offsets = np.frombuffer(ids.buffers()[1], np.int64, len(ids) + 1, offset=8 * ids.offset)
    data = np.frombuffer(ids.buffers()[2], np.uint8, offsets[-1] - offsets[0], offset=offsets[0])
    lengths = np.diff(offsets)
    table = np.zeros((len(ids), width), np.uint8)
    within = np.arange(len(data)) - np.repeat(offsets[:-1] - offsets[0], lengths)
    table[np.repeat(np.arange(len(ids)), lengths), within] = data
    fixed: NDArray[np.bytes_] = table.view(f"S{width}").ravel()
    return fixed
