"""An OpenAPI document that is true: every operation with an example, and with the problems that it can end in."""

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from fastapi import FastAPI

from service.kit.describing import PROBLEMS
from service.kit.errors import CATALOGUE, MEDIA_TYPE, FieldError, Problem

REQUEST_ID = "0f8b6c1de2a94c0f8d8f3a6f6a1f9c55"

# What any request can end in: it is read before anybody knows which route it is for.
_ANY = (
    "malformed-request",
    "request-timeout",
    "payload-too-large",
    "uri-too-long",
    "unsupported-media-type",
    "headers-too-large",
    "internal",
)
_WITH_KEY = ("unauthenticated", "insufficient-scope", "not-acceptable", "dependency-unavailable")
_WITH_BODY = ("validation-failed",)

_TEXT = {"type": "string"}
_PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Extensions are possible; values that were sent are never repeated.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {**_TEXT, "description": "A path of this service that explains the problem; it ends in the slug."},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "request_id": _TEXT,
        "errors": {
            "type": "array",
            "maxItems": 20,
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {"pointer": _TEXT, "code": _TEXT, "detail": _TEXT},
            },
        },
    },
}
_REQUEST_ID_HEADER = {"description": "Names the request in the service's log.", "schema": _TEXT}
_RETRY_AFTER_HEADER = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}


class DescribedApi(FastAPI):
    """An application whose OpenAPI document names its problems."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi())
        return self.openapi_schema


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    # FastAPI's own answer to invalid requests, which this application never gives.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = _PROBLEM_SCHEMA
    components["examples"] = {slug: {"value": _example(slug)} for slug in CATALOGUE}
    examples = json.loads(files(__package__).joinpath("examples.json").read_text("utf-8"))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _complete(operation)
            _show(operation, examples.get(f"{method.upper()} {path}", {}))
    return document


def _show(operation: dict[str, Any], example: Mapping[str, Any]) -> None:
    """Put an example's `request` and `response` where they belong: each is by media type."""
    succeeded = next(response for status, response in operation["responses"].items() if status.startswith("2"))
    for part, shown in (("request", operation.get("requestBody", {})), ("response", succeeded)):
        for media_type, value in example.get(part, {}).items():
            shown["content"][media_type]["examples"] = {"usual": {"value": value}}


def _complete(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop(str(HTTPStatus.UNPROCESSABLE_ENTITY.value), None)
    by_status: dict[str, list[str]] = {}
    for slug in dict.fromkeys((*_common(operation), *operation.pop(PROBLEMS, ()))):
        by_status.setdefault(str(CATALOGUE[slug].status), []).append(slug)
    for status, slugs in by_status.items():
        responses.setdefault(status, _response(slugs))
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-ID"] = _REQUEST_ID_HEADER
    operation["responses"] = dict(sorted(responses.items()))


def _common(operation: Mapping[str, Any]) -> Iterator[str]:
    yield from _ANY
    if operation.get("security"):
        yield from _WITH_KEY
    if "requestBody" in operation:
        yield from _WITH_BODY
    parameters = [(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", ())]
    if any(place == "path" for place, _ in parameters):
        yield "not-found"
    if any(place != "path" for place, _ in parameters):
        yield "invalid-parameter"
    if ("query", "page_token") in parameters:
        yield "invalid-page-token"


def _response(slugs: list[str]) -> dict[str, Any]:
    status = CATALOGUE[slugs[0]].status
    headers = {"Retry-After": _RETRY_AFTER_HEADER} if _retried(status) else {}
    return {
        "description": " or ".join(f"`{slug}`" for slug in slugs),
        "headers": headers,
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {slug: {"$ref": f"#/components/examples/{slug}"} for slug in slugs},
            }
        },
    }


def _retried(status: int) -> bool:
    return status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def _example(slug: str) -> dict[str, Any]:
    fault = FieldError("/audience_size", "greater-than-equal", "must be at least 1")
    errors = (fault,) if slug == "validation-failed" else ()
    return Problem(slug, errors=errors).as_document(REQUEST_ID)
