"""An installation to load: a real PostgreSQL, Redis and one api process, with an audience published and no model."""

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from scipy.stats import beta

from service.audiences.cache import AudienceCache
from service.audiences.publishing import AudiencePublisher
from service.campaigns import repository as campaigns
from service.config import Settings
from service.jobs import claims
from service.jobs.repository import NewJob, add_job
from service.jobs.states import Kind, Queue, State
from service.jobs.tables import Job
from service.keys.service import create_key
from service.kit.artifacts import open_artifacts
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.kit.processes import start_child, stop_child
from service.kit.redis import Cache
from service.schema import migrate
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer
from tests.fixtures.service import free_port
from tests.fixtures.waiting import eventually

TENANT = "load"
RETENTION_DAYS = 1


@dataclass(frozen=True)
class Installation:
    """Where it listens, a key for it, and what is its own to watch."""

    url: str
    key: str
    redis_url: str
    api_pid: int


@contextmanager
def running(campaign: str, members: int, *, uuids: bool) -> Iterator[Installation]:
    """Start everything, publish an audience of so many members, and end everything."""
    with (
        tempfile.TemporaryDirectory(prefix="lookalike-load-") as home,
        PostgresServer() as postgres,
        RedisServer() as redis,
    ):
        port = free_port()
        settings = Settings(
            lookalike_home=Path(home),
            database_url=postgres.make_database("load"),
            redis_url=redis.url,
            api_port=port,
            expand_per_minute=0,
            active_jobs_max=0,
        )
        database = Database(settings.resolved_database_url)
        migrate(database)
        with database.write() as session:
            key = create_key(session, TENANT, ["all"]).text
        _publish(database, settings, campaign, members, uuids=uuids)
        database.dispose()
        api = _start_api(settings)
        url = f"http://{settings.api_host}:{port}"
        try:
            if not eventually(lambda: _answers(url), 30):
                raise TimeoutError("the api does not answer")
            yield Installation(url, key, redis.url, api.pid)
        finally:
            stop_child(api, settings.shutdown_grace_seconds)


def _publish(database: Database, settings: Settings, campaign: str, members: int, *, uuids: bool) -> None:
    with database.write() as session:
        key = campaigns.get_or_add(session, TENANT, campaign).key
        request = {"deny_features": [], "eligibility": []}
        new = NewJob(Kind.EXPAND, request, 3_600, 1, tenant=TENANT, campaign_key=key, campaign_id=campaign)
        job_id = add_job(session, new).id
    with database.write() as session:
        claimed = claims.claim(session, queues=list(Queue), kinds=[Kind.EXPAND], owner="load", lease_seconds=600)
        assert claimed is not None
        job = session.get_one(Job, job_id)
    cache = Cache(settings.redis_url, Metrics(version="load"))
    objects = open_artifacts(settings).audiences
    publisher = AudiencePublisher(objects, AudienceCache(cache, RETENTION_DAYS), RETENTION_DAYS)
    stored = publisher.store(job, "v1", *_ranking(members, uuids=uuids))
    with database.write() as session:
        assert claims.finish(session, claimed, State.SUCCEEDED, result={}, expires_in_days=RETENTION_DAYS)
        publisher.insert(session, job, stored)
    publisher.fill_cache(stored)
    cache.close()


def _ranking(members: int, *, uuids: bool) -> tuple[list[str], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Members drawn from a pool of a hundred times as many, with scores like those of a model."""
    generator = np.random.default_rng(0)
    if uuids:
        user_ids = [str(uuid.UUID(bytes=generator.bytes(16), version=4)) for _ in range(members)]
    else:
        user_ids = [f"u{number:08d}" for number in generator.choice(100 * members, members, replace=False)]
    scores = np.sort(beta.ppf(1 - generator.random(members) / 100, 8, 2))[::-1]
    return user_ids, np.round(scores, 6)


def _start_api(settings: Settings) -> "subprocess.Popen[bytes]":
    environment = {name.upper(): str(value) for name, value in settings.model_dump(exclude_unset=True).items()}
    log = settings.lookalike_home / "api.log"
    with log.open("wb") as stream:
        return start_child(
            [sys.executable, "-m", "service", "api"],
            env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
            stdout=stream,
            stderr=stream,
        )


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
