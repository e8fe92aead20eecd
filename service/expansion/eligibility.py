"""Which users of the pool a campaign's rules let in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.pool import CategoricalColumn, Column, MultiColumn, NumericColumn, Pool

BLOCK_ROWS = 1 << 17

Mask = NDArray[np.bool_]


def eligible_users(pool: Pool, rules: Sequence[Mapping[str, Any]]) -> Mask:
    """Return bool [N]: the users that pass every rule.

    A rule names a feature and one of `in`, `any_of`, `not_in` (lists of values) or `min` / `max`. On multi-valued
    features `in` means any of and `not_in` none of. A missing value matches no `in` and no range; a value the pool
    has never seen matches nobody.
    """
    mask = np.ones(pool.size, dtype=np.bool_)
    names = [feature.name for feature in pool.features]
    compiled = [
        (names.index(rule["feature"]), _codes(pool, names.index(rule["feature"]), rule), rule) for rule in rules
    ]
    if compiled:
        for start, stop in pool.spans(BLOCK_ROWS):
            block = pool.block(start, stop)
            for index, codes, rule in compiled:
                mask[start:stop] &= _passes(block.columns[index], codes, rule)
    return mask


def _codes(pool: Pool, index: int, rule: Mapping[str, Any]) -> NDArray[np.int32]:
    dictionary = pool.dictionaries[index]
    values = rule.get("in") or rule.get("any_of") or rule.get("not_in") or []
    if dictionary is None or not values:
        return np.empty(0, dtype=np.int32)
    found = pa.compute.index_in(pa.array(values, pa.string()), value_set=dictionary)
    codes: NDArray[np.int32] = found.drop_null().to_numpy().astype(np.int32)
    return codes


def _passes(column: Column, codes: NDArray[np.int32], rule: Mapping[str, Any]) -> Mask:
    if isinstance(column, NumericColumn):
        low = -np.inf if rule.get("min") is None else rule["min"]
        high = np.inf if rule.get("max") is None else rule["max"]
        return (column.values >= low) & (column.values <= high)  # NaN is in no range
    if isinstance(column, CategoricalColumn):
        hit = np.isin(column.codes, codes)
    elif isinstance(column, MultiColumn):
        hit = _any_of(column, codes)
    else:
        raise TypeError("a vector feature cannot carry an eligibility rule")
    return ~hit if "not_in" in rule else hit


def _any_of(column: MultiColumn, codes: NDArray[np.int32]) -> Mask:
    """Whether each user has at least one of the codes: counted through a running sum, so that empty lists are 0."""
    running = np.concatenate(([0], np.cumsum(np.isin(column.values, codes))))
    return running[column.offsets[1:]] > running[column.offsets[:-1]]
