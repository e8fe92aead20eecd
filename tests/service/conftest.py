"""A database, SQLite and PostgreSQL in turn."""

from collections.abc import Iterator

import pytest

from service.kit.database import Database
from service.kit.metrics import Metrics


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database at the newest revision; the test runs on both kinds."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def metrics() -> Metrics:
    """The series of one process."""
    return Metrics(version="test")
