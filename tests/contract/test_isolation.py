"""What one tenant has does not exist for another: every route that names something is asked for what is there, by a
stranger with every scope, and for what is not."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.keys.service import create_key
from tests.contract.conftest import Api
from tests.contract.worlds import expand, ids_and_scores, publish

CAMPAIGN = "spring-of-acme"
NOTHING = {"job_id": "job_0", "campaign_id": "nothing", "erasure_id": "erasure_0"}
MEMBERS = 50


@pytest.fixture
def stranger(sqlite_api: Api) -> str:
    with sqlite_api.database.write() as session:
        return create_key(session, "globex", ["all"], operator=True).text


def routes(api: Api) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and options, with the body that the documentation shows, of those that name a tenant's things; a
    campaign that is put becomes the caller's own."""
    for path, methods in api.get("/openapi.json").json()["paths"].items():
        if not any(f"{{{name}}}" in path for name in NOTHING):
            continue
        for method, operation in methods.items():
            if method == "put":
                continue
            contents = operation.get("requestBody", {}).get("content", {})
            examples = contents.get("application/json", {}).get("examples", {})
            shown = next(iter(examples.values()), None)
            yield method.upper(), path, {"json": shown["value"]} if shown else {}


def without_request(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    document = answer.json() if answer.content else {}
    document.pop("request_id", None)
    return answer.status_code, document


def test_what_is_there_and_what_is_not_are_answered_alike(sqlite_api: Api, stranger: str) -> None:
    job_id = expand(sqlite_api, CAMPAIGN)["id"]
    publish(sqlite_api, job_id, MEMBERS)
    erasure = sqlite_api.post("/erasures", {"user_ids": ["user-000001"]}, key="operator").json()
    theirs = {"job_id": job_id, "campaign_id": CAMPAIGN, "erasure_id": erasure["id"]}
    before = sqlite_api.get(f"/jobs/{job_id}").json(), sqlite_api.get(f"/jobs/{job_id}/audience").json()
    walked = 0
    for method, path, options in routes(sqlite_api):
        foreign = sqlite_api.call(method, path.format(**theirs), key=stranger, **options)
        unknown = sqlite_api.call(method, path.format(**NOTHING), key=stranger, **options)
        assert without_request(foreign) == without_request(unknown), (method, path)
        assert foreign.status_code in (404, 422), (method, path)
        assert not any(name in foreign.text for name in theirs.values()), (method, path)
        walked += 1
    assert walked > 10
    assert (sqlite_api.get(f"/jobs/{job_id}").json(), sqlite_api.get(f"/jobs/{job_id}/audience").json()) == before


def test_no_list_shows_another_tenants_things(sqlite_api: Api, stranger: str) -> None:
    publish(sqlite_api, expand(sqlite_api, CAMPAIGN)["id"], MEMBERS)
    member = ids_and_scores(1)[0][0]
    for path, noun in (("/jobs", "jobs"), ("/campaigns", "campaigns"), (f"/users/{member}/audiences", "audiences")):
        assert sqlite_api.get(path).json()[noun]
        assert sqlite_api.get(path, key=stranger).json()[noun] == []
