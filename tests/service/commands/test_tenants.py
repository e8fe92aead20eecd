"""`lookalike tenants ...`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.errors import StoreError
from service.__main__ import app
from service.commands.kit import CommandError


@pytest.fixture(autouse=True)
def _installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def set_location(location: str) -> None:
    run("tenants", "set", "acme", "--export-location", location)


def listing() -> str:
    return run("tenants", "list")


def test_a_tenant_gets_a_place_for_its_exports_and_another_one(tmp_path: Path) -> None:
    for location, kept in (
        ("s3://bucket/acme", "s3://bucket/acme"),
        ("file:///exports/acme", "file:///exports/acme"),
        ("exports", str(tmp_path / "exports")),
    ):
        set_location(location)
        assert kept in listing()
    assert "s3://" not in listing()


def test_an_empty_place_takes_it_away(tmp_path: Path) -> None:
    set_location("s3://bucket/acme")
    set_location("")
    assert "acme" in listing()
    assert "s3://" not in listing()


def test_trainings_learn_from_a_tenant_only_while_it_is_allowed() -> None:
    set_location("s3://bucket/acme")
    assert "yes" not in listing()
    for option, allowed in (("--train-on-expansions", True), ("--no-train-on-expansions", False)):
        run("tenants", "set", "acme", option)
        assert ("yes" in listing()) is allowed
        assert "s3://bucket/acme" in listing()
    log = [json.loads(line) for line in run("audit", "list", "--tenant", "acme").splitlines()]
    assert [entry["train_on_expansions"] for entry in log if "train_on_expansions" in entry] == [1, 0]


def test_nothing_to_set_is_told() -> None:
    with pytest.raises(CommandError, match="--train-on-expansions"):
        run("tenants", "set", "acme")


def test_what_is_no_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a folder or an s3:// address"):
        set_location("ftp://host/acme")
