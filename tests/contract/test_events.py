"""Event streams of jobs on a real server: what is told, going on after a broken connection, limits, the end."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn

from service.app import create_app
from service.jobs import claims, streams
from service.jobs.states import State
from service.kit.bell import ENDED_CHANNEL, BellRinger
from service.kit.http import ReceiveLimits
from service.kit.server import guarded_protocol
from tests.contract.conftest import Api
from tests.contract.worlds import assert_problem, claim, expand, publish
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import eventually


@dataclass
class Stream:
    """An open stream, read by a thread of its own."""

    answer: httpx.Response
    events: list[dict[str, Any]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        with suppress(httpx.TransportError):  # when the test hangs up
            self._read()
        self.ended.set()

    def _read(self) -> None:
        block: dict[str, str] = {}
        for line in self.answer.iter_lines():
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                block[name] = value
            elif block:
                self.events.append({**block, "data": json.loads(block["data"])})
                block = {}

    def told(self) -> list[tuple[Any, ...]]:
        """In short: the state with its stage, the progress, the end."""
        short = []
        for event in self.events:
            data = event["data"]
            match event["event"]:
                case "state":
                    short.append(("state", data["state"], data["stage"], data["attempt"]))
                case "progress":
                    short.append(("progress", data["scored_users"], data["total_users"]))
                case "done":
                    short.append(("done", data["state"]))
        return short

    def hears(self, *event: Any) -> bool:
        return eventually(lambda: event in self.told(), 5)


@dataclass
class Server:
    """The application of an Api once more, on a port."""

    api: Api
    uvicorn: uvicorn.Server
    app: Any

    @property
    def port(self) -> int:
        port: int = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        return port

    @contextmanager
    def stream(self, job_id: str, after: str = "", key: str = "acme") -> Iterator[Stream]:
        headers = {"Authorization": f"Bearer {self.api.keys[key]}", **({"Last-Event-ID": after} if after else {})}
        url = f"http://127.0.0.1:{self.port}/jobs/{job_id}/events"
        with httpx.Client(timeout=20) as client, client.stream("GET", url, headers=headers) as answer:
            stream = Stream(answer)
            if answer.status_code != 200:
                answer.read()
                yield stream
                return
            thread = threading.Thread(target=stream.read)
            thread.start()
            yield stream
            # Whoever leaves before the end hangs up: the socket is shut, so that the reading thread ends too.
            if not stream.ended.is_set():
                answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            thread.join(10)

    def everything(self, job_id: str, after: str = "") -> list[dict[str, Any]]:
        """The events of a stream that ends by itself."""
        with self.stream(job_id, after) as stream:
            assert stream.ended.wait(10)
        return stream.events

    def open_streams(self) -> int:
        return int(self.app.state.streams.total())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.05)


@pytest.fixture
def serve() -> Iterator[Callable[[Api], Server]]:
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(api: Api) -> Server:
        settings = api.app.state.settings
        app = create_app(settings, settings.redis_url)
        protocol = guarded_protocol(ReceiveLimits(body_bytes=1 << 20, seconds=1))
        server = uvicorn.Server(uvicorn.Config(app, port=0, http=protocol, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        assert eventually(lambda: server.started, 20)
        running.append((server, thread))
        return Server(api, server, app)

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def server(sqlite_api: Api, serve: Callable[[Api], Server]) -> Server:
    return serve(sqlite_api)


def beat(api: Api, claimed: claims.Claim, stage: str, scored: int) -> None:
    with api.database.write() as session:
        claims.heartbeat(session, claimed, lease_seconds=30, progress=claims.Progress(stage, scored, 10_000))


def test_a_job_is_told_from_the_queue_to_the_document_it_ends_with(api: Api, serve: Callable[[Api], Server]) -> None:
    job_id = expand(api)["id"]
    with serve(api).stream(job_id) as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert stream.answer.headers["cache-control"] == "no-store"
        assert stream.hears("state", "queued", None, 0)
        claimed = claim(api.database)
        assert stream.hears("state", "running", "matching", 1)
        for stage, scored in (("scoring", 2_500), ("scoring", 7_500), ("ranking", 10_000)):
            beat(api, claimed, stage, scored)
            assert stream.hears("progress", scored, 10_000)
        with api.database.write() as session:
            assert claims.finish(session, claimed, State.FAILED, expires_in_days=1)
        assert stream.ended.wait(5)
    assert stream.told() == [
        ("state", "queued", None, 0),
        ("state", "running", "matching", 1),
        ("state", "running", "scoring", 1),
        ("progress", 2_500, 10_000),
        ("progress", 7_500, 10_000),
        ("state", "running", "ranking", 1),
        ("progress", 10_000, 10_000),
        ("state", "failed", None, 1),
        ("done", "failed"),
    ]
    assert stream.events[3]["data"]["fraction"] == 0.25
    assert stream.events[-1]["data"] == api.get(f"/jobs/{job_id}").json()
    ids = [event["id"] for event in stream.events]
    assert len(set(ids)) == len(ids)


def test_a_broken_stream_goes_on_after_any_event_on_any_process_without_loss_or_repeats(
    sqlite_api: Api, serve: Callable[[Api], Server]
) -> None:
    job_id = expand(sqlite_api)["id"]
    server = serve(sqlite_api)
    with server.stream(job_id) as first:
        assert first.hears("state", "queued", None, 0)
    publish(sqlite_api, job_id, 50)
    server = serve(sqlite_api)
    rest = server.everything(job_id, first.events[-1]["id"])
    assert [event["event"] for event in rest] == ["state", "state", "progress", "done"]
    assert [event["data"]["state"] for event in rest[:2]] == ["running", "succeeded"]
    assert rest[2]["data"]["fraction"] == 1.0
    for position in range(len(rest) - 1):
        assert server.everything(job_id, rest[position]["id"]) == rest[position + 1 :]
    with server.stream(job_id, rest[-1]["id"]) as after_the_end:
        assert after_the_end.answer.status_code == 204


def test_an_id_that_is_none_begins_at_the_beginning(server: Server) -> None:
    job_id = expand(server.api)["id"]
    server.api.post(f"/jobs/{job_id}/cancel")
    everything = server.everything(job_id)
    assert [event["event"] for event in everything] == ["state", "done"]
    for odd in ("x", "1.2.3", "1.queued.-.0.0." + "9" * 5_000, "-1.queued.-.0.0.1"):
        assert server.everything(job_id, odd) == everything


def test_another_attempt_is_told(server: Server) -> None:
    job_id = expand(server.api)["id"]
    with server.stream(job_id) as stream:
        claimed = claim(server.api.database)
        beat(server.api, claimed, "scoring", 5_000)
        assert stream.hears("progress", 5_000, 10_000)
        with server.api.database.write() as session:
            assert claims.hand_back(session, claimed, count_attempt=True)
        assert stream.hears("state", "queued", None, 1)
        beat(server.api, claim(server.api.database), "scoring", 5_000)
        assert stream.hears("state", "running", "scoring", 2)
        assert eventually(lambda: stream.told().count(("progress", 5_000, 10_000)) == 2)


def test_a_silent_stream_carries_heartbeats(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.1)
    with server.stream(expand(server.api)["id"]) as stream:
        time.sleep(1.5)  # longer than a request may take to arrive
        assert len(stream.comments) >= 3
        assert stream.told() == [("state", "queued", None, 0)]
        assert not stream.ended.is_set()


def test_the_bell_is_heard_before_the_next_look(
    server: Server, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_SECONDS", 20.0)
    job_id = expand(server.api)["id"]
    with server.stream(job_id) as stream:
        assert stream.hears("state", "queued", None, 0)
        publish(server.api, job_id, 5)
        ringer = BellRinger(redis_url, ENDED_CHANNEL)
        assert eventually(lambda: ringer.ring(job_id) or stream.ended.wait(0.1), 5)
        ringer.close()
    assert stream.told()[-1] == ("done", "succeeded")


def test_without_redis_the_end_is_found_by_looking(server: Server, redis_server: RedisServer) -> None:
    redis_server.kill()
    job_id = expand(server.api)["id"]
    with server.stream(job_id) as stream:
        assert stream.hears("state", "queued", None, 0)
        server.api.post(f"/jobs/{job_id}/cancel")
        assert stream.ended.wait(5)
    assert stream.told()[-1] == ("done", "cancelled")


def test_waiting_streams_hold_no_connection(server: Server) -> None:
    job_id = expand(server.api)["id"]
    pool = server.app.state.database.engine.pool
    with server.stream(job_id) as stream, server.stream(job_id):
        assert stream.hears("state", "queued", None, 0)
        looks = [pool.checkedout() for _ in range(50) if time.sleep(0.01) is None]
        assert looks.count(0) > 25


def test_streams_are_limited_by_tenant_and_by_process(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_PER_TENANT", 1)
    monkeypatch.setattr(streams, "STREAMS_PER_PROCESS", 2)
    job_id, theirs = expand(server.api)["id"], expand(server.api, key="globex")["id"]
    with server.stream(job_id) as stream:
        assert stream.hears("state", "queued", None, 0)
        with server.stream(job_id) as refused:
            problem = assert_problem(refused.answer, 429, "quota-exceeded")
            assert "EVENT_STREAMS allows 1" in problem["detail"]
            assert int(refused.answer.headers["retry-after"]) > 0
        monkeypatch.setattr(streams, "STREAMS_PER_PROCESS", 1)
        with server.stream(theirs, key="globex") as refused:
            assert_problem(refused.answer, 503, "dependency-unavailable")
    assert eventually(lambda: server.open_streams() == 0)
    with server.stream(job_id) as stream:
        assert stream.hears("state", "queued", None, 0)


def test_a_stream_ends_after_its_time_and_with_the_process(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = expand(server.api)["id"]
    with server.stream(job_id) as stream:
        server.app.state.draining.set()
        assert stream.ended.wait(5)
    server.app.state.draining.clear()
    monkeypatch.setattr(streams, "LONGEST_SECONDS", 0.2)
    with server.stream(job_id) as stream:
        assert stream.ended.wait(5)
    assert stream.told() == [("state", "queued", None, 0)]


def test_only_who_takes_event_streams_gets_one_and_only_of_its_own_jobs(sqlite_api: Api) -> None:
    job_id = expand(sqlite_api)["id"]
    sqlite_api.post(f"/jobs/{job_id}/cancel")
    url = f"/jobs/{job_id}/events"
    for accept in ("text/event-stream", "*/*", "text/*;q=0.5, application/json"):
        assert sqlite_api.get(url, headers={"Accept": accept}).text.startswith("event: state\nid: ")
    assert_problem(sqlite_api.get(url, headers={"Accept": "application/json"}), 406, "not-acceptable")
    for answer in (sqlite_api.get(url, key="globex"), sqlite_api.get("/jobs/job_0/events")):
        assert_problem(answer, 404, "not-found")
