"""How schema.json is read."""

import json

import pytest

from model.errors import DataError
from model.schema import Feature, Schema

DOCUMENT = {
    "user_features": [
        {"name": "age", "kind": "numeric"},
        {"name": "interests", "kind": "multi", "max_length": 30},
        {"name": "face", "kind": "vector"},
    ],
    "campaign_features": [{"name": "topic", "kind": "categorical"}],
}


def test_features_keep_their_order_and_kind():
    schema = Schema.parse(DOCUMENT, "schema.json")
    assert schema.user_features == (
        Feature("age", "numeric"),
        Feature("interests", "multi", 30),
        Feature("face", "vector"),
    )
    assert schema.campaign_features == (Feature("topic", "categorical"),)


def test_a_schema_written_and_read_is_the_same(tmp_path):
    schema = Schema.parse(DOCUMENT, "schema.json")
    (tmp_path / "schema.json").write_text(json.dumps(schema.document()))
    assert Schema.load(tmp_path / "schema.json") == schema
    assert schema.document() == DOCUMENT


def test_campaigns_need_no_features():
    assert Schema.parse({"user_features": [{"name": "age", "kind": "numeric"}]}, "x").campaign_features == ()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "x: must be an object"),
        ({}, "x: user_features must be a list"),
        ({"user_features": []}, "x: user_features must name at least one feature"),
        ({"user_features": [], "more": 1}, "x: unknown member 'more'"),
        ({"user_features": ["age"]}, r"x: user_features\[0\] must be an object"),
        ({"user_features": [{"kind": "numeric"}]}, r"x: user_features\[0\] needs a name"),
        ({"user_features": [{"name": "a", "kind": "numeric", "size": 1}]}, r"\[0\] has the unknown member 'size'"),
        ({"user_features": [{"name": "a", "kind": "number"}]}, "x, column 'a': kind must be one of categorical, "),
        ({"user_features": [{"name": "user_id", "kind": "multi"}]}, "x, column 'user_id': this name is reserved"),
        ({"user_features": [{"name": "a", "kind": "numeric"}] * 2}, "x, column 'a': user_features names it twice"),
        ({"user_features": [{"name": "a", "kind": "multi", "max_length": 0}]}, "max_length must be a whole number"),
        ({"user_features": [{"name": "a", "kind": "multi", "max_length": True}]}, "max_length must be a whole number"),
        ({"user_features": [{"name": "a", "kind": "numeric", "max_length": 3}]}, "a numeric feature has no max_length"),
    ],
)
def test_a_fault_names_source_and_feature(document, message):
    with pytest.raises(DataError, match=message):
        Schema.parse(document, "x")


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "schema.json").write_bytes(content)
    with pytest.raises(DataError, match=r"schema\.json: cannot be read as JSON"):
        Schema.load(tmp_path / "schema.json")
