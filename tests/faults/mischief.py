"""What is done to an installation, one thing at a time, each at a random moment and place."""

import http.client
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults.callers import Client, Request, poisoned, requests_of
from tests.faults.history import History
from tests.faults.installation import LEASE_SECONDS, START_SECONDS, VERSIONS, Installation, Process
from tests.fixtures.waiting import eventually

AT_ONCE = 50
LONGEST_OUTAGE_SECONDS = 0.5
DELAY_SECONDS = 0.02
DRAIN_SECONDS = 2.0


@dataclass
class Mischief:
    """Ways to harm an installation. To be used from the main thread, which starts all processes."""

    installation: Installation
    client: Client
    history: History
    random: random.Random
    _count: int = 0

    @property
    def quick_ways(self) -> list[Callable[[], None]]:
        """Those that are soon over."""
        return [
            self.kill_scheduler,
            self.kill_redis,
            self.kill_postgres,
            self.stop_worker,
            self.end_api,
            self.flush_redis,
            self.cut_connections,
            self.switch_model,
            self.post_at_once,
            self.post_poison,
        ]

    @property
    def ways(self) -> list[Callable[[], None]]:
        """All there are."""
        killing = [self.kill_worker, self.kill_api, self.kill_everything]
        holding_up = [self.hang_postgres, self.stall_connections, self.delay_connections]
        return [*self.quick_ways, *killing, self.end_worker, *holding_up]

    def kill_worker(self) -> None:
        """Kill one with -9, in the middle of a job if there is any."""
        self._kill("kill worker", self._worker())

    def kill_api(self) -> None:
        """Kill one with -9, whoever waits for its answers."""
        self._kill("kill api", self.random.choice(self.installation.apis))

    def kill_scheduler(self) -> None:
        """Kill it with -9; it begins with its sweep again."""
        self._kill("kill scheduler", self.installation.scheduler)

    def kill_redis(self) -> None:
        """Kill it with -9; it comes back empty."""
        self.installation.redis.kill()
        self.history.note("fault", kind="kill redis")
        self._pause()
        self.installation.redis.start()

    def kill_postgres(self) -> None:
        """Kill it with -9; it comes back with what was committed."""
        self.installation.postgres.kill()
        self.history.note("fault", kind="kill postgres")
        self._pause()
        self.installation.postgres.start()

    def hang_postgres(self) -> None:
        """Freeze it and all its backends, mostly for longer than a lease."""
        seconds = self.random.uniform(0.1, 4 * LEASE_SECONDS)
        self.installation.postgres.pause()
        self.history.note("fault", kind="hang postgres", seconds=round(seconds, 1))
        time.sleep(seconds)
        self.installation.postgres.resume()

    def kill_everything(self) -> None:
        """Kill all that runs and start it again in another order."""
        pids = [process.pid for process in self.installation.processes]
        for process in self.installation.processes:
            process.kill()
        self.installation.redis.kill()
        self.installation.postgres.kill()
        self.history.note("fault", kind="kill everything", pids=pids)
        starts = [self.installation.redis.start, self.installation.postgres.start]
        starts += [process.start for process in self.installation.processes]
        self.random.shuffle(starts)
        for start in starts:
            start()

    def stop_worker(self) -> None:
        """Stop one for longer than its lease, in the middle of a job if there is any, and let it go on."""
        worker = self._worker()
        worker.signal(signal.SIGSTOP)
        self.history.note("fault", kind="stop worker")
        time.sleep(1.5 * LEASE_SECONDS)
        worker.signal(signal.SIGCONT)

    def end_worker(self) -> None:
        """Ask one to end in the middle of a job, as a rolling upgrade does."""
        worker = self.installation.busy_worker(seconds=START_SECONDS)
        if worker is None:
            return
        pid = worker.pid
        worker.signal(signal.SIGTERM)
        code, seconds = worker.end()
        self.history.note("fault", kind="end worker")
        self.history.note("process-ended", name=worker.name, pid=pid, code=code, seconds=seconds)

    def end_api(self) -> None:
        """Ask one to end while a caller is in the middle of sending a request to it."""
        api = self.random.choice(self.installation.apis)
        if not eventually(lambda: api.status("/readyz") == http.client.OK, START_SECONDS):
            return
        pid = api.pid
        request = self.random.choice(requests_of(self.installation))
        with self._half_sent(api, request) as finish:
            api.signal(signal.SIGTERM)
            not_ready = eventually(lambda: api.status("/readyz") == http.client.SERVICE_UNAVAILABLE, DRAIN_SECONDS)
            answer = finish()
        code, seconds = api.end()
        self.history.note("fault", kind="end api")
        self.history.note(
            "process-ended",
            name=api.name,
            pid=pid,
            code=code,
            seconds=seconds,
            ready=503 if not_ready else 200,
            answer=answer,
        )

    def flush_redis(self) -> None:
        """Empty it."""
        self.installation.redis.flush()
        self.history.note("fault", kind="flush redis")

    def cut_connections(self) -> None:
        """Reset all connections of one side to one store."""
        name = self._a_proxy()
        self.installation.proxies[name].cut()
        self.history.note("fault", kind="cut", proxy=name)

    def stall_connections(self) -> None:
        """Hold back all that one side and one store say to each other, now and then for longer than a lease."""
        name = self._a_proxy()
        seconds = self.random.uniform(0.1, 1.5 * LEASE_SECONDS)
        self.installation.proxies[name].stall()
        self.history.note("fault", kind="stall", proxy=name, seconds=round(seconds, 1))
        time.sleep(seconds)
        self.installation.proxies[name].heal()

    def delay_connections(self) -> None:
        """Make one side and one store far from each other."""
        name = self._a_proxy()
        self.installation.proxies[name].delay(DELAY_SECONDS)
        self.history.note("fault", kind="delay", proxy=name)
        time.sleep(2 * LONGEST_OUTAGE_SECONDS)
        self.installation.proxies[name].heal()

    def switch_model(self) -> None:
        """Promote one of the two versions, and soon after go back to the other."""
        self.client.ask("POST", f"/models/{self.random.choice(VERSIONS)}/promote", json={"reason": "soak"})
        self.history.note("fault", kind="promote")
        self._pause()
        self.client.ask("POST", "/models/rollback", json={"reason": "soak"})
        self.history.note("fault", kind="roll back")

    def post_at_once(self) -> None:
        """Many callers post the same request with the same key; an api is killed meanwhile."""
        self._count += 1
        key = f"at-once-{self._count}"
        request = self.random.choice(requests_of(self.installation))
        with ThreadPoolExecutor(AT_ONCE) as threads:
            posts = [threads.submit(self.client.expand, request, key) for _ in range(AT_ONCE)]
            self._pause()
            self.kill_api()
            self.installation.start()
            for post in posts:
                post.result()
        self.history.note("fault", kind="post at once", posts=AT_ONCE)

    def post_poison(self) -> None:
        """Ask for an expansion whose job kills its worker."""
        self._count += 1
        self.client.expand(poisoned(self.installation), f"poison-{self._count}")

    def _kill(self, kind: str, process: Process) -> None:
        pid = process.pid
        process.kill()
        self.history.note("fault", kind=kind, pids=[pid])

    def _worker(self) -> Process:
        return self.installation.busy_worker() or self.random.choice(self.installation.workers)

    def _a_proxy(self) -> str:
        return self.random.choice(sorted(self.installation.proxies))

    def _pause(self) -> None:
        time.sleep(self.random.uniform(0, LONGEST_OUTAGE_SECONDS))

    @contextmanager
    def _half_sent(self, api: Process, request: Request) -> Iterator[Callable[[], int]]:
        """A request of which the first half is sent; called, it sends the rest, and gives the answer's status."""
        self._count += 1
        key = f"half-sent-{self._count}"
        body = json.dumps(request.body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)
        connection.putrequest("POST", f"/campaigns/{request.name}/expand")
        for name, value in {
            "Authorization": f"Bearer {self.client.key}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Idempotency-Key": key,
        }.items():
            connection.putheader(name, value)
        connection.endheaders(body[: len(body) // 2])

        def finish() -> int:
            try:
                connection.send(body[len(body) // 2 :])
                answer = connection.getresponse()
                document: dict[str, Any] = json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                return 0
            if answer.status == http.client.ACCEPTED:
                self.client.accepted(request, key, document["id"])
            return answer.status

        try:
            yield finish
        finally:
            connection.close()
