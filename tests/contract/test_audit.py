"""What callers do stands in the audit log, with the key that did it and the request, and without ids of users."""

from pathlib import Path
from typing import Any

from sqlalchemy import select

from service.audit.repository import entries
from service.audit.tables import AuditEntry
from service.keys.tables import ApiKey
from tests.contract.conftest import Api
from tests.contract.test_models import put_version
from tests.contract.worlds import SEEDS, expand, publish


def log(api: Api) -> list[AuditEntry]:
    with api.database.read() as session:
        return list(entries(session, tenant=None, since=None))


def key_id(api: Api, name: str) -> str:
    with api.database.read() as session:
        return session.scalars(select(ApiKey.id).where(ApiKey.prefix == api.keys[name].split("_")[1])).one()


def test_who_did_what_is_kept_with_the_request(api: Api, tmp_path: Path) -> None:
    (tmp_path / "imports").mkdir()
    (tmp_path / "imports" / "users.parquet").write_bytes(b"the worker will look")
    for version in ("v2", "v3"):
        put_version(api, version)
    job_id = expand(api)["id"]
    cancelled = api.post(f"/jobs/{job_id}/cancel", headers={"X-Request-ID": "request-of-the-cancel"})
    api.post(f"/jobs/{job_id}/cancel")
    api.call("DELETE", f"/jobs/{job_id}")
    api.post("/models/v2/promote", key="operator")
    api.post("/models/v3/promote", {"reason": "it is better"}, key="operator")
    api.post("/models/rollback", {"reason": "it is not"}, key="operator")
    schema = {"user_features": [{"name": "age", "kind": "numeric"}]}
    imported = api.post(
        "/pool/imports", {"users": "users.parquet", "schema": schema, "mode": "replace"}, key="operator"
    )
    found = [(entry.action, entry.subject, entry.tenant, entry.actor, entry.reason) for entry in log(api)]
    acme, operator = key_id(api, "acme"), key_id(api, "operator")
    assert found == [
        ("campaign.expand", job_id, "acme", acme, ""),
        ("job.cancel", job_id, "acme", acme, ""),
        ("job.delete", job_id, "acme", acme, ""),
        ("model.promote", "v2", None, operator, ""),
        ("model.promote", "v3", None, operator, "it is better"),
        ("model.rollback", "v2", None, operator, "it is not"),
        ("pool.import", imported.json()["id"], "acme", operator, ""),
    ]
    assert log(api)[0].counts == {"seeds": 30, "superseded": 0}
    assert log(api)[1].request_id == cancelled.headers["x-request-id"] == "request-of-the-cancel"


def test_what_was_refused_or_done_before_is_not_told(sqlite_api: Api) -> None:
    body = {"seed_user_ids": SEEDS, "on_active": "reject"}
    first = sqlite_api.post("/campaigns/spring/expand", body, headers={"Idempotency-Key": "once"})
    again = sqlite_api.post("/campaigns/spring/expand", body, headers={"Idempotency-Key": "once"})
    assert again.json()["id"] == first.json()["id"]
    assert sqlite_api.post("/campaigns/spring/expand", body).status_code == 409
    sqlite_api.call("DELETE", f"/jobs/{first.json()['id']}")
    sqlite_api.post("/jobs/job_0/cancel")
    assert [entry.action for entry in log(sqlite_api)] == ["campaign.expand"]


def test_look_ups_are_told_by_key_and_campaign_and_never_by_user(sqlite_api: Api) -> None:
    publish(sqlite_api, expand(sqlite_api)["id"], 10)
    for user_ids in (["user-000001", "user-000002"], ["user-000003"]):
        sqlite_api.post("/campaigns/spring/audience/lookup", {"user_ids": user_ids})
    sqlite_api.get("/users/user-000001/audiences")
    sqlite_api.app.state.lookups.flush(sqlite_api.database)
    lookups = log(sqlite_api)[1:]
    assert [(entry.subject, entry.counts) for entry in lookups] == [
        ("spring", {"requests": 2, "users": 3}),
        ("*", {"requests": 1, "users": 1}),
    ]
    assert {entry.actor for entry in lookups} == {key_id(sqlite_api, "acme")}
    everything: Any = [vars(entry) for entry in log(sqlite_api)]
    assert "user-" not in str(everything)
