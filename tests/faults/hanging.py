"""Servers that are there and say nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer


@contextmanager
def hung(server: PostgresServer | RedisServer) -> Iterator[None]:
    """In the block the server is stopped, and its connections stay open."""
    server.pause()
    try:
        yield
    finally:
        server.resume()
