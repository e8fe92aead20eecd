"""The bell: heard at once, survived without Redis, ended on request."""

import threading
import time
from collections.abc import Iterator

import pytest

from service.kit.bell import Bell, BellRinger
from tests.fixtures.redis import RedisServer


@pytest.fixture
def stopping() -> Iterator[threading.Event]:
    stopping = threading.Event()
    yield stopping
    stopping.set()


@pytest.fixture
def bell(redis_url: str, stopping: threading.Event) -> Bell:
    return Bell(redis_url, stopping)


@pytest.fixture
def ringer(redis_url: str) -> Iterator[BellRinger]:
    ringer = BellRinger(redis_url)
    yield ringer
    ringer.close()


def heard(bell: Bell, ringer: BellRinger) -> bool:
    """Ring until it is heard: the first rings can come before the subscription."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        ringer.ring()
        if bell.wait(0.1):
            return True
    return False


def test_a_ring_ends_the_wait(bell: Bell, ringer: BellRinger) -> None:
    assert heard(bell, ringer)


def test_without_a_ring_the_wait_lasts_its_time(bell: Bell) -> None:
    started = time.perf_counter()
    assert not bell.wait(0.2)
    assert time.perf_counter() - started >= 0.2


def test_the_bell_is_heard_again_after_redis_came_back(
    bell: Bell, ringer: BellRinger, redis_server: RedisServer
) -> None:
    assert heard(bell, ringer)
    redis_server.stop()
    assert not bell.wait(0.1)
    redis_server.start()
    assert heard(bell, ringer)


def test_ringing_never_waits_for_a_hanging_redis(ringer: BellRinger, redis_server: RedisServer) -> None:
    redis_server.pause()
    started = time.perf_counter()
    for _ in range(1000):
        ringer.ring()
    assert time.perf_counter() - started < 0.05


def test_the_end_of_the_process_ends_the_wait(bell: Bell, stopping: threading.Event) -> None:
    timer = threading.Timer(0.1, stopping.set)
    timer.start()
    started = time.perf_counter()
    assert bell.wait(10)
    assert time.perf_counter() - started < 5
    timer.join()
