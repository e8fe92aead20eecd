"""Workers of one machine divide its cores, whatever becomes of them."""

import signal
import subprocess
import sys
from pathlib import Path

from service.kit.cores import Cores

AT_WORK = """
import sys
from pathlib import Path
from service.kit.cores import Cores
with Cores(Path(sys.argv[1]), 4).share() as threads:
    print(threads, flush=True)
    sys.stdin.read()
"""


def start_worker(folder: Path) -> tuple["subprocess.Popen[bytes]", int]:
    worker = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdout is not None
    return worker, int(worker.stdout.readline())


def test_one_alone_has_all_and_two_have_half_until_one_is_gone(tmp_path: Path) -> None:
    cores = Cores(tmp_path / "workers", 4)
    with cores.share() as threads:
        assert threads == 4
    other, _ = start_worker(tmp_path / "workers")
    with cores.share() as threads:
        assert threads == 2
    other.communicate(b"")
    with cores.share() as threads:
        assert threads == 4
    assert list((tmp_path / "workers").iterdir()) == []


def test_a_killed_worker_takes_nothing_with_it(tmp_path: Path) -> None:
    other, _ = start_worker(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert len(list(tmp_path.iterdir())) == 1
    with Cores(tmp_path, 4).share() as threads:
        assert threads == 4
    assert list(tmp_path.iterdir()) == []


def test_there_is_always_one(tmp_path: Path) -> None:
    other, _ = start_worker(tmp_path)
    with Cores(tmp_path, 1).share() as threads:
        assert threads == 1
    other.communicate(b"")
