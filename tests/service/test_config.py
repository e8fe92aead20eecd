"""Settings: defaults for one machine, nothing by default in production, and errors that name the variable."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.commands.kit import CommandError, read_settings
from service.config import Settings


def test_everything_embedded_lies_under_lookalike_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    settings = Settings()
    assert settings.resolved_database_url == f"sqlite:///{tmp_path / 'lookalike.db'}"
    assert settings.embedded_redis
    stores = (settings.resolved_model_store, settings.resolved_pool_store, settings.resolved_audience_store)
    assert all(Path(store).parent == tmp_path for store in stores)


def test_production_refuses_to_start_on_embedded_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "production")
    with pytest.raises(ValidationError, match="DATABASE_URL and REDIS_URL"):
        Settings()


def test_production_makes_no_secret_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ENV", "production"), ("DATABASE_URL", "postgresql://db/x"), ("REDIS_URL", "redis://r")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match="ERASURE_KEY"):
        Settings()


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "ours"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_sent_where_opentelemetry_s_own_variables_say(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sent: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().traces is sent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENV", "prod"),
        ("JOB_LEASE_SECONDS", "0"),
        ("JOB_LEASE_SECONDS", "nan"),
        ("MIN_SEEDS", "0"),
        ("API_PORT", "70000"),
        ("DEVICE", "tpu"),
        ("SCORING_PRECISION", "float16"),
        ("MODEL_SIGNING_KEYS", "x" * 32 + ",short"),
        ("LOOKUP_IDS_PER_MINUTE", "-1"),
        ("ACCESS_LOG_READS", "10"),
        ("TRAIN_CRON", "every day"),
        ("TRAIN_CRON", "0 3 * * *"),  # on what data?
        ("TRAIN_FROZEN_EMBEDDINGS", "true"),  # of the preset default?
        ("REDIS_URL", "localhost:6379"),
        ("MODEL_STORE", "gs://models"),
        ("IMPORT_ROOT", "https://users"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CommandError, match=f"^{name}") as refused:
        read_settings()
    assert "Value error" not in str(refused.value)
