"""Options in the query string: read by the schema of the body that they belong to."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from service.kit.bodies import Given
from service.kit.errors import Problem
from service.kit.options import QueryOptions


class Body(BaseModel):
    ids: list[str]
    size: Given[Annotated[int, Field(ge=1)]] = None
    fraction: float = 0.1
    flag: bool = False
    name: str = ""
    tags: list[str] = []
    labels: dict[str, str] = {}


OPTIONS = QueryOptions.of(Body, without=("ids",))


def test_text_is_itself_arrays_are_repeated_names_and_the_rest_is_json() -> None:
    query = b'size=3&fraction=2&flag=true&name=%22a+b%22&tags=x&tags=%5B%5D&labels={"a": "%C3%A9"}'
    assert OPTIONS.read(query) == {
        "size": 3,
        "fraction": 2,
        "flag": True,
        "name": '"a b"',
        "tags": ["x", "[]"],
        "labels": {"a": "é"},
    }
    assert OPTIONS.read(b"") == {}


def test_what_is_no_json_is_left_for_the_schema_to_refuse() -> None:
    assert OPTIONS.read(b"size=three&flag=") == {"size": "three", "flag": ""}


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        (b"ids=a", "/ids", "extra-forbidden"),
        (b"Size=1", "/Size", "extra-forbidden"),
        (b"name=a&name=b", "/name", "duplicate-key"),
        (b"tags=a&tags=%00", "/tags", "nul"),
        (b"fraction=1e999", "/fraction", "number-out-of-range"),
        (b"labels=a:b", "/labels", "not-json"),
        (b'labels={"a":"b","a":"c"}', "/labels/a", "duplicate-key"),
    ],
)
def test_a_fault_is_named_where_it_is(query: bytes, pointer: str, code: str) -> None:
    with pytest.raises(Problem) as refused:
        OPTIONS.read(query)
    assert [(error.pointer, error.code) for error in refused.value.errors] == [(pointer, code)]


@pytest.mark.parametrize("query", [b"name=%ff", b"name=%ed%a0%80", b"name=\xff"])
def test_a_query_string_that_is_not_utf_8_is_malformed(query: bytes) -> None:
    with pytest.raises(Problem) as refused:
        OPTIONS.read(query)
    assert refused.value.slug == "malformed-request"


def test_options_are_described_with_the_limits_of_the_schema() -> None:
    described = {parameter["name"]: parameter for parameter in OPTIONS.describe()}
    assert described["size"]["schema"] == {"type": "integer", "minimum": 1}
    assert described["labels"]["content"]["application/json"]["schema"]["type"] == "object"
    assert described.keys() == {"size", "fraction", "flag", "name", "tags", "labels"}
