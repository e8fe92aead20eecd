"""Strict reading of bodies: what is refused, where it is said to be, and that it is never repeated."""

import json
import time
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from service.kit.bodies import MAX_DEPTH, json_pointer, parse_body, read_json
from service.kit.errors import Problem


class Inner(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=8)]


class Body(BaseModel):
    ids: list[str]
    size: Annotated[int, Field(ge=1)] | None = None
    fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    mode: Literal["queue", "reject"] = "queue"
    flag: bool = False
    inner: list[Inner] = []


def refusal(raw: bytes | str) -> Problem:
    with pytest.raises(Problem) as caught:
        parse_body(Body, raw.encode() if isinstance(raw, str) else raw)
    return caught.value


def fault(raw: bytes | str) -> tuple[str, str]:
    problem = refusal(raw)
    assert problem.slug == "validation-failed"
    return problem.errors[0].pointer, problem.errors[0].detail


def test_a_right_body_is_read() -> None:
    body = parse_body(Body, '{"ids":["a","\\ud83d\\ude00","é"],"size":3,"fraction":0.5}'.encode())
    assert body.ids == ["a", "😀", "é"]
    assert (body.size, body.fraction) == (3, 0.5)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"   ",
        b"{",
        b"nonsense",
        b'{"ids":[]} x',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"ids":[],"fraction":NaN}',
        b'{"ids":[],"fraction":Infinity}',
        b'{"ids":[],"fraction":-Infinity}',
        b"{'ids':[]}",
        b'{"ids":["\x00"]}',
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"ids":' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_what_is_not_json_is_malformed(raw: bytes) -> None:
    assert refusal(raw).slug == "malformed-request"


def test_nesting_is_read_to_its_limit_and_no_deeper() -> None:
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(Problem, match="nested deeper"):
        read_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("raw", "pointer", "said"),
    [
        ("[]", "", "must be an object"),
        ("{}", "/ids", "is required"),
        ('{"ids":null}', "/ids", "must be an array"),
        ('{"ids":["a",7]}', "/ids/1", "must be a string"),
        ('{"ids":[],"sise":1}', "/sise", "is not a known field"),
        ('{"ids":[],"a/b~c":1}', "/a~1b~0c", "is not a known field"),
        ('{"ids":[],"inner":[{"name":"a","x":1}]}', "/inner/0/x", "is not a known field"),
        ('{"ids":[],"inner":[{"name":"too long a name"}]}', "/inner/0/name", "at most 8"),
        ('{"ids":[],"size":0}', "/size", "at least 1"),
        ('{"ids":[],"size":"5"}', "/size", "must be an integer"),
        ('{"ids":[],"size":5.0}', "/size", "must be an integer"),
        ('{"ids":[],"size":true}', "/size", "must be an integer"),
        ('{"ids":[],"fraction":0.51}', "/fraction", "at most 0.5"),
        ('{"ids":[],"fraction":"0.1"}', "/fraction", "must be a number"),
        ('{"ids":[],"flag":1}', "/flag", "true or false"),
        ('{"ids":[],"mode":"both"}', "/mode", "'queue' or 'reject'"),
        ('{"ids":[],"ids":[]}', "/ids", "more than once"),
        ('{"ids":[],"inner":[{"name":"a"},{"name":"a","name":"b"}]}', "/inner/1/name", "more than once"),
        ('{"ids":["a","\\ud800"]}', "/ids/1", "lone surrogate"),
        ('{"ids":["\\udc00\\ud83d"]}', "/ids/0", "lone surrogate"),
        ('{"ids":[],"\\udfff":1}', "", "lone surrogate"),
        ('{"ids":[],"fraction":1e999}', "", "too large"),
        ('{"ids":[],"fraction":' + "9" * 400 + "}", "", "too large"),
    ],
)
def test_a_fault_is_named_with_its_place(raw: str, pointer: str, said: str) -> None:
    found_pointer, detail = fault(raw)
    assert found_pointer == pointer
    assert said in detail


@pytest.mark.parametrize("digits", [19, 20, 50, 300])
def test_a_huge_integer_is_refused_where_an_integer_is_wanted(digits: int) -> None:
    raw = '{"ids":[],"size":-' + "9" * digits + "}"
    assert fault(raw)[0] == "/size"


@pytest.mark.alone
def test_a_million_digits_cost_nothing() -> None:
    started = time.perf_counter()
    assert fault('{"ids":[],"size":' + "9" * 1_000_000 + "}")[1] == "a number is too large"
    assert time.perf_counter() - started < 0.5


@pytest.mark.alone
def test_a_body_with_an_escape_costs_no_more_than_one_without() -> None:
    ids = ["x" * 128] * 100_000
    plain, escaped = (json.dumps([first, *ids]).encode() for first in ("u", "\U0001f600"))

    def seconds(body: bytes) -> float:
        started = time.process_time()
        assert len(read_json(body)) == len(ids) + 1
        return time.process_time() - started

    assert min(seconds(escaped) for _ in range(3)) < 4 * min(seconds(plain) for _ in range(3))


def test_values_are_never_repeated() -> None:
    secret = "hunter2-the-secret"
    raw = json.dumps(
        {"ids": secret, "size": secret, "fraction": secret, "mode": secret, "flag": secret, "inner": [secret]}
    )
    problem = refusal(raw)
    assert len(problem.errors) == 6
    assert secret not in json.dumps(problem.as_document("r"))


def test_at_most_twenty_faults_are_listed() -> None:
    document: dict[str, Any] = refusal(json.dumps({"ids": list(range(1000))})).as_document("r")
    assert len(document["errors"]) == 20


def test_pointers_are_rfc_6901() -> None:
    assert json_pointer(("a/b", 0, "m~n")) == "/a~1b/0/m~0n"
