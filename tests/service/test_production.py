"""ENV=production: the real process starts with every secret and store that it was given, and without one not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.kit.database import Database
from tests.fixtures.service import running_api

GIVEN = {
    "DATABASE_URL": "postgresql://db/lookalike",
    "REDIS_URL": "redis://cache",
    "ERASURE_KEY": "as long as a password",
}


def start(home: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Start the api with these settings and no others."""
    return subprocess.run(
        [sys.executable, "-m", "service", "api"],
        env={**os.environ, "ENV": "production", "LOOKALIKE_HOME": str(home), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("missing", GIVEN)
def test_without_one_of_its_secrets_or_stores_the_api_does_not_start(tmp_path: Path, missing: str) -> None:
    ended = start(tmp_path, **{name: value for name, value in GIVEN.items() if name != missing})
    assert (ended.returncode, ended.stdout) == (1, "")
    (reason,) = ended.stderr.splitlines()
    assert reason.startswith("lookalike: ")
    assert missing in reason
    assert not any(value in reason for value in GIVEN.values())
    assert not list(tmp_path.iterdir())


def test_a_signing_key_that_could_be_guessed_is_refused_without_being_told(tmp_path: Path) -> None:
    ended = start(tmp_path, **GIVEN, MODEL_SIGNING_KEYS="secret")
    assert ended.returncode == 1
    assert "MODEL_SIGNING_KEYS" in ended.stderr
    assert "secret" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "url"), [("DATABASE_URL", "postgresql://u:p@ss:HUN/TER@db/x"), ("REDIS_URL", "redis://:HUN/TER@cache/0")]
)
def test_of_a_password_that_makes_a_url_unreadable_nothing_is_told(tmp_path: Path, name: str, url: str) -> None:
    ended = start(tmp_path, **GIVEN | {name: url})
    assert ended.returncode == 1
    assert f"{name} is not" in ended.stderr
    assert "HUN" not in ended.stderr


def test_with_all_of_them_it_starts_and_shows_its_documentation_to_nobody_without_a_key(
    sqlite_url: str, redis_url: str, tmp_path: Path
) -> None:
    database = Database(sqlite_url)
    with running_api(database, redis_url, tmp_path, ENV="production", ERASURE_KEY=GIVEN["ERASURE_KEY"]) as service:
        assert service.client.get(f"http://127.0.0.1:{service.port}/docs").status_code == 401
        assert service.call("GET", "/docs").status_code == 200
    database.dispose()
