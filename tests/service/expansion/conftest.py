"""The online stage on a tiny world of both presets."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from model.pool import Pool
from service.audiences.cache import AudienceCache
from service.audiences.file import AudienceFile
from service.audiences.publishing import AudiencePublisher
from service.audiences.tables import Audience
from service.campaigns.inputs import ExpansionInputs
from service.campaigns.request import ExpansionRequest
from service.erasures.repository import TombstoneReader
from service.erasures.tombstones import ErasureKey
from service.expansion.expand import ExpandHandler
from service.expansion.preflight import PreflightHandler
from service.jobs.repository import NewJob
from service.jobs.runner import Handler, Runner
from service.jobs.states import Kind, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from service.schema import migrate
from service.serving.loader import Loader
from tests.fixtures.tiny import TinyWorld, add_and_run, make_world

MIN_SEEDS = 25
KEY = ErasureKey(b"k" * 32)


@dataclass(frozen=True)
class Stage:
    """Everything the online stage needs, and short ways to use it."""

    world: TinyWorld
    database: Database
    loader: Loader
    runner: Runner

    @property
    def pool(self) -> Pool:
        return self.loader.pool(self.world.imported.snapshot_id)

    def expand(self, seeds: list[str] | None = None, **options: Any) -> Job:
        return self._run(Kind.EXPAND, seeds, options, tenant="acme", campaign_key=1, campaign_id="spring")

    def preflight(self, seeds: list[str] | None = None, **options: Any) -> Job:
        return self._run(Kind.PREFLIGHT, seeds, options)

    def _run(self, kind: Kind, seeds: list[str] | None, options: dict[str, Any], **whose: Any) -> Job:
        chosen = self.world.seeds() if seeds is None else seeds
        lists = {name: options.pop(name, None) for name in ("weights", "negatives", "excluded")}
        request = ExpansionRequest(ExpansionInputs.of(chosen, **lists), submitted=len(chosen), **options)
        new = NewJob(
            kind=kind,
            request=request.options(),
            payload=request.inputs.encode(),
            deadline_seconds=60,
            max_attempts=2,
            **whose,
        )
        return add_and_run(self.database, self.runner, new)

    def members(self, job: Job) -> tuple[list[str], list[float]]:
        assert job.state == State.SUCCEEDED, job.error
        with self.database.read() as session:
            audience = session.get_one(Audience, job.id)
        with AudienceFile.open_object(self.world.artifacts.audiences, audience.object_name) as file:
            chunks = list(file)
        ids = [user_id for chunk in chunks for user_id in chunk.user_ids]
        return ids, [score for chunk in chunks for score in chunk.scores.tolist()]

    def insights(self, job: Job) -> list[dict[str, Any]]:
        with self.database.read() as session:
            return list(session.get_one(Audience, job.id).insights or ())


@pytest.fixture(scope="package", params=["default", "metaheac"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def stage(world: TinyWorld, tmp_path: Path, redis_url: str, metrics: Metrics) -> Iterator[Stage]:
    database = Database(f"sqlite:///{tmp_path / 'stage.db'}")
    migrate(database)
    loader = Loader(world.artifacts, torch.device("cpu"))
    cache = Cache(redis_url, metrics)
    publisher = AudiencePublisher(world.artifacts.audiences, AudienceCache(cache, 30), 30)
    handlers: dict[Kind, Handler] = {
        Kind.EXPAND: ExpandHandler(database, loader, publisher, metrics, MIN_SEEDS, TombstoneReader(database, KEY)),
        Kind.PREFLIGHT: PreflightHandler(database, loader, MIN_SEEDS),
    }
    world.serve(database, metrics, loader)
    yield Stage(world, database, loader, Runner(database, metrics, handlers, 30, 90))
    cache.close()
    database.dispose()
