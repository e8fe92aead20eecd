"""The online stage on a tiny world of both presets."""

from collections.abc import Iterator

import pytest

from service.kit.metrics import Metrics
from tests.fixtures.stage import Stage, open_stage
from tests.fixtures.tiny import TinyWorld, make_world


@pytest.fixture(scope="package", params=["default", "metaheac"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def stage(world: TinyWorld, sqlite_url: str, redis_url: str, metrics: Metrics) -> Iterator[Stage]:
    with open_stage(world, sqlite_url, redis_url, metrics) as stage:
        yield stage
