"""Eligibility rules against a pool, next to the obvious loop over its users."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model.pool import encode_users
from model.schema import Feature
from service.expansion.eligibility import eligible_users

USERS: list[dict[str, Any]] = [
    {"user_id": "a", "city": "Ulm", "likes": ["x", "y"], "age": 30.0},
    {"user_id": "b", "city": "Bonn", "likes": ["y"], "age": 40.0},
    {"user_id": "c", "city": None, "likes": [], "age": None},
    {"user_id": "d", "city": "Ulm", "likes": None, "age": 50.0},
]
FEATURES = (Feature("city", "categorical"), Feature("likes", "multi", 5), Feature("age", "numeric"))
POOL = encode_users(pa.Table.from_pylist(USERS), FEATURES)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], "abcd"),
        ([{"feature": "city", "in": ["Ulm"]}], "ad"),
        ([{"feature": "city", "in": ["Ulm", "Atlantis"]}], "ad"),
        ([{"feature": "city", "in": ["Atlantis"]}], ""),
        ([{"feature": "city", "not_in": ["Ulm"]}], "bc"),
        ([{"feature": "likes", "any_of": ["x"]}], "a"),
        ([{"feature": "likes", "in": ["x", "y"]}], "ab"),
        ([{"feature": "likes", "not_in": ["x"]}], "bcd"),
        ([{"feature": "age", "min": 40}], "bd"),
        ([{"feature": "age", "max": 40}], "ab"),
        ([{"feature": "age", "min": 35, "max": 45}], "b"),
        ([{"feature": "city", "in": ["Ulm"]}, {"feature": "age", "min": 40}], "d"),
    ],
)
def test_rules_let_in_whom_they_name(rules: list[dict[str, Any]], expected: str) -> None:
    mask = eligible_users(POOL, rules)
    assert "".join(POOL.user_ids(np.flatnonzero(mask))) == expected
