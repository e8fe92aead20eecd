"""An api process among hundreds of sockets that say nothing, trickle or do not read, while every core is busy.

SIEGE_SECONDS=30 runs the long form, with the time limit that production has and the slowest answers that are promised;
the short form leaves room for a machine that others use too.
"""

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from service.kit.database import Database
from service.kit.processes import start_child
from tests.fixtures.job_rows import add
from tests.fixtures.service import Service, running_api
from tests.fixtures.waiting import eventually
from tests.load.client import Client, Measured, Unexpected, run_open_loop

LONG_FORM = "SIEGE_SECONDS" in os.environ
RECEIVE_SECONDS = float(os.environ.get("SIEGE_SECONDS", "5"))
GRACE_SECONDS = 4.0  # who does not read is timed from when the buffers are full
SOCKETS = 300
UNREADING = 20
UNREAD_ANSWERS = 40  # of a hundred kilobytes or more: more than the buffers of both ends hold
RATE = 40.0
PACE_SECONDS = 0.25
BUSY_PERCENT = 30
SLOWEST_P99_MILLISECONDS = 250.0 if LONG_FORM else 2_000.0
MOST_MEMORY = 300 << 20


class Siege:
    """Sockets of three kinds, each of which does its worst until the api closes it.

    Whether it has is asked of the api's own process: to who does not read it may not even say so.
    """

    def __init__(self, service: Service) -> None:
        self._host = f"Host: test\r\nAuthorization: Bearer {service.key}\r\n".encode()
        self._service = service
        self._sockets: dict[int, socket.socket] = {}
        self._trickling: set[int] = set()
        self._ending = threading.Event()
        self._seen: set[int] = set()  # of what was not, the system has not told the api yet
        self.standing: set[int] = set()
        self.closed_after: list[float] = []

    @property
    def stands(self) -> bool:
        """Whether the api has all of them, and has written what the buffers take."""
        return self._seen >= set(self._sockets)

    def __enter__(self) -> "Siege":
        self._started = time.monotonic()
        for number in range(SOCKETS):
            self._attack(number)
        self.standing = set(self._sockets)
        self._thread = threading.Thread(target=self._press_on)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        for attacker in self._sockets.values():
            attacker.close()

    def _attack(self, number: int) -> None:
        attacker = socket.socket()
        attacker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        attacker.connect(("127.0.0.1", self._service.port))
        attacker.setblocking(False)
        port = attacker.getsockname()[1]
        self._sockets[port] = attacker
        if number < UNREADING:
            attacker.send(UNREAD_ANSWERS * (b"GET /openapi.json HTTP/1.1\r\n" + self._host + b"\r\n"))
        elif number % 2:
            self._trickling.add(port)
            head = b"POST /campaigns/a/expand HTTP/1.1\r\nContent-Type: application/json\r\n" + self._host
            attacker.send(head + (b"Content-Length: 1000\r\n\r\n" if number % 4 == 1 else b"X-Long: "))

    def _press_on(self) -> None:
        api = psutil.Process(self._service.processes[0].pid)
        while not self._ending.wait(PACE_SECONDS):
            there = {connection.raddr.port for connection in api.net_connections("tcp4") if connection.raddr}
            self._seen |= there
            closed = self.standing & self._seen - there
            self.closed_after += [time.monotonic() - self._started] * len(closed)
            self.standing -= closed
            for port in self._trickling & self.standing:
                with suppress(OSError):  # closed just now
                    self._sockets[port].send(b" ")


@contextmanager
def every_core_busy() -> Iterator[None]:
    """A loop without end for each core."""
    loops = [start_child([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def health_and_polls(service: Service, job_id: str, seconds: float) -> Measured:
    """Both in turns, by the clock."""

    async def measure() -> Measured:
        async with Client(f"http://127.0.0.1:{service.port}", service.key, 32) as client:
            requests = [client.request("GET", target) for target in ("/healthz", f"/jobs/{job_id}")]

            async def once(number: int) -> None:
                answer = await client.send(requests[number % 2])
                if answer.status != 200:
                    raise Unexpected(str(answer.status))

            return await run_open_loop(once, rate=RATE, seconds=seconds)

    return asyncio.run(measure())


@pytest.mark.alone
def test_the_api_answers_at_once_and_closes_all_of_them(postgres_url: str, redis_url: str, tmp_path: Path) -> None:
    database = Database(postgres_url)
    with running_api(database, redis_url, tmp_path, RECEIVE_SECONDS=str(RECEIVE_SECONDS)) as service:
        api = psutil.Process(service.processes[0].pid)
        idle = api.num_fds()
        job_id = add(database)
        database.dispose()
        for target in (f"/jobs/{job_id}", "/openapi.json"):  # a process that has just begun is no measure
            assert service.call("GET", target).status_code == 200
        with every_core_busy():
            calm = health_and_polls(service, job_id, 1)
            with Siege(service) as siege:
                assert eventually(lambda: siege.stands)
                # Until it has answered those who will not read, as far as the buffers go.
                assert eventually(lambda: api.cpu_percent(0.2) < BUSY_PERCENT, RECEIVE_SECONDS / 2)
                during = health_and_polls(service, job_id, RECEIVE_SECONDS / 3)
                assert len(siege.standing) > SOCKETS / 2  # they were there all the time
                after = health_and_polls(service, job_id, 2)
                memory = api.memory_info().rss
                assert eventually(lambda: not siege.standing, RECEIVE_SECONDS + GRACE_SECONDS)
        p99 = [measured.percentile(99) for measured in (calm, during, after)]
        figures = ", ".join(f"{milliseconds:.0f}" for milliseconds in p99)
        print(f"p99 {figures} ms; closed within {max(siege.closed_after):.1f} s; {memory >> 20} MiB")  # noqa: T201
        assert calm.errors == during.errors == after.errors == []
        # Where other work takes the cores as well, it is slow without the sockets too.
        assert max(p99) <= max(SLOWEST_P99_MILLISECONDS, 5 * p99[0])
        assert len(siege.closed_after) == SOCKETS
        assert max(siege.closed_after) <= RECEIVE_SECONDS + GRACE_SECONDS
        assert memory < MOST_MEMORY
        assert api.num_fds() <= idle + 40  # the measuring client's connections may not be closed yet
