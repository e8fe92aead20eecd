"""`lookalike tenants ...`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.errors import StoreError
from service.__main__ import app


@pytest.fixture(autouse=True)
def _installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def set_location(location: str) -> None:
    arguments = ["tenants", "set", "acme", "--export-location", location]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0


def listing() -> str:
    return CliRunner().invoke(app, ["tenants", "list"], catch_exceptions=False).output


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


def test_what_is_no_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a folder or an s3:// address"):
        set_location("ftp://host/acme")
