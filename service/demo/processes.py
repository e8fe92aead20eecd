"""The demo's children: a Redis, the api and a worker, none of which outlives it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from service.config import Settings
from service.demo.client import Api
from service.demo.errors import DemoError
from service.kit.processes import EmbeddedRedis, start_child, stop_child

READY_SECONDS = 300.0
POLL_SECONDS = 0.1
LOG_TAIL_LINES = 15
HOST = "127.0.0.1"
STAGE_METRIC = "lookalike_job_stage_duration_seconds"


class Services:
    """Api and worker as an operator would start them, with these settings; enter it from the main thread.

    Their logs lie under `LOOKALIKE_HOME/logs`.
    """

    def __init__(self, settings: Settings, warn: Callable[[str], None]) -> None:
        self._settings = settings
        self._warn = warn
        self._redis = EmbeddedRedis(settings.lookalike_home)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._metrics_port = free_port(settings.worker_metrics_host)

    def __enter__(self) -> Self:
        try:
            self._redis.ensure()
            for name in ("api", "worker"):
                self._start(name)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def check(self) -> None:
        """See that all children live; raises DemoError, after the end of its log, for one that does not."""
        self._redis.ensure()
        for name, child in self._children.items():
            if (code := child.poll()) is not None:
                lines = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()
                self._warn("\n".join(lines[-LOG_TAIL_LINES:]))
                raise DemoError(f"the {name} process ended with code {code}; its log is {self._log(name)}")

    def wait_until_ready(self, api: Api, watch: Callable[[], None]) -> None:
        """Wait until the api answers that it can serve: the worker has then made the pool's representation."""
        deadline = time.monotonic() + READY_SECONDS
        while not api.ready():
            self.check()
            watch()
            if time.monotonic() > deadline:
                raise DemoError(f"the service was not ready after {READY_SECONDS:.0f} s; logs: {self._log('').parent}")
            time.sleep(POLL_SECONDS)

    def watch(self) -> None:
        """Serve on, until KeyboardInterrupt or, with DemoError, until a child ends."""
        while True:
            self.check()
            time.sleep(POLL_SECONDS)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds that the worker has spent in each stage of its jobs so far, from its metrics."""
        address = f"http://{self._settings.worker_metrics_host}:{self._metrics_port}/metrics"
        with urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
        return {
            sample.labels["stage"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"{STAGE_METRIC}_sum"
        }

    def _start(self, name: str) -> None:
        settings = self._settings.model_dump(mode="json", exclude_none=True)
        changed = {"redis_url": self._redis.url, "worker_metrics_port": self._metrics_port}
        # Every setting is named, so that what stands in the caller's environment is not half obeyed.
        environment = {key.upper(): str(value) for key, value in {**settings, **changed}.items()}
        self._log(name).parent.mkdir(parents=True, exist_ok=True)
        with self._log(name).open("wb") as log:
            self._children[name] = start_child(
                [sys.executable, "-m", "service", name], env={**os.environ, **environment}, stdout=log, stderr=log
            )

    def _log(self, name: str) -> Path:
        return self._settings.lookalike_home / "logs" / f"{name}.log"

    def _stop(self) -> None:
        for child in reversed(self._children.values()):
            stop_child(child, self._settings.shutdown_grace_seconds)
        self._redis.close()


def embedded_settings(home: Path, port: int = 0) -> Settings:
    """Of an embedded service of its own under `home`, whatever the environment says of another; port: as `free_port`
    takes it. Raises DemoError."""
    return Settings(
        env="development",
        lookalike_home=home,
        database_url="",
        redis_url="",
        model_store="",
        pool_store="",
        audience_store="",
        train_cron="",
        api_host=HOST,
        api_port=free_port(HOST, port),
        worker_metrics_host=HOST,
        expand_per_minute=0,
        active_jobs_max=0,
    )


def free_port(host: str, wanted: int = 0) -> int:
    """The wanted TCP port, any for 0, on which nobody listens. Raises DemoError where somebody does."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended do not count
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise DemoError(f"port {wanted} of {host} cannot be used ({error.strerror}); --port 0 finds one") from None
        port: int = probe.getsockname()[1]
        return port
