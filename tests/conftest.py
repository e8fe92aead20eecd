"""Stores for the tests: real servers, started once when first asked for; a database and a Redis of its own per test.

Databases are copies of one that was migrated once; the empty ones are for tests of what migrates them.
"""

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from service.kit.database import Database
from service.schema import migrate
from tests.fixtures.environment import forget_settings
from tests.fixtures.postgres import EMPTY, PostgresServer
from tests.fixtures.redis import RedisServer
from tests.fixtures.turns import turn


def pytest_configure() -> None:
    """Before any test is imported."""
    forget_settings()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where several processes share the tests (pytest -n), let those that measure time run alone."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with turn(item.config.cache.mkdir("turns"), alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's PostgreSQL; a test that stops or kills it may leave it so."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis_server() -> Iterator[RedisServer]:
    """The session's Redis."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a PostgreSQL database at the newest revision, which nobody uses."""
    postgres_server.start()
    name = "migrated"
    migrate_once(postgres_server.make_database(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a SQLite database at the newest revision, which nobody uses."""
    file = tmp_path_factory.mktemp("template") / "migrated.db"
    migrate_once(f"sqlite:///{file}")
    return file


def migrate_once(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.dispose()


@contextmanager
def fresh_database(server: PostgresServer, template: str) -> Iterator[str]:
    """The URL of a copy of the template, in the block."""
    server.start()
    name = f"test_{uuid4().hex}"
    yield server.make_database(name, template)
    server.start()
    server.drop_database(name)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a PostgreSQL database without tables."""
    with fresh_database(postgres_server, EMPTY) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a PostgreSQL database at the newest revision."""
    with fresh_database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'lookalike.db'}"


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a SQLite database at the newest revision."""
    file = shutil.copyfile(sqlite_template, tmp_path / "lookalike.db")
    return f"sqlite:///{file}"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables: the test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"empty_{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database at the newest revision: the test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def redis_server(shared_redis_server: RedisServer) -> Iterator[RedisServer]:
    """An empty Redis; the test may stop, kill, pause or restart it."""
    shared_redis_server.start()
    shared_redis_server.flush()
    yield shared_redis_server
    shared_redis_server.resume()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    return redis_server.url
