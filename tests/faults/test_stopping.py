"""SIGTERM reaches a process that is only starting."""

import os
import signal
import sys
from pathlib import Path

from service.kit.processes import start_child
from tests.fixtures.waiting import eventually

SECONDS = 60.0


def hears(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_worker_asked_to_end_while_it_loads_ends_with_0(tmp_path: Path, sqlite_url: str) -> None:
    environment = {**os.environ, "LOOKALIKE_HOME": str(tmp_path), "DATABASE_URL": sqlite_url}
    worker = start_child([sys.executable, "-m", "service", "worker"], env=environment)
    try:
        assert eventually(lambda: hears(worker.pid, signal.SIGTERM), SECONDS)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(SECONDS) == 0
    finally:
        worker.kill()
        worker.wait()
