"""A backup of a service at work, restored elsewhere: it answers the same, goes on, and keeps later erasures."""

import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from model.pool import open_pool
from service.__main__ import app as commands
from service.config import Settings
from service.erasures.replaying import load
from service.jobs.states import Queue
from service.kit.artifacts import snapshot_prefix
from service.schema import revision
from service.worker import build_worker
from tests.contract.conftest import Api, StartApi
from tests.contract.worlds import expand, publish
from tests.faults.one_of_each import SECONDS, OneOfEach
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.waiting import eventually

STORES = ("models", "pool", "audiences")
Command = Callable[..., str]


def audience(api: Api, job_id: str) -> list[tuple[int, str, float]]:
    answer = api.get(f"/jobs/{job_id}/audience?page_size=1000")
    assert answer.status_code == 200, answer.text
    return [(user["rank"], user["user_id"], user["score"]) for user in answer.json()["users"]]


def copy_stores(home: Path, to: Path) -> None:
    """Add what is not there yet, and delete nothing."""
    for store in STORES:
        for path in (home / store).rglob("*"):
            target = to / path.relative_to(home)
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command of an installation: `command(home, database_url, "erasures", "export")`; its standard output."""

    def run(home: Path, database_url: str, *arguments: str) -> str:
        monkeypatch.setenv("LOOKALIKE_HOME", str(home))
        monkeypatch.setenv("DATABASE_URL", database_url)
        done = CliRunner().invoke(commands, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """A worker on the restored installation."""
    stopping = threading.Event()
    worker = build_worker(settings, [Queue.EXPAND], stopping, lambda: None, settings.redis_url)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        worker.database.dispose()


def test_a_restored_backup_answers_the_same_goes_on_and_keeps_later_erasures(
    service: OneOfEach, postgres_server: PostgresServer, start_api: StartApi, command: Command, tmp_path: Path
) -> None:
    name = urlsplit(service.database_url).path.removeprefix("/")
    home = tmp_path / "restored"
    finished = [service.submit(f"campaign-{number}") for number in range(3)]
    pages = {job_id: service.audience_of(job_id) for job_id in finished}
    worker = service.keep_worker()
    unfinished = [service.submit(f"campaign-{number}") for number in range(5)]
    worker.send_signal(signal.SIGSTOP)
    try:
        copy_stores(service.home, home)
        dump = postgres_server.dump(name)
        copy_stores(service.home, home)
    finally:
        worker.send_signal(signal.SIGCONT)

    # After the backup somebody is erased, and the backup is not told.
    victim = pages[finished[0]][0][1]
    erasure = service.call("POST", "/erasures", json={"user_ids": [victim]}).headers["Location"]
    assert eventually(lambda: service.call("GET", erasure).json()["done"], SECONDS)
    exported = command(service.home, service.database_url, "erasures", "export")
    assert victim not in exported
    shutil.copyfile(service.home / "erasure.key", home / "erasure.key")

    began = time.monotonic()
    url = postgres_server.restore(dump, f"{name}_restored")
    api = start_api(url, served=False, lookalike_home=home)
    assert api.get("/readyz", key=None).status_code == 200
    assert {job_id: audience(api, job_id) for job_id in finished} == pages
    states = {job_id: api.get(f"/jobs/{job_id}").json()["state"] for job_id in unfinished}
    assert set(states.values()) & {"queued", "running"}, states

    (tmp_path / "erasures").write_text(exported)
    receipt = command(home, url, "erasures", "replay", str(tmp_path / "erasures"), "--tenant", "acme").strip()
    assert receipt.startswith("erasure_")
    # The api may have looked at the rows just before.
    assert eventually(lambda: victim not in {user_id for _, user_id, _ in audience(api, finished[0])})
    with working(api.app.state.settings):
        assert eventually(lambda: api.get(f"/erasures/{receipt}", key="operator").json()["done"], SECONDS)
        assert eventually(lambda: all(api.get(f"/jobs/{job_id}").json()["done"] for job_id in unfinished), SECONDS)
    seconds = time.monotonic() - began
    print(f"{len(pages)} audiences the same, {len(states)} jobs run on, one erasure kept, {seconds:.0f} s")  # noqa: T201
    for job_id in (*finished, *unfinished):
        assert victim not in {user_id for _, user_id, _ in audience(api, job_id)}
    snapshot = api.get("/pool").json()["snapshot_id"]
    pool = open_pool(api.app.state.artifacts.pools.local(snapshot_prefix(snapshot)))
    assert pool.ordinals([victim]).tolist() == [-1]
    again = command(home, url, "erasures", "replay", str(tmp_path / "erasures"), "--tenant", "acme")
    assert again == ""


def test_an_embedded_database_is_backed_up_while_it_is_in_use(
    start_api: StartApi, sqlite_url: str, tmp_path: Path
) -> None:
    api = start_api(sqlite_url)
    job_id = expand(api)["id"]
    publish(api, job_id, 120)
    waiting = expand(api, "summer")["id"]
    with sqlite3.connect(tmp_path / "lookalike.db") as source, sqlite3.connect(tmp_path / "backup.db") as target:
        source.backup(target)
    copy_stores(tmp_path, tmp_path / "restored")
    restored = start_api(f"sqlite:///{tmp_path / 'backup.db'}", served=False, lookalike_home=tmp_path / "restored")
    assert revision(restored.database) == revision(api.database)
    assert audience(restored, job_id) == audience(api, job_id)
    assert restored.get(f"/jobs/{waiting}").json()["state"] == "queued"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: "),
        ("{}", "line 1: "),
        ('{"key_check": "k", "tombstones": 1}', "cut off"),
        ('{"key_check": "k", "tombstones": 1}\n' + "ab" * 15, "line 2: "),
        ('{"key_check": "k", "tombstones": 1}\nada@example.com', "line 2: is not a tombstone$"),
    ],
)
def test_what_is_not_a_whole_export_is_refused_with_the_line_and_no_value(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        load(text.splitlines())
