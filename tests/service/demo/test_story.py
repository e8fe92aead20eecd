"""What surrounds the demo: its home and the settings of its service."""

import socket
from pathlib import Path

import pytest

from service.demo.errors import DemoError
from service.demo.story import DemoRun, make_settings, own


def test_two_demos_do_not_share_a_home(tmp_path: Path) -> None:
    with own(tmp_path), pytest.raises(DemoError, match="another demo runs in"), own(tmp_path):
        pass
    with own(tmp_path):
        pass


def test_the_demo_keeps_away_from_the_service_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "MODEL_STORE", "POOL_STORE", "AUDIENCE_STORE"):
        monkeypatch.setenv(name, "postgresql://production")
    monkeypatch.setenv("ENV", "production")
    settings = make_settings(DemoRun(tmp_path, minutes=1, campaigns=1, seeds=200, port=0))
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/service/lookalike.db"
    assert settings.resolved_model_store == f"{tmp_path}/service/models"
    assert settings.embedded_redis
    assert settings.env == "development"


def test_each_run_begins_with_an_empty_service_and_keeps_the_data(tmp_path: Path) -> None:
    for folder in ("service", "census"):
        (tmp_path / folder).mkdir()
    make_settings(DemoRun(tmp_path, minutes=1, campaigns=1, seeds=200, port=0))
    assert [path.name for path in tmp_path.iterdir()] == ["census"]


def test_a_port_that_is_taken_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DemoError, match=f"port {port} of 127.0.0.1 cannot be used"):
            make_settings(DemoRun(tmp_path, minutes=1, campaigns=1, seeds=200, port=port))
