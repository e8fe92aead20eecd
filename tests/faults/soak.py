"""The mix: callers at work while everything around them is killed, stopped and cut, in seeded random order."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.faults.callers import Caller, Client, Request, facts_of, requests_of
from tests.faults.checker import check
from tests.faults.history import History, read_history
from tests.faults.installation import POISON, VERSIONS, Installation
from tests.faults.mischief import Mischief
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually

CALLERS = 3
LONGEST_REST_SECONDS = 3.0
SHORTEST_REST_SECONDS = 0.1
SWITCH_SECONDS = 30.0
POISON_SECONDS = 900.0  # each such job takes its workers with it, and to start one takes a busy machine a minute


@dataclass(frozen=True)
class Figures:
    """What a soak did, and what it found."""

    rounds: int
    seconds: float
    jobs: int
    taken_over: int
    """Jobs that needed more than one attempt."""
    reads: int
    faults: dict[str, int]
    violations: list[str]

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"rounds {self.rounds}, seconds {self.seconds:.0f}"
        yield f"jobs {self.jobs}, of which taken over {self.taken_over}; audiences read page by page {self.reads}"
        yield "faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        yield f"broken promises {len(self.violations)}"
        yield from self.violations


def soak(home: Path, postgres: PostgresServer, redis: RedisServer, *, seed: int, seconds: float = 0.0) -> Figures:
    """Run the mix: every mischief once in random order, then any of them until so many seconds are over.

    Without seconds only those that are soon over, in quick succession. In the end the faults stop, everything begun
    must come to its end, and `history.jsonl` in `home` is checked. To be called from the main thread.
    """
    path = home / "history.jsonl"
    history = History(path)
    try:
        with Installation(home, postgres, redis) as installation:
            began = time.monotonic()
            rounds = _mix(installation, history, seed, seconds)
            took = time.monotonic() - began
    finally:
        history.close()
    return _figures(path, rounds, took)


def _mix(installation: Installation, history: History, seed: int, seconds: float) -> int:
    chance = random.Random(seed)
    client = Client([api.port for api in installation.apis], installation.key, history)
    requests = requests_of(installation)
    installation.start()
    if not installation.wait_until_ready():
        raise TimeoutError(f"the apis do not get ready:\n{installation.logs()}")
    for version in reversed(VERSIONS):  # the first is served already: each has then taken the other's place once
        _undisturbed(client, requests, version)

    mischief = Mischief(installation, client, history, chance)
    ways = mischief.ways if seconds else mischief.quick_ways
    rest = LONGEST_REST_SECONDS if seconds else SHORTEST_REST_SECONDS
    first = chance.sample(ways, len(ways))
    deadline = time.monotonic() + seconds
    rounds = 0
    with _callers(client, requests, chance), _poison_at_work(installation, history):
        while first or time.monotonic() < deadline:
            (first.pop() if first else chance.choice(ways))()
            rounds += 1
            installation.start()
            time.sleep(chance.uniform(0, rest))
        _let_poison_end(installation, client)
    _audit(client)
    client.http.close()
    return rounds


def _undisturbed(client: Client, requests: list[Request], version: str) -> None:
    """What the audiences are when nothing goes wrong."""
    client.ask("POST", f"/models/{version}/promote", json={"reason": "undisturbed"})
    assert eventually(lambda: client.ask("GET", "/models/current").json()["version"] == version, SWITCH_SECONDS)
    for request in requests:
        document = client.follow(client.expand(request, f"undisturbed-{version}-{request.name}"))
        facts = facts_of(document)
        assert (facts["state"], facts["model"]) == ("succeeded", version), document
        client.history.note("undisturbed", request=request.name, model=version, sha256=facts["sha256"])


@contextmanager
def _callers(client: Client, requests: list[Request], chance: random.Random) -> Iterator[None]:
    """Callers at work in the block; at its end each has come to the end of what it began."""
    stopping = threading.Event()
    callers = [
        Caller(f"caller-{number}", client, requests, random.Random(chance.random()), stopping)
        for number in range(CALLERS)
    ]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        stopping.set()
        for caller in callers:
            caller.join()


@contextmanager
def _poison_at_work(installation: Installation, history: History) -> Iterator[None]:
    """In the block, every worker that runs a poisoned job is killed by it."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            try:
                worker = installation.busy_worker(POISON)
            except psycopg.OperationalError:  # killed just now
                stopping.wait(0.05)
                continue
            if worker is not None:
                pid = worker.pid
                worker.kill()
                history.note("fault", kind="kill worker by its job", pids=[pid])

    thread = threading.Thread(target=work, name="poison")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _let_poison_end(installation: Installation, client: Client) -> None:
    """Poisoned jobs have killed as many workers as they may; the jobs behind them are run."""

    def ended() -> bool:
        installation.start()
        jobs = client.ask("GET", "/jobs", params={"campaign_id": POISON, "page_size": 1000}).json()["jobs"]
        return all(job["done"] for job in jobs)

    eventually(ended, POISON_SECONDS)


def _audit(client: Client) -> None:
    """Look at every job again: an end that was told stays as it was, and no job exists that nobody was told of."""
    token, listed = "", []
    while True:
        page = client.ask("GET", "/jobs", params={"page_size": 1000, "page_token": token}).json()
        listed += page["jobs"]
        token = page["next_page_token"]
        if not token:
            break
    client.history.note("listed", jobs=[job["id"] for job in listed])
    for job in listed:
        client.follow(job["id"])


def _figures(path: Path, rounds: int, seconds: float) -> Figures:
    entries = list(read_history(path))
    ended = {entry["job"]: entry["attempt"] for entry in entries if entry["event"] == "ended"}
    return Figures(
        rounds=rounds,
        seconds=seconds,
        jobs=len(ended),
        taken_over=sum(attempt > 1 for attempt in ended.values()),
        reads=sum(entry["event"] == "read" for entry in entries),
        faults=dict(Counter(entry["kind"] for entry in entries if entry["event"] == "fault")),
        violations=check(entries),
    )
