"""Bells: whoever commits a job rings for a worker, whoever ends one rings for those who wait for it.

They look at once, then, instead of at their next poll. A ring may be lost and a ring may be false; nothing but waiting
time depends on it.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis import asyncio as redis_asyncio

from service.kit.redis import connect, tcp_options

CHANNEL = "lookalike:bell"
ENDED_CHANNEL = "lookalike:ended"  # a ring says which job has ended
_RECONNECT_SECONDS = 1.0
_LISTEN_SECONDS = 0.25


class BellRinger:
    """Rings from a thread of its own, so that nobody ever waits for Redis; equal rings that pile up become one."""

    def __init__(self, url: str, channel: str = CHANNEL) -> None:
        self._client = connect(url)
        self._channel = channel
        self._due = threading.Event()
        self._lock = threading.Lock()
        self._messages: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="bell-ringer", daemon=True)
        self._thread.start()

    def ring(self, message: str = "") -> None:
        """Call after the commit; returns at once."""
        with self._lock:
            self._messages.add(message)
        self._due.set()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._due.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while True:
            self._due.wait()
            if self._closed:
                return
            self._due.clear()
            with self._lock:
                messages, self._messages = self._messages, set()
            try:
                for message in messages:
                    self._client.publish(self._channel, message)
            except (redis.RedisError, OSError):
                continue  # whoever waits polls


class Bell:
    """Hears the bell until `stopping` is set; without Redis it is a plain sleep, and it connects again by itself."""

    def __init__(self, url: str, stopping: threading.Event, channel: str = CHANNEL) -> None:
        self._client = connect(url)
        self._channel = channel
        self._stopping = stopping
        self._rung = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="bell", daemon=True)
        self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Sleep until the bell rings, at most `timeout` seconds; True if it rang since the last wait.

        The end of the process counts as a ring, and is heard within a quarter of a second.
        """
        rung = self._rung.wait(timeout)
        if not self._stopping.is_set():
            self._rung.clear()
        return rung

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hear()
            except (redis.RedisError, OSError):
                self._stopping.wait(_RECONNECT_SECONDS)
        self._rung.set()
        self._client.close()

    def _hear(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
            subscription.subscribe(self._channel)
            while not self._stopping.is_set():
                if subscription.get_message(timeout=_LISTEN_SECONDS) is not None:
                    self._rung.set()


class WakeUps:
    """Wakes coroutines that wait for a message of their own; one subscription serves a whole process.

    `listen` is to run in their event loop as long as they do. Without Redis nobody is woken, and it connects again by
    itself.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._waiting: dict[bytes, set[asyncio.Event]] = {}

    @contextmanager
    def expect(self, message: str) -> Iterator[asyncio.Event]:
        """An event that is set by every such message from now on."""
        event = asyncio.Event()
        name = message.encode()  # what is heard may be no text at all
        waiting = self._waiting.setdefault(name, set())
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(name, None)

    async def listen(self) -> None:
        """Hear the channel until cancelled."""
        client = redis_asyncio.Redis.from_url(self._url, **tcp_options(self._url))
        try:
            while True:
                try:
                    await self._hear(client)
                except (redis.RedisError, OSError):
                    await asyncio.sleep(_RECONNECT_SECONDS)
        finally:
            await client.aclose()

    async def _hear(self, client: "redis_asyncio.Redis") -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(self._channel)
            async for message in subscription.listen():
                for event in self._waiting.get(message["data"], ()):
                    event.set()
