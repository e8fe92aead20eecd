"""What the faults are done to."""

from collections.abc import Iterator

import pytest

from tests.contract.conftest import _logs, start_api
from tests.faults.one_of_each import OneOfEach, one_of_each
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.receiver import Receiver, receiver
from tests.fixtures.redis import RedisServer

__all__ = ["_logs", "start_api"]


@pytest.fixture(scope="package")
def collector() -> Iterator[Receiver]:
    """Where the spans of `running` go."""
    with receiver() as started:
        yield started


@pytest.fixture(scope="package")
def running(
    postgres_server: PostgresServer,
    shared_redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
    collector: Receiver,
) -> Iterator[OneOfEach]:
    """One api, one worker and one scheduler, which many tests do something to. They are traced."""
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/hook"), "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with one_of_each(tmp_path_factory.mktemp("faults"), postgres_server, shared_redis_server, **traces) as service:
        yield service


@pytest.fixture
def service(running: OneOfEach, postgres_server: PostgresServer, redis_server: RedisServer) -> Iterator[OneOfEach]:
    """The same, well at the beginning, and again at the end."""
    postgres_server.start()
    running.keep_worker()
    running.wait(running.submit("warm"))
    yield running
    postgres_server.start()
