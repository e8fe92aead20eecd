"""The bell: heard at once, survived without Redis, ended on request."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from service.kit.bell import CHANNEL, Bell, BellRinger, WakeUps
from service.kit.redis import connect
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


@pytest.mark.alone
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


def test_a_message_wakes_those_who_expect_it_and_nobody_else(redis_url: str, ringer: BellRinger) -> None:
    async def run() -> tuple[bool, bool]:
        wake_ups = WakeUps(redis_url, CHANNEL)
        listening = asyncio.create_task(wake_ups.listen())
        with wake_ups.expect("job_1") as mine, wake_ups.expect("job_1") as too, wake_ups.expect("job_2") as other:
            await rung(ringer, "job_1", mine)
            heard = (too.is_set(), other.is_set())
        listening.cancel()
        await asyncio.wait({listening})
        return heard

    assert asyncio.run(run()) == (True, False)


def test_wake_ups_come_again_after_redis_came_back(
    redis_url: str, ringer: BellRinger, redis_server: RedisServer
) -> None:
    async def run() -> None:
        wake_ups = WakeUps(redis_url, CHANNEL)
        listening = asyncio.create_task(wake_ups.listen())
        with wake_ups.expect("job_1") as mine:
            await rung(ringer, "job_1", mine)
            redis_server.stop()
            redis_server.start()
            mine.clear()
            await rung(ringer, "job_1", mine)
        listening.cancel()
        await asyncio.wait({listening})

    asyncio.run(run())


def test_a_ring_that_is_no_text_wakes_nobody_and_ends_nothing(redis_url: str, ringer: BellRinger) -> None:
    async def run() -> None:
        wake_ups = WakeUps(redis_url, CHANNEL)
        listening = asyncio.create_task(wake_ups.listen())
        with wake_ups.expect("job_1") as mine, connect(redis_url) as client:
            await rung(ringer, "job_1", mine)
            assert client.publish(CHANNEL, b"\xff\xfe") >= 1
            await asyncio.sleep(0.2)  # until it, and the rings before it, are heard
            mine.clear()
            await rung(ringer, "job_1", mine)
        listening.cancel()
        await asyncio.wait({listening})

    asyncio.run(run())


async def rung(ringer: BellRinger, message: str, event: asyncio.Event) -> None:
    """Ring until it is heard: the first rings can come before the subscription."""
    for _ in range(200):
        ringer.ring(message)
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), 0.05)
            return
    raise AssertionError("nobody heard")
