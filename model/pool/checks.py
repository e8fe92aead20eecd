"""What the pool can encode of Arrow columns of users: of which type they must be, and which rows are at fault."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.errors import DataError
from model.schema import Feature
from model.user_ids import LONGEST_ID

_CONTROL = r"[\x00-\x1f\x7f-\x{9f}]"


def id_column(ids: pa.Array | pa.ChunkedArray, file: str, name: str, first_row: int = 0) -> pa.LargeStringArray:
    """Ids as one array; they begin at first_row. Raises DataError if they are not strings, or not of UTF-8."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if not _is_string(ids.type):
        raise DataError(f"must be strings, is {ids.type}", file=file, column=name)
    check_valid(ids, file, name, first_row)
    return _one_array(ids.cast(pa.large_string()))


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
    check_type(values.type, feature, file)
    check_valid(values, file, feature.name)
    column = _one_array(wide(values, feature))
    yield from value_faults(column, feature, dimension(column, feature))


def value_faults(column: pa.Array, feature: Feature, size: int) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What no value of a `wide` column may be, and which rows are. size: the dimension, if they are vectors."""
    if feature.kind == "numeric":
        yield "must be a finite 32-bit number", np.isinf(floats(column))
    elif feature.kind == "vector":
        fault = pc.fill_null(pc.list_value_length(column), size).to_numpy() != size
        fault[pc.list_parent_indices(column).to_numpy()[~np.isfinite(floats(pc.list_flatten(column)))]] = True
        yield f"must be {size} finite numbers", fault


def check_valid(values: pa.Array | pa.ChunkedArray, file: str, name: str, first_row: int = 0) -> None:
    """Raises DataError for the first row that is damaged, such as by bytes that are not UTF-8; rows from first_row."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        row = next((row for row in range(len(values)) if not _is_valid(values.slice(row, 1))), None)
        place = None if row is None else first_row + row
        raise DataError(f"is not valid: {error}", file=file, column=name, row=place) from error


def nan_count(values: pa.ChunkedArray) -> int:
    """How many numbers are NaN, which is as good as null. For a column without faults."""
    return int(pc.sum(pc.is_nan(values.cast(pa.float64()))).as_py() or 0)


def is_number(kind: pa.DataType) -> bool:
    """Whether Arrow's type is a number, or a truth value."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(is_kind(kind) for is_kind in kinds)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def check_type(kind: pa.DataType, feature: Feature, file: str) -> None:
    """Raises DataError for an Arrow type that does not fit the feature's kind."""
    found = kind
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if feature.kind in ("multi", "vector"):
        if not (_is_list(kind) or pa.types.is_null(kind)):
            raise DataError(f"{feature.kind} values must be lists, is {found}", file=file, column=feature.name)
        kind = kind if pa.types.is_null(kind) else kind.value_type
    discrete = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_string(kind)
    fits = is_number(kind) if feature.kind in ("numeric", "vector") else discrete
    if not (fits or pa.types.is_null(kind)):
        wanted = "numbers" if feature.kind in ("numeric", "vector") else "strings"
        raise DataError(f"{feature.kind} values must be {wanted}, is {found}", file=file, column=feature.name)


def wide(values: pa.Array | pa.ChunkedArray, feature: Feature) -> pa.Array | pa.ChunkedArray:
    """The values as a type whose offsets have 64 bits; what strings there are may stay indices into a dictionary."""
    kind = values.type
    if pa.types.is_null(kind):
        kind = pa.large_list(pa.null()) if feature.kind in ("multi", "vector") else kind
        return pa.nulls(len(values), kind)
    if pa.types.is_dictionary(kind) and feature.kind != "categorical":
        kind = kind.value_type
    if _is_string(kind):
        kind = pa.large_string()
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = pa.large_list(kind.value_type)
    return values.cast(kind)


def dimension(column: pa.LargeListArray, feature: Feature) -> int:
    """How many numbers a vector of a `wide` column has; 1 if it cannot be told, or there are no vectors."""
    if feature.kind != "vector":
        return 1
    return int(feature.max_length or pc.max(pc.list_value_length(column)).as_py() or 1)


def floats(column: pa.Array) -> NDArray[np.float32]:
    """NaN for null, and infinite for what 32 bits cannot hold."""
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def _one_array(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _is_valid(values: pa.Array | pa.ChunkedArray) -> bool:
    if _is_list(values.type):
        values = pc.list_flatten(values)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
