"""A served model and pool as rows, finished jobs with audiences, and what the tests ask of every problem."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
from sqlalchemy import insert, select, update

from service.audiences.cache import AudienceCache
from service.audiences.publishing import AudiencePublisher, StoredAudience
from service.jobs import claims
from service.jobs.states import Kind, Queue, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from service.models.tables import ModelVersion
from service.pool.tables import Snapshot
from service.serving.tables import Representation, Serving

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FEATURES = [
    {"name": "age", "kind": "numeric"},
    {"name": "city", "kind": "categorical"},
    {"name": "likes", "kind": "multi"},
]
SEEDS = [f"user-{number}" for number in range(30)]
REQUEST = {"seed_user_ids": SEEDS}
SIZE = 3_456  # of an audience: four chunks, the last of them short


def serve_a_model_and_a_pool(database: Database) -> None:
    """Rows of a served triple: model `v1`, snapshot `pool_1`."""
    with database.write() as session:
        add_version(session, "v1")
        session.execute(
            insert(Snapshot).values(id="pool_1", size=10_000, sha256="p" * 64, features=FEATURES, as_of=NOW)
        )
        session.execute(insert(Representation).values(id="rep_1", model_version="v1", snapshot_id="pool_1"))
        session.execute(
            update(Serving).values(
                model_version="v1",
                snapshot_id="pool_1",
                representation_id="rep_1",
                desired_model_version="v1",
                desired_snapshot_id="pool_1",
            )
        )


def add_version(session: Any, version: str, sha256: str = "m" * 64) -> None:
    """The row of a published model version."""
    session.execute(
        insert(ModelVersion).values(
            version=version,
            name="default",
            sha256=sha256,
            campaign_features=[{"name": "topic", "kind": "categorical"}],
            metrics={"auc": 0.7},
            gate={"accepted": True},
            trained_at=NOW,
        )
    )


def claim(database: Database) -> claims.Claim:
    """Take the next job as a worker would, on the served triple."""
    with database.write() as session:
        claimed = claims.claim(session, queues=list(Queue), kinds=list(Kind), owner="worker:1", lease_seconds=30)
        assert claimed is not None
        assert claims.pin(session, claimed, model_version="v1", snapshot_id="pool_1", representation_id="rep_1")
    return claimed


def ids_and_scores(size: int) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float64]]]:
    """A made-up ranking, in order, with ties."""
    return [f"user-{rank:06d}" for rank in range(size)], np.round(np.linspace(0.99, 0.01, size), 3)


def publish(
    api: Any,
    job_id: str,
    size: int,
    *,
    user_ids: list[str] | None = None,
    insights: Sequence[Mapping[str, Any]] | None = None,
) -> StoredAudience:
    """Do the job as a worker would: claim it, publish an audience of that size, end it."""
    claimed = claim(api.database)
    assert claimed.job_id == job_id
    metrics = Metrics(version="test")
    cache = Cache(api.app.state.settings.redis_url, metrics)
    publisher = AudiencePublisher(api.app.state.artifacts.audiences, AudienceCache(cache, 30), 30)
    with api.database.read() as session:
        job = session.get_one(Job, job_id)
    made_up, scores = ids_and_scores(size)
    stored = publisher.store(job, "v1", user_ids or made_up, scores)
    manifest = {"seed_sha256": "s", "model_sha256": "m", "pool_sha256": "p", "random_seed": 7}
    result = {
        "seed": {"submitted": 30, "unique": 30, "duplicates": 0, "matched": 28, "unknown": 2, "match_rate": 0.933333},
        "pool_eligible": 9_000,
        "audience": stored.view(),
        "manifest": {**manifest, "audience_sha256": stored.sha256},
        "warnings": [{"code": "low_match_rate", "detail": "few"}],
    }
    with api.database.write() as session:
        assert claims.finish(session, claimed, State.SUCCEEDED, result=result, expires_in_days=30)
        publisher.insert(session, job, stored, insights)
    publisher.fill_cache(stored)
    cache.close()
    return stored


def expand(api: Any, name: str = "spring", *, key: str = "acme", **options: Any) -> dict[str, Any]:
    """Submit an expansion; the Job document."""
    answer = api.post(f"/campaigns/{name}/expand", {**REQUEST, **options}, key=key)
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    return document


def count_jobs(database: Database) -> int:
    """Rows in the job table."""
    with database.read() as session:
        return len(session.scalars(select(Job.id)).all())


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The answer is that problem in the one shape of all problems; its document."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.content) <= 64 << 10
    return document


def pointers(answer: httpx.Response) -> list[str]:
    """Where a 422 found faults."""
    return [error["pointer"] for error in assert_problem(answer, 422, "validation-failed")["errors"]]
