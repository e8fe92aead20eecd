"""The pool over HTTP: the served snapshot, and imports as jobs."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.jobs.tables import Job
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import FEATURES, assert_problem, count_jobs, pointers

SCHEMA = {"user_features": [{"name": "age", "kind": "numeric"}]}
BODY = {"users": "users.parquet", "schema": SCHEMA, "mode": "replace"}


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    folder = tmp_path / "imports"
    folder.mkdir()
    (folder / "users.parquet").write_bytes(b"the worker will look")
    return folder


def test_the_served_snapshot_is_shown(api: Api) -> None:
    assert api.get("/pool").json() == {
        "snapshot_id": "pool_1",
        "size": 10_000,
        "sha256": "p" * 64,
        "as_of": "2026-01-02T03:04:05Z",
        "features": FEATURES,
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


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"mode": "upsert"}, "/mode"),
    ({"mode": "delete"}, "/mode"),
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
    ({"schema": {}}, "/schema"),
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
