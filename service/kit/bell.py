"""The bell: whoever commits a job rings it, and waiting workers look at once instead of at their next poll.

A ring may be lost and a ring may be false; nothing but waiting time depends on it.
"""

import threading

import redis

from service.kit.redis import connect

CHANNEL = "lookalike:bell"
_RECONNECT_SECONDS = 1.0
_LISTEN_SECONDS = 0.25


class BellRinger:
    """Rings from a thread of its own, so that no request ever waits for Redis; rings that pile up become one."""

    def __init__(self, url: str, channel: str = CHANNEL) -> None:
        self._client = connect(url)
        self._channel = channel
        self._due = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="bell-ringer", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        """Call after the commit; returns at once."""
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
            try:
                self._client.publish(self._channel, b"")
            except (redis.RedisError, OSError):
                continue  # the workers poll


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
