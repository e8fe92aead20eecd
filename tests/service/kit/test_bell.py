"""The bell: heard at once, survived without Redis, ended on request."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from service.kit.bell import Bell, BellRinger
from service.kit.redis import connect
from tests.fixtures.redis import RedisServer


@pytest.fixture
def bell(redis_url: str) -> Iterator[Bell]:
    with connect(redis_url) as client:
        bell = Bell(client, "bell")
        yield bell
        bell.close()


@pytest.fixture
def ringer(redis_url: str) -> Iterator[BellRinger]:
    with connect(redis_url) as client:
        ringer = BellRinger(client, "bell")
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


@pytest.mark.parametrize("end", [Bell.wake, Bell.close])
def test_a_wait_can_be_ended_from_another_thread(bell: Bell, end: Callable[[Bell], None]) -> None:
    timer = threading.Timer(0.1, end, [bell])
    timer.start()
    started = time.perf_counter()
    bell.wait(10)
    assert time.perf_counter() - started < 5
    timer.join()
