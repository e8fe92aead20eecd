"""An expansion's body in its three forms: all as one JSON object, or the seeds as a file with options in the query."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from service.campaigns.schemas import ExpansionForm
from service.campaigns.seed_files import CSV, NDJSON, read_csv, read_ndjson
from service.kit.bodies import describe_body, json_pointer, read_json, validate_body
from service.kit.errors import MAX_ERRORS, FieldError, validation_failed
from service.kit.media import JSON, body_media
from service.kit.options import QueryOptions

OPTIONS = QueryOptions.of(ExpansionForm, without=("seed_user_ids", "seed_weights"))


@dataclass(frozen=True)
class ExpansionBody:
    """What was asked for, and the media type it was asked in."""

    media: str
    form: ExpansionForm

    def fingerprint(self, method: str, path: str) -> str:
        """Equal for requests that mean the same: the body and the options as read, not as spelled."""
        meaning = [method, path, self.media, self.form.model_dump(mode="json", by_alias=True)]
        return hashlib.sha256(json.dumps(meaning, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


async def expansion_body(request: Request) -> ExpansionBody:
    """A dependency that reads the body and the options. Problem: unsupported-media-type, malformed-request,
    validation-failed."""
    media = body_media(request, (JSON, CSV, NDJSON))
    raw = await request.body()
    return ExpansionBody(media, await run_in_threadpool(_read, media, raw, request.scope["query_string"]))


def describe_expansion() -> dict[str, Any]:
    """For `openapi_extra`: the three forms of the body, and the options."""
    described = describe_body(ExpansionForm)
    columns = "A `user_id` and, if wanted, a `weight` above 0 (1 where there is none) in each line; UTF-8."
    described["requestBody"]["description"] = (
        "Everything as one JSON object, or the seeds alone as CSV or NDJSON. The other fields may stand in the query "
        "string, whatever the form: text as it is, arrays by repeating the name, the rest as in JSON."
    )
    described["requestBody"]["content"] |= {
        CSV: {
            "schema": {"type": "string", "description": f"{columns} The first line names the columns."},
            "example": "user_id,weight\nu123,1\nu124,2.5\n",
        },
        NDJSON: {
            "schema": {"type": "string", "description": f"{columns} Each line is a JSON object."},
            "example": '{"user_id": "u123"}\n{"user_id": "u124", "weight": 2.5}\n',
        },
    }
    return {**described, "parameters": OPTIONS.describe()}


def _read(media: str, raw: bytes, query: bytes) -> ExpansionForm:
    options = OPTIONS.read(query)
    if media == JSON:
        return validate_body(ExpansionForm, _merged(read_json(raw), options))
    seeds = read_csv(raw) if media == CSV else read_ndjson(raw)
    members = {"seed_user_ids": seeds.user_ids, **({} if seeds.weights is None else {"seed_weights": seeds.weights})}
    return validate_body(ExpansionForm, members | options)


def _merged(body: Any, options: dict[str, Any]) -> Any:
    if not isinstance(body, dict):
        return body
    twice = [name for name in options if name in body]
    if twice:
        detail = "appears both in the body and in the query string"
        faults = [FieldError(json_pointer((name,)), "duplicate-key", detail) for name in twice]
        raise validation_failed(*faults[:MAX_ERRORS])
    return body | options
