"""The short form of the mix: faults of every kind that is soon over, each once."""

import sys
from pathlib import Path

import pytest

from tests.faults.installation import POISON_ATTEMPTS
from tests.faults.soak import soak
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.redis import RedisServer

SEED = 1
EXPECTED = {
    *("kill worker", "kill api", "kill scheduler", "kill redis", "kill postgres", "kill worker by its job"),
    *("stop worker", "end api", "flush redis", "cut", "promote", "roll back", "post at once"),
}


def test_no_promise_is_broken_whatever_is_killed(
    tmp_path: Path, postgres_server: PostgresServer, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres_server.start()
    figures = soak(tmp_path, postgres_server, redis_server, seed=SEED)
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"seed {SEED}", *figures.lines(), ""]))
    assert figures.violations == []
    assert figures.faults.keys() == EXPECTED
    assert figures.faults["kill worker by its job"] <= POISON_ATTEMPTS
    assert figures.jobs >= 10
    assert figures.reads >= 10
