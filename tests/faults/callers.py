"""Callers that keep asking whatever happens, and note every answer that counts."""

import hashlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.history import History
from tests.faults.installation import POISON, Installation

PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 0.1
PAGE_SIZE = 40
MICRO = 1_000_000


class GaveUpError(Exception):
    """The service did not come back in time."""


@dataclass(frozen=True)
class Request:
    """An expansion that is asked for again and again: its name is its campaign."""

    name: str
    body: dict[str, Any]


def requests_of(installation: Installation) -> list[Request]:
    """Expansions that differ in what they ask for, each in a campaign of its own."""
    options: list[dict[str, Any]] = [
        {"audience_size": 150},
        {"audience_size": 120, "include_seed_users": True},
        {"audience_fraction": 0.5, "eligibility": {"all": [{"feature": "age", "min": 30}]}},
    ]
    return [
        Request(f"c{number}", {"seed_user_ids": installation.world.seeds(number), **each})
        for number, each in enumerate(options)
    ]


def poisoned(installation: Installation) -> Request:
    """An expansion whose job kills its worker."""
    return Request(POISON, {"seed_user_ids": installation.world.seeds(0)})


@dataclass(frozen=True)
class Client:
    """Asks any of the apis until one answers; what no api may ever answer is noted as wrong."""

    ports: Sequence[int]
    key: str
    history: History
    http: httpx.Client = field(
        default_factory=lambda: httpx.Client(timeout=20, limits=httpx.Limits(max_connections=None))
    )

    def ask(
        self, method: str, path: str, *, expected: int = 200, seconds: float = PATIENCE_SECONDS, **options: Any
    ) -> httpx.Response:
        """The expected answer. Raises GaveUpError."""
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            port = random.choice(self.ports)
            try:
                answer = self.http.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, **options)
            except httpx.TransportError:
                time.sleep(PAUSE_SECONDS)
                continue
            if answer.status_code == expected:
                return answer
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or "retry-after" not in answer.headers:
                self.history.note("wrong", method=method, path=path, status=answer.status_code, why=answer.text[:300])
            time.sleep(PAUSE_SECONDS)
        self.history.note("wrong", method=method, path=path, status=0, why=f"no answer in {seconds:g} s")
        raise GaveUpError(path)

    def expand(self, request: Request, key: str) -> str:
        """Ask for an expansion until it is accepted; the job's id."""
        headers = {"Idempotency-Key": key}
        answer = self.ask("POST", f"/campaigns/{request.name}/expand", expected=202, json=request.body, headers=headers)
        return self.accepted(request, key, answer.json()["id"])

    def accepted(self, request: Request, key: str, job: str) -> str:
        """Note that the service gave its word."""
        self.history.note("accepted", request=request.name, key=key, job=job)
        return job

    def follow(self, job: str) -> dict[str, Any]:
        """Wait for the job's end; its document."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            document: dict[str, Any] = self.ask("GET", f"/jobs/{job}", headers={"Prefer": "wait=2"}).json()
            if document["done"]:
                self.history.note("ended", job=job, attempt=document["attempt"], **facts_of(document))
                return document
        raise GaveUpError(job)

    def read(self, path: str, pauses: random.Random) -> None:
        """Walk the pages of an audience, in no hurry."""
        digest = hashlib.sha256()
        jobs, sources, members, token = set(), set(), 0, ""
        while True:
            page = self.ask("GET", path, params={"page_token": token, "page_size": PAGE_SIZE}).json()
            for user in page["users"]:
                micro = round(user["score"] * MICRO)
                digest.update(user["user_id"].encode() + b"\0" + micro.to_bytes(4, "big"))
            jobs.add(page["job_id"])
            sources.add(page["source"])
            members += len(page["users"])
            token = page["next_page_token"]
            if not token:
                break
            time.sleep(pauses.uniform(0, PAUSE_SECONDS))
        self.history.note(
            "read", path=path, jobs=sorted(jobs), sources=sorted(sources), members=members, sha256=digest.hexdigest()
        )


def facts_of(document: dict[str, Any]) -> dict[str, Any]:
    """What may never change about a job that has ended."""
    error, model, manifest = document["error"], document["model"], document["manifest"]
    return {
        "state": document["state"],
        "error": error and error["type"].rsplit("/", 1)[-1],
        "model": model and model["version"],
        "sha256": manifest and manifest["audience_sha256"],
    }


@dataclass
class Caller:
    """A platform that expands, waits, and reads what came out, in a thread of its own, until it is told to stop."""

    name: str
    client: Client
    requests: Sequence[Request]
    random: random.Random
    stopping: threading.Event
    _thread: threading.Thread = field(init=False)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name=self.name)
        self._thread.start()

    def join(self) -> None:
        """Wait for what it has begun."""
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            try:
                self._turn(f"{self.name}-{number}")
            except GaveUpError:
                return  # it is in the history

    def _turn(self, key: str) -> None:
        request = self.random.choice(self.requests)
        job = self.client.expand(request, key)
        if self.random.random() < 0.5:  # the answer may have been lost on its way
            self.client.expand(request, key)
        document = self.client.follow(job)
        if document["state"] == "succeeded":
            self.client.read(f"/jobs/{job}/audience", self.random)
            self.client.read(f"/campaigns/{request.name}/audience", self.random)
