"""A server that vanishes without closing its connections is noticed within half a minute."""

import socket

from redis import asyncio as redis_asyncio

from service.kit import keepalive
from service.kit.database import Database
from service.kit.redis import connect, tcp_options


def test_half_a_minute_is_enough_for_both_ways_to_notice() -> None:
    assert keepalive.IDLE_SECONDS + keepalive.PROBES * keepalive.INTERVAL_SECONDS <= 30
    assert keepalive.UNACKNOWLEDGED_SECONDS <= 30


def test_connections_to_redis_on_another_machine_are_probed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with connect(url) as client, client.connection_pool.make_connection()._connect() as probed:
            assert probed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert probed.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == keepalive.IDLE_SECONDS
            assert probed.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == keepalive.PROBES
    for each in (url, "unix:///tmp/redis.sock"):  # options that the kind of connection knows
        redis_asyncio.Redis.from_url(each, **tcp_options(each)).connection_pool.make_connection()


def test_connections_to_postgresql_are_probed(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.engine.connect() as connection:
        parameters = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    database.dispose()
    assert parameters["keepalives_idle"] == str(keepalive.IDLE_SECONDS)
    assert parameters["tcp_user_timeout"] == str(1_000 * keepalive.UNACKNOWLEDGED_SECONDS)
