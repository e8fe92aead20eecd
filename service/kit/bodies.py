"""Strict reading of JSON bodies: nothing ambiguous gets in, and no fault report repeats what was sent."""

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Annotated, Any, NoReturn, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from service.kit.errors import MAX_ERRORS, FieldError, Problem, validation_failed
from service.kit.media import JSON, body_media

MAX_DEPTH = 32
MAX_MEMBERS = 1_000
# An empty array is two bytes of a body and fifty of memory. The largest body that makes sense has some two million ids,
# and even where each of those has a bracket in it they are no more than this.
MAX_CONTAINERS = 2_100_000
_LONGEST_INTEGER = 20
_SUSPICIOUS_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

# pydantic's own messages can repeat the input, so every sentence is ours; `{...}` are limits from the schema.
_SENTENCES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
    "string_type": "must be a string",
    "string_unicode": "must not contain a lone surrogate",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} character(s)",
    "string_pattern_mismatch": "does not have the required form",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_parsing_size": "must be an integer of ordinary size",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "null": "must not be null",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} item(s)",
    "literal_error": "must be {expected}",
    "object_or_location": "must be an object, or a location of at most {max_length} characters",
    "enum": "must be {expected}",
}

T = TypeVar("T")
BodyT = TypeVar("BodyT", bound=BaseModel)


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("null", "must not be null")
    return value


Given = Annotated[T | None, BeforeValidator(_refuse_null)]
"""A field that may be absent (None, then) but not null."""


def json_body(schema: type[BodyT], *, optional: bool = False) -> Callable[[Request], Awaitable[BodyT]]:
    """A dependency that reads the body as `schema`; an empty one counts as `{}` where that is `optional`."""

    async def read(request: Request) -> BodyT:
        if optional and not await request.body():
            return schema()
        body_media(request)
        return await run_in_threadpool(parse_body, schema, await request.body())

    return read


def describe_body(schema: type[BaseModel], *, optional: bool = False) -> dict[str, Any]:
    """For `openapi_extra`: the body that `json_body` reads."""
    return {"requestBody": {"required": not optional, "content": {JSON: {"schema": describe_schema(schema)}}}}


def describe_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """As JSON Schema, definitions written out where they are used.

    pydantic's own calls a `Given` field nullable, which it is not.
    """
    document = schema.model_json_schema()
    definitions = document.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            if reference := node.get("$ref"):
                return resolve(definitions[reference.rsplit("/", 1)[-1]])
            if {"type": "null"} in node.get("anyOf", ()):
                given = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
                return resolve(given[0] if len(given) == 1 else {**node, "anyOf": given})
            resolved = {name: resolve(child) for name, child in node.items()}
            # As `parse_body` reads it: an unknown member is an error.
            return resolved | {"additionalProperties": False} if "properties" in resolved else resolved
        return [resolve(child) for child in node] if isinstance(node, list) else node

    described: dict[str, Any] = resolve(document)
    return described


def parse_body(schema: type[BodyT], raw: bytes) -> BodyT:
    """Read `raw` as strict JSON of `schema`; Problem 400 if it is not JSON, 422 if it breaks the schema."""
    return validate_body(schema, read_json(raw))


def validate_body(schema: type[BodyT], value: Any) -> BodyT:
    """Take a value as JSON has it for `schema`, strictly; Problem 422 if it breaks it."""
    try:
        return schema.model_validate(value, strict=True, extra="forbid")
    except ValidationError as error:
        raise validation_failed(
            *field_errors(error.errors(include_url=False, include_input=False)[:MAX_ERRORS])
        ) from None


def read_json(raw: bytes) -> Any:
    """Parse UTF-8 JSON, refusing what parsers disagree about.

    400 for what is not JSON (NaN and Infinity too), is nested deeper than MAX_DEPTH or has more than MAX_CONTAINERS
    arrays and objects; 422 for a repeated member, an object of more than MAX_MEMBERS, a number beyond float64, a lone
    surrogate and a NUL, which no database keeps. An integer too long for int64 becomes a float, so that it costs
    nothing and fails wherever an integer is wanted.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_CONTAINERS:
        raise Problem("malformed-request", f"The body has more than {MAX_CONTAINERS} arrays and objects.")
    repeated: list[tuple[dict[str, Any], str]] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) > MAX_MEMBERS:
            raise validation_failed(
                FieldError("", "too-many-members", f"an object has more than {MAX_MEMBERS} members")
            )
        members = dict(pairs)
        if len(members) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            repeated.append((members, twice))
        return members

    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=build, parse_constant=_not_json, parse_float=_finite, parse_int=_bounded_integer
        )
    except UnicodeDecodeError:
        raise Problem("malformed-request", "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        detail = (
            f"The body is not valid JSON (line {error.lineno}, column {error.colno})." if text else "The body is empty."
        )
        raise Problem("malformed-request", detail) from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    if repeated:
        _refuse_repeated(value, *repeated[0])
    if _SUSPICIOUS_ESCAPE.search(text):
        _check_characters(value)
    return value


def field_errors(errors: Sequence[ErrorDetails]) -> list[FieldError]:
    """pydantic's errors in our words; the value sent is never among them."""
    return [
        FieldError(json_pointer(error["loc"]), error["type"].replace("_", "-"), _sentence(error)) for error in errors
    ]


def json_pointer(path: Sequence[str | int]) -> str:
    """RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _sentence(error: ErrorDetails) -> str:
    return _SENTENCES.get(error["type"], "is not valid").format_map(error.get("ctx", {}))


def _not_json(constant: str) -> NoReturn:
    raise Problem("malformed-request", f"{constant} is not JSON.")


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise validation_failed(FieldError("", "number-out-of-range", "a number is too large"))
    return value


def _bounded_integer(literal: str) -> int | float:
    return int(literal) if len(literal) <= _LONGEST_INTEGER else _finite(literal)


def _too_deep() -> Problem:
    return Problem("malformed-request", f"The body is nested deeper than {MAX_DEPTH} levels.")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not level:
            return
    raise _too_deep()


def _children(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _walk(root: Any) -> Iterator[tuple[list[str | int], Any]]:
    """All that is in the array or object `root`, in the order of the text, with its path: one list that changes on the
    way, for there may be millions of them."""
    path: list[str | int] = [""]
    entered = [_members(root)]
    while entered:
        for path[-1], value in entered[-1]:
            yield path, value
            if isinstance(value, dict | list):
                entered.append(_members(value))
                path.append("")
                break
        else:
            entered.pop()
            path.pop()


def _members(container: Any) -> Iterator[tuple[str | int, Any]]:
    return iter(container.items()) if isinstance(container, dict) else enumerate(container)


def _refuse_repeated(root: Any, members: dict[str, Any], name: str) -> NoReturn:
    # Absent only when the object itself was replaced by a later duplicate.
    path = next((path[1:] for path, value in _walk([root]) if value is members), [])
    raise validation_failed(FieldError(json_pointer([*path, name]), "duplicate-key", "appears more than once"))


def _check_characters(root: Any) -> None:
    for path, value in _walk([root]):
        if isinstance(path[-1], str):
            _check_text(path[-1], path[:-1])
        if isinstance(value, str):
            _check_text(value, path)


def _check_text(text: str, path: Sequence[str | int]) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        raise validation_failed(FieldError(json_pointer(path[1:]), "lone-surrogate", "contains a lone surrogate"))
    if "\0" in text:
        raise validation_failed(FieldError(json_pointer(path[1:]), "nul", "contains a NUL character"))
