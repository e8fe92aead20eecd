"""Connections to PostgreSQL that do not wait for ever.

A server that is stopped closes no connection, and its kernel goes on acknowledging what it is sent: neither TCP's
time-outs nor `statement_timeout`, which is the server's to enforce, end the wait for its answer. Where the network
loses all that is sent, TCP's time-outs come late. So whoever has heard nothing for a while asks whether the server
still takes connections; as long as it does, a statement may take its time.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.errors import ConnectionTimeout
from sqlalchemy import Engine, event

from service.kit import keepalive
from service.kit.breaker import Breaker

STATEMENT_SECONDS = 30
LOCK_SECONDS = 5
CONNECT_SECONDS = 3
SILENCE_SECONDS = 2.0  # after which the server is asked
AWAY_SECONDS = 1.0  # for so long after a connection that was not answered nobody else tries


def connect_arguments(options: str = "") -> dict[str, Any]:
    """What psycopg connects with; options: more of the server's own, each begun by " -c "."""
    times = f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s"
    return {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": keepalive.IDLE_SECONDS,
        "keepalives_interval": keepalive.INTERVAL_SECONDS,
        "keepalives_count": keepalive.PROBES,
        "tcp_user_timeout": 1_000 * keepalive.UNACKNOWLEDGED_SECONDS,
        "options": f"-c timezone=utc {times}{options}",
    }


def bound_waits(engine: Engine) -> None:
    """Have the engine make connections that raise OperationalError once the server has fallen silent."""
    pulse = Pulse()

    def connect(_dialect: Any, _record: Any, arguments: list[Any], parameters: dict[str, Any]) -> HeardConnection:
        return pulse.connect(*arguments, **parameters)

    event.listen(engine, "do_connect", connect)


class HeardConnection(psycopg.Connection[Any]):
    """Waits for an answer as long as the server gives signs of life."""

    server_lives: Callable[[], bool]

    def wait(self, gen: PQGen[RV], *arguments: Any, **options: Any) -> RV:
        """What the generator returns when all that it waits for has come; raises OperationalError if nothing comes."""
        return super().wait(self._heard(gen), *arguments, **options)

    def _heard(self, gen: PQGen[RV]) -> PQGen[RV]:
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # READY_NONE ten times a second
                if ready:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > SILENCE_SECONDS:
                    if not self.server_lives():
                        self.pgconn.finish()  # by which SQLAlchemy knows that the connection is lost
                        raise psycopg.OperationalError("the server does not answer any more")
                    heard_at = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result


class Pulse:
    """Whether a server answers those who come. One asks at a time, and the others take its word."""

    def __init__(self) -> None:
        self._breaker = Breaker(AWAY_SECONDS)
        self._asking = threading.Lock()
        self._beat_at = -float("inf")

    def connect(self, *arguments: Any, **parameters: Any) -> HeardConnection:
        """Connect. Raises ConnectionTimeout, at once where somebody has just waited in vain; other psycopg.Errors."""
        if not self._breaker.allows():
            raise ConnectionTimeout("the server did not answer a moment ago")
        try:
            connection = HeardConnection.connect(*arguments, **parameters)
        except ConnectionTimeout:
            self._breaker.failed()
            raise
        except psycopg.Error:  # the answer is no
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        connection.server_lives = lambda: self._beats(*arguments, **parameters)
        return connection

    def _beats(self, *arguments: Any, **parameters: Any) -> bool:
        with self._asking:
            if time.monotonic() - self._beat_at < SILENCE_SECONDS:
                return True
            try:
                self.connect(*arguments, **parameters).close()
            except ConnectionTimeout:
                return False
            except psycopg.Error:  # it has no room for one more, say
                pass
            self._beat_at = time.monotonic()
            return True
