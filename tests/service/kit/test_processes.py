"""Children die with their parent; one embedded Redis per home, whoever keeps it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

from service.kit import processes
from service.kit.processes import ChildError, EmbeddedRedis, start_child, stop_child
from tests.fixtures.waiting import eventually, gone

PARENT = """
import sys, time
from service.kit.processes import start_child
print(start_child(["sleep", "60"], user=sys.argv[1] if sys.argv[1:] else None).pid, flush=True)
time.sleep(60)
"""
KEEPER = """
import sys, time
from pathlib import Path
from service.kit.processes import EmbeddedRedis
redis = EmbeddedRedis(Path(sys.argv[1]))
redis.ensure()
print(redis.pid or 0, flush=True)
while True:
    time.sleep(0.02)
    redis.ensure()
"""


def run(script: str, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a script in another process; the process and the number it prints."""
    process = start_child([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        return process, int(output.readline())


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except NoConnection:
        return False


def socket_of(server: EmbeddedRedis) -> Path:
    return Path(unquote(server.url.removeprefix("unix://")))


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path)
    yield server
    server.close()


def test_a_parent_killed_with_9_leaves_no_child() -> None:
    parent, child = run(PARENT)
    assert psutil.pid_exists(child)
    parent.kill()
    parent.wait()
    assert eventually(lambda: gone(child))


def test_ctrl_c_reaches_the_parent_alone() -> None:
    child = start_child(["sleep", "60"])
    assert os.getpgid(child.pid) != os.getpgid(0)
    assert stop_child(child, grace=5) == -signal.SIGTERM


def test_a_child_that_ignores_the_polite_signal_is_killed() -> None:
    stubborn, _ = run(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    assert stop_child(stubborn, grace=0.1) == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a child as another user")
def test_a_child_of_another_user_has_that_user_s_groups_and_dies_with_its_parent() -> None:
    parent, child = run(PARENT, "nobody")
    status = psutil.Process(child)
    assert status.username() == "nobody"
    assert Path(f"/proc/{child}/status").read_text().split("Groups:")[1].split("\n")[0].strip() == ""
    parent.kill()
    parent.wait()
    assert eventually(lambda: gone(child))


def test_the_server_answers_once_ensured_and_ensuring_again_changes_nothing(embedded: EmbeddedRedis) -> None:
    embedded.ensure()
    first = embedded.pid
    embedded.ensure()
    assert embedded.pid == first is not None
    with Redis.from_url(embedded.url) as client:
        assert client.ping()


def test_the_server_listens_on_a_private_socket_only_and_keeps_nothing(embedded: EmbeddedRedis) -> None:
    embedded.ensure()
    with Redis.from_url(embedded.url, decode_responses=True) as client:
        settings = client.config_get("*")
    assert (settings["port"], settings["save"], settings["appendonly"]) == ("0", "", "no")
    assert (settings["maxmemory"], settings["maxmemory-policy"]) == (str(256 << 20), "allkeys-lru")
    assert socket_of(embedded).stat().st_mode & 0o777 == 0o700


def test_a_killed_server_comes_back_empty(embedded: EmbeddedRedis) -> None:
    embedded.ensure()
    assert embedded.pid is not None
    with Redis.from_url(embedded.url) as client:
        client.set("key", "value")
    os.kill(embedded.pid, signal.SIGKILL)
    assert eventually(lambda: embedded.pid is None)
    embedded.ensure()
    with Redis.from_url(embedded.url) as client:
        assert client.get("key") is None


def test_two_processes_elect_one_server_and_the_other_takes_over_when_the_first_is_killed(tmp_path: Path) -> None:
    first, kept = run(KEEPER, str(tmp_path))
    second, not_kept = run(KEEPER, str(tmp_path))
    try:
        assert kept
        assert not not_kept
        with Redis.from_url(EmbeddedRedis(tmp_path).url) as client:
            assert client.info()["process_id"] == kept
            first.kill()
            first.wait()
            assert eventually(lambda: bool(psutil.Process(second.pid).children()))
            assert eventually(lambda: gone(kept))
        with Redis.from_url(EmbeddedRedis(tmp_path).url) as client:
            assert eventually(lambda: answers(client))
            assert client.info()["process_id"] == psutil.Process(second.pid).children()[0].pid
    finally:
        stop_child(second, grace=0)


def test_closing_lets_another_keep_the_server(tmp_path: Path) -> None:
    first, second = EmbeddedRedis(tmp_path), EmbeddedRedis(tmp_path)
    try:
        first.ensure()
        second.ensure()
        assert second.pid is None
        first.close()
        second.ensure()
        assert second.pid is not None
    finally:
        first.close()
        second.close()


def test_a_home_too_long_for_a_socket_address_gets_a_short_private_one(tmp_path: Path) -> None:
    home = tmp_path / ("a long name with spaces " * 5).strip()
    server = EmbeddedRedis(home)
    try:
        server.ensure()
        assert EmbeddedRedis(home).url == server.url != EmbeddedRedis(tmp_path / ("b" * 120)).url
        with Redis.from_url(EmbeddedRedis(home).url) as client:
            assert client.ping()
        folder = socket_of(server).parent
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        server.close()
    assert not folder.exists()


def test_a_socket_folder_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SHORT_FOLDER", tmp_path)
    server = EmbeddedRedis(tmp_path / ("a" * 120))
    folder = socket_of(server).parent
    folder.mkdir(mode=0o755)
    with pytest.raises(ChildError, match="not a private folder"):
        server.ensure()


def test_without_any_redis_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ChildError, match="install Redis"):
        EmbeddedRedis(tmp_path).ensure()


def test_a_server_that_ends_at_once_is_an_error_not_a_wait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "redis_executable", lambda: "/bin/false")
    server = EmbeddedRedis(tmp_path)
    with pytest.raises(ChildError, match="ended at once with code 1"):
        server.ensure()
    server.close()
