"""Members of a body that stand in the query string instead, for bodies that have no room for them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl

from pydantic import BaseModel

from service.kit.bodies import describe_schema, json_pointer, read_json
from service.kit.errors import MAX_ERRORS, FieldError, Problem, validation_failed
from service.kit.media import JSON


@dataclass(frozen=True)
class QueryOptions:
    """Text is written as it is, an array by repeating its name, and everything else as in JSON, with its strict types.

    properties: of the body's JSON Schema, by name.
    """

    properties: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, schema: type[BaseModel], *, without: Collection[str]) -> Self:
        """All members of `schema` but those that a body always has room for."""
        properties = describe_schema(schema)["properties"]
        return cls({name: described for name, described in properties.items() if name not in without})

    def describe(self) -> list[dict[str, Any]]:
        """As OpenAPI parameters."""
        parameters = []
        for name, described in self.properties.items():
            schema = {key: value for key, value in described.items() if key != "title"}
            is_object = schema["type"] == "object"
            form = {"content": {JSON: {"schema": schema}}} if is_object else {"schema": schema}
            parameters.append({"name": name, "in": "query", "required": False, **form})
        return parameters

    def read(self, query: bytes) -> dict[str, Any]:
        """The members that a query string gives, as JSON would have them; whether they fit the schema is not asked.

        Problem: malformed-request where it is not UTF-8, validation-failed for a name that is unknown or repeated, and
        for what cannot be read.
        """
        try:
            pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise Problem("malformed-request", "The query string is not UTF-8.") from None
        given: dict[str, list[str]] = {}
        for name, text in pairs:
            given.setdefault(name, []).append(text)
        members, faults = {}, []
        for name, texts in given.items():
            try:
                members[name] = self._member(name, texts)
            except Problem as problem:
                at = json_pointer((name,))
                faults += [FieldError(at + error.pointer, error.code, error.detail) for error in problem.errors]
        if faults:
            raise validation_failed(*faults[:MAX_ERRORS])
        return members

    def _member(self, name: str, texts: list[str]) -> Any:
        if name not in self.properties:
            raise validation_failed(FieldError("", "extra-forbidden", "is not a known option"))
        if any("\0" in text for text in texts):
            raise validation_failed(FieldError("", "nul", "contains a NUL character"))
        kind = self.properties[name]["type"]
        if kind == "array":
            return texts
        if len(texts) > 1:
            raise validation_failed(FieldError("", "duplicate-key", "appears more than once"))
        return texts[0] if kind == "string" else _read(texts[0], kind)


def _read(text: str, kind: str) -> Any:
    try:
        return read_json(text.encode())
    except Problem as problem:
        if problem.errors:
            raise
    if kind == "object":
        raise validation_failed(FieldError("", "not-json", "must be an object, written as JSON"))
    return text  # whose type is wrong: the schema says what it must be
