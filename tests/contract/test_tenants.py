"""`lookalike tenants delete`: nothing that is a tenant's own stays, and nobody else loses anything."""

from typing import Any

import pytest
import redis
from sqlalchemy import func, select
from typer.testing import CliRunner

from service.__main__ import app
from service.audiences.tables import Audience
from service.campaigns.tables import Campaign
from service.commands.kit import CommandError
from service.erasures.tables import Erasure
from service.jobs.tables import IdempotencyKey, Job, JobInput, TenantTurn
from service.keys.tables import ApiKey
from service.kit.database import Base
from service.tenants.tables import Tenant
from tests.contract.conftest import Api
from tests.contract.worlds import expand, publish

TABLES: tuple[type[Base], ...] = (ApiKey, Tenant, Campaign, Job, JobInput, Audience, IdempotencyKey, TenantTurn)


def run(api: Api, monkeypatch: pytest.MonkeyPatch, tenant: str) -> None:
    settings = api.app.state.settings
    for name in ("database_url", "redis_url", "lookalike_home"):
        monkeypatch.setenv(name.upper(), str(getattr(settings, name)))
    done = CliRunner().invoke(app, ["tenants", "delete", tenant], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "")


def counts(api: Api) -> list[int]:
    with api.database.read() as session:
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in TABLES]


def test_a_tenant_is_deleted_with_all_that_is_its_own(
    api: Api, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = expand(api, key="globex")["id"]
    publish(api, theirs, 300)
    before = counts(api)
    store = api.app.state.artifacts.audiences
    objects = store.names("audiences")
    mine = expand(api)["id"]
    publish(api, mine, 3_000)
    queued = {"Idempotency-Key": "order-1"}
    assert api.post("/campaigns/autumn/expand", {"seed_user_ids": ["u"]}, headers=queued).status_code == 202
    assert api.post("/erasures", {"user_ids": ["u"]}, key="operator").status_code == 202
    run(api, monkeypatch, "acme")
    # What is left: the other tenant's, and the erasure, which is everybody's.
    keys, tenants, campaigns, jobs, *rest = counts(api)
    assert (keys, tenants, campaigns, jobs) == (1, 1, 1, 2)
    assert rest == before[4:]
    with api.database.read() as session:
        assert session.scalars(select(Erasure)).one().finished_at is None
    assert store.names("audiences") == objects
    with redis.Redis.from_url(redis_url) as client:
        names: Any = client.keys("lookalike:*:job_*")
    assert names
    assert all(theirs in name.decode() for name in names)
    assert api.get(f"/jobs/{theirs}/audience", key="globex").json()["audience_size"] == 300


def test_a_tenant_that_nobody_knows_is_named(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="there is no tenant nobody"):
        run(sqlite_api, monkeypatch, "nobody")
