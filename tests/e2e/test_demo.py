"""`lookalike demo` as a user runs it, on a made-up dataset in the place of the imported census data."""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest

from service.kit.processes import start_child
from tests.fixtures.waiting import eventually
from tests.model.worlds import make_dataset, write

QUICK = ("--minutes", "0.03", "--seeds", "60")
START_SECONDS = 60.0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A demo's home whose data is imported already."""
    write(make_dataset(users=2000, campaigns=10, rows=500), tmp_path / "census")
    yield tmp_path
    for process in processes_of(tmp_path):  # of a failed test
        process.kill()


def processes_of(home: Path) -> list[psutil.Process]:
    """Every running process that works for this home: the demo by its arguments, its children by their folders."""

    def works_here(process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return str(home) in " ".join((*process.cmdline(), *process.environ().values(), process.cwd()))
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if process != psutil.Process() and works_here(process)]


def start(home: Path, *options: str) -> subprocess.Popen[bytes]:
    with (home / "out").open("wb") as out, (home / "err").open("wb") as err:
        arguments = [sys.executable, "-m", "service", "demo", "--home", home, *QUICK, *options]
        return start_child(arguments, stdout=out, stderr=err)


def said(home: Path, name: str = "err") -> str:
    return (home / name).read_text(encoding="utf-8")


def has_children(home: Path) -> bool:
    return len(processes_of(home)) == 4  # itself, Redis, api and worker


def stays_up(home: Path) -> bool:
    return "stays up until Ctrl-C" in said(home)


def test_the_demo_trains_serves_and_beats_random_audiences_then_leaves_no_process_behind(home: Path) -> None:
    demo = start(home, "--exit", "--campaigns", "3")
    assert demo.wait(START_SECONDS) == 0, said(home)
    shown = said(home, "out")
    assert "lift above 1 on 3 of 3 held-out campaigns" in shown
    lifts = [line.split() for line in shown.splitlines() if line.split()[:1] == ["median"]]
    assert [float(lift) > 1.2 for lift in lifts[0][1:]] == [True, True, True, False]
    assert re.search(r"campaign +default \(served\) +metaheac +lr +random", shown)
    assert "Evaluation on 3 campaigns held out of training" in shown
    assert all(stage in shown for stage in ("adapting (", "scoring (", "publishing ("))
    assert not processes_of(home)


def test_the_demo_serves_on_what_it_prints_until_it_is_asked_to_end(home: Path) -> None:
    demo = start(home)
    assert eventually(lambda: stays_up(home), START_SECONDS), said(home)
    curl = shlex.split(re.findall("^curl .*$", said(home, "out"), re.MULTILINE)[0])
    url, body = curl[4], Path(curl[-1].removeprefix("@"))
    headers = dict(word.split(": ", 1) for flag, word in pairwise(curl) if flag == "-H")
    assert httpx.post(url, headers=headers, content=body.read_bytes()).status_code == 202
    console, docs = re.findall(r"http://\S+?/(?:console|docs)", said(home, "out"))
    assert httpx.get(console).status_code == httpx.get(docs).status_code == 200
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(START_SECONDS) == 0
    assert not processes_of(home)


def test_a_demo_killed_with_9_in_mid_run_leaves_no_process_behind(home: Path) -> None:
    demo = start(home)
    assert eventually(lambda: has_children(home), START_SECONDS), said(home)
    demo.kill()
    demo.wait()
    assert eventually(lambda: not processes_of(home))


def test_a_demo_stopped_in_mid_run_says_so_and_leaves_no_process_behind(home: Path) -> None:
    demo = start(home, "--minutes", "5")
    assert eventually(lambda: "training" in said(home), START_SECONDS), said(home)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(START_SECONDS) == 1
    assert said(home).splitlines()[-1] == "lookalike: the demo was stopped before it was done"
    assert not processes_of(home)


def test_a_child_that_dies_ends_the_demo_with_its_name_and_the_end_of_its_log(home: Path) -> None:
    demo = start(home)
    assert eventually(lambda: stays_up(home), START_SECONDS), said(home)
    worker = next(process for process in processes_of(home) if process.cmdline()[-1] == "worker")
    worker.kill()
    assert demo.wait(START_SECONDS) == 1
    assert said(home).splitlines()[-1].startswith("lookalike: the worker process ended with code -9")
    assert '"to": "succeeded"' in said(home)
    assert not processes_of(home)
