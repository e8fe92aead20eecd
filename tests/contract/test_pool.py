"""The pool over HTTP: the served snapshot, and imports as jobs."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from service.campaigns.inputs import ExpansionInputs
from service.jobs.repository import get_payload
from service.jobs.tables import Job
from service.pool.tables import Snapshot
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import FEATURES, assert_problem, count_jobs, expand, pointers, publish

SCHEMA = {"user_features": [{"name": "age", "kind": "numeric"}]}
BODY = {"users": "users.parquet", "schema": SCHEMA, "mode": "replace"}


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    folder = tmp_path / "imports"
    folder.mkdir()
    for name in ("users.parquet", "schema.json"):
        (folder / name).write_bytes(b"the worker will look")
    return folder


def test_the_served_snapshot_is_shown(api: Api) -> None:
    assert api.get("/pool").json() == {
        "snapshot_id": "pool_1",
        "size": 10_000,
        "sha256": "p" * 64,
        "as_of": "2026-01-02T03:04:05Z",
        "features": FEATURES,
        "id_kind": "text",
        "pending": None,
    }


def test_without_a_pool_there_is_nothing_to_show(start_api: StartApi, sqlite_url: str) -> None:
    assert_problem(start_api(sqlite_url, served=False).get("/pool"), 404, "not-found")


def test_an_import_is_a_job(api: Api, imports: Path) -> None:
    answer = api.post("/pool/imports", BODY, key="operator")
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["state"], job["campaign_id"]) == ("queued", None)
    assert api.get(answer.headers["location"]).json() == job
    with api.database.read() as session:
        row = session.scalars(select(Job)).one()
    assert (row.kind, row.request) == ("import_pool", BODY)


def test_the_import_that_the_documentation_shows_is_taken(sqlite_api: Api, imports: Path) -> None:
    operation = sqlite_api.get("/openapi.json").json()["paths"]["/pool/imports"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["examples"]["usual"]["value"]
    assert sqlite_api.post("/pool/imports", example, key="operator").status_code == 202


def test_a_schema_may_be_named_by_its_location(sqlite_api: Api, imports: Path) -> None:
    for location in ("schema.json", str(imports / "schema.json")):
        answer = sqlite_api.post("/pool/imports", {**BODY, "schema": location}, key="operator")
        assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("mode", ["upsert", "delete"])
def test_an_update_of_the_pool_needs_no_schema(sqlite_api: Api, imports: Path, mode: str) -> None:
    answer = sqlite_api.post("/pool/imports", {"users": "users.parquet", "mode": mode}, key="operator")
    assert answer.status_code == 202, answer.text
    with sqlite_api.database.read() as session:
        row = session.scalars(select(Job)).one()
    assert row.request == {"users": "users.parquet", "schema": None, "mode": mode}


def test_a_pool_is_not_replaced_without_a_schema(sqlite_api: Api, imports: Path) -> None:
    answer = sqlite_api.post("/pool/imports", {"users": "users.parquet"}, key="operator")
    assert pointers(answer) == ["/schema"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"mode": "merge"}, "/mode"),
    ({"users": 1}, "/users"),
    ({"users": ""}, "/users"),
    ({"users": "../secret.parquet"}, "/users"),
    ({"users": "/etc/passwd"}, "/users"),
    ({"users": "absent.parquet"}, "/users"),
    ({"users": "link.parquet"}, "/users"),
    ({"users": "x" * 1_000}, "/users"),
    ({"users": "a\0b"}, "/users"),
    ({"schema": []}, "/schema"),
    ({"schema": ""}, "/schema"),
    ({"schema": "x" * 1_025}, "/schema"),
    ({"schema": "absent.json"}, "/schema"),
    ({"schema": "../schema.json"}, "/schema"),
    ({"schema": {}}, "/schema"),
    ({"schema": None}, "/schema"),
    ({"schema": {}, "mode": "upsert"}, "/schema"),
    ({"schema": {**SCHEMA, "id": {"kind": "phone"}}}, "/schema"),
    ({"schema": {**SCHEMA, "id": "text"}}, "/schema"),
    ({"schema": {**SCHEMA, "id": {"kind": "text", "salt": "x"}}}, "/schema"),
    ({"schema": {"user_features": [{"name": "age", "kind": "odd"}]}}, "/schema"),
    ({"surprise": 1}, "/surprise"),
]


def test_what_cannot_be_imported_is_refused_at_once(sqlite_api: Api, imports: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.parquet").write_bytes(b"secret")
    (imports / "link.parquet").symlink_to(tmp_path / "secret.parquet")
    for changes, pointer in WRONG:
        answer = sqlite_api.post("/pool/imports", {**BODY, **changes}, key="operator")
        assert pointers(answer) == [pointer], changes
        assert str(tmp_path) not in answer.text
    assert count_jobs(sqlite_api.database) == 0


def serve_hashed_addresses(api: Api) -> None:
    with api.database.write() as session:
        session.execute(update(Snapshot).values(id_kind="email_sha256"))


def stored_inputs(api: Api, job_id: str) -> ExpansionInputs:
    with api.database.read() as session:
        payload = get_payload(session, job_id)
    assert payload is not None
    return ExpansionInputs.decode(payload)


def hashed(address: str) -> str:
    return sha256(address.encode()).hexdigest()


def test_ids_are_stored_in_their_normal_form(sqlite_api: Api) -> None:
    body = {"seed_user_ids": [" u1 ", "u1", "e\u0301"], "exclude_user_ids": ["x ", " x"], "seed_weights": [1, 2, 3]}
    job = expand(sqlite_api, **body)
    inputs = stored_inputs(sqlite_api, job["id"])
    assert (inputs.seeds, inputs.weights, inputs.excluded) == (("u1", "\u00e9"), (2, 3), ("x",))
    assert (job["seed"]["submitted"], job["seed"]["unique"]) == (3, 2)


def test_addresses_are_hashed_at_the_door_and_hashes_may_be_sent_instead(sqlite_api: Api) -> None:
    serve_hashed_addresses(sqlite_api)
    seeds = [" Ann@Example.com", hashed("ann@example.com").upper(), "bob@example.com"]
    job = expand(sqlite_api, seed_user_ids=seeds, negative_user_ids=["eve@example.com"])
    inputs = stored_inputs(sqlite_api, job["id"])
    assert inputs.seeds == tuple(sorted(map(hashed, ("ann@example.com", "bob@example.com"))))
    assert inputs.negatives == (hashed("eve@example.com"),)


def test_a_negative_that_is_a_seed_in_another_form_is_refused(sqlite_api: Api) -> None:
    serve_hashed_addresses(sqlite_api)
    body = {"seed_user_ids": ["Ann@example.com"], "negative_user_ids": ["ann@example.com"]}
    assert pointers(sqlite_api.post("/campaigns/spring/expand", body)) == ["/negative_user_ids"]


def test_addresses_are_not_stored_before_there_is_a_pool_to_say_what_they_are(
    start_api: StartApi, sqlite_url: str
) -> None:
    api = start_api(sqlite_url, served=False)
    body = {"seed_user_ids": ["ann@example.com", "u1"], "exclude_user_ids": ["bob@example.com"]}
    answer = api.post("/campaigns/spring/expand", body)
    assert pointers(answer) == ["/seed_user_ids", "/exclude_user_ids"]
    assert "example.com" not in answer.text
    assert count_jobs(api.database) == 0
    assert api.post("/campaigns/spring/expand", {"seed_user_ids": ["u1"]}).status_code == 202


def test_users_are_looked_up_by_any_form_of_their_id(sqlite_api: Api) -> None:
    publish(sqlite_api, expand(sqlite_api)["id"], 10)
    asked = [" user-000003 ", "user-000003", "user-3"]
    answer = sqlite_api.post("/campaigns/spring/audience/lookup", {"user_ids": asked}).json()
    assert [(found["user_id"], found["rank"]) for found in answer["results"]] == [
        (asked[0], 4),
        (asked[1], 4),
        (asked[2], None),
    ]
    assert [found["rank"] for found in sqlite_api.get("/users/%20user-000003/audiences").json()["audiences"]] == [4]


def test_an_import_from_a_bucket_is_accepted_without_asking_it(start_api: StartApi, sqlite_url: str) -> None:
    api = start_api(sqlite_url, import_root="s3://bucket/users")
    body = {"users": "2026/day.parquet", "mode": "delete"}
    for location in (body["users"], "s3://bucket/users/2026/day.parquet"):
        assert api.post("/pool/imports", {**body, "users": location}, key="operator").status_code == 202
    for location in (
        "../day.parquet",
        "/day.parquet",
        "s3://elsewhere/day.parquet",
        "s3://bucket/users/../day.parquet",
    ):
        assert pointers(api.post("/pool/imports", {**body, "users": location}, key="operator")) == ["/users"]
