"""The settings of every process, read once at its edge from the environment."""

from pathlib import Path
from typing import Annotated, Literal, Self

from croniter import croniter
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Days = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
SIGNING_KEY_CHARACTERS = 32


class Settings(BaseSettings):
    """Environment names are the field names in capitals; the defaults make an embedded, single-machine service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    env: Literal["development", "production"] = "development"
    lookalike_home: Path = Path.home() / ".lookalike"

    database_url: str = ""
    redis_url: str = ""
    model_store: str = ""
    pool_store: str = ""
    audience_store: str = ""
    import_root: str | Path = ""
    erasure_key: str = ""
    # Comma-separated: the first signs model versions, each is accepted. Without any, signatures are not asked for.
    model_signing_keys: str = ""

    api_host: str = "127.0.0.1"
    api_port: Port = 8000
    worker_metrics_host: str = "127.0.0.1"
    worker_metrics_port: Port | None = None
    scheduler_metrics_host: str = "127.0.0.1"
    scheduler_metrics_port: Port | None = None
    # The share of reads that went well which the access log has. It has everything that failed, was slow or wrote.
    access_log_reads: Annotated[float, Field(ge=0, le=1)] = 0.1
    build_commit: str = ""
    # OpenTelemetry's own names: whether traces are sent. Its SDK reads where to, how many, and the rest by itself.
    otel_exporter_otlp_endpoint: str = ""
    otel_exporter_otlp_traces_endpoint: str = ""
    otel_traces_exporter: str = "otlp"
    otel_sdk_disabled: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # In which a network's rough scores multiply on the CPU; auto tries which is faster. No score depends on it.
    scoring_precision: Literal["auto", "float32", "bfloat16"] = "auto"

    job_lease_seconds: PositiveSeconds = 30
    job_max_attempts: Annotated[int, Field(ge=1)] = 3
    reaper_seconds: PositiveSeconds = 5
    model_poll_seconds: PositiveSeconds = 10
    shutdown_grace_seconds: PositiveSeconds = 20
    receive_seconds: PositiveSeconds = 30  # for a request to arrive, and for an answer to begin to be taken

    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 << 20
    min_seeds: Annotated[int, Field(ge=1)] = 25
    expand_per_minute: Annotated[int, Field(ge=0)] = 60
    active_jobs_max: Annotated[int, Field(ge=0)] = 10
    output_users_per_day: Annotated[int, Field(ge=0)] = 0
    lookup_ids_per_minute: Annotated[int, Field(ge=0)] = 0

    audience_retention_days: Days = 30
    seed_retention_days: Days = 7
    job_retention_days: Days = 90

    # The scheduled offline stage: when (cron, UTC), on which campaign-dataset directory, what and for how long.
    train_cron: str = ""
    train_data: Path | None = None
    train_preset: Literal["default", "metaheac", "auto"] = "default"
    train_frozen_embeddings: bool = False
    train_max_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60

    # Trainings are logged to MLflow where it is told where, by its own names.
    mlflow_tracking_uri: str = ""
    mlflow_experiment_name: str = "lookalike"

    @field_validator("redis_url")
    @classmethod
    def _redis_is_named_by_its_address(cls, url: str) -> str:
        if url and not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("expected redis://..., rediss://... or unix://...")
        return url

    @field_validator("model_store", "pool_store", "audience_store", "import_root")
    @classmethod
    def _objects_lie_in_a_folder_or_a_bucket(cls, place: str | Path) -> str | Path:
        if "://" in str(place) and not str(place).startswith(("s3://", "file://")):
            raise ValueError("expected a folder or s3://bucket/prefix")
        return place

    @model_validator(mode="after")
    def _training_is_told_what_and_when(self) -> Self:
        if self.train_cron and not croniter.is_valid(self.train_cron):
            raise ValueError("TRAIN_CRON is not a cron expression")
        if self.train_cron and self.train_data is None:
            raise ValueError("TRAIN_CRON needs TRAIN_DATA, the campaign-dataset directory to train on")
        if self.train_frozen_embeddings and self.train_preset == "default":
            raise ValueError("TRAIN_FROZEN_EMBEDDINGS needs TRAIN_PRESET to be metaheac or auto")
        return self

    @model_validator(mode="after")
    def _signing_keys_cannot_be_guessed(self) -> Self:
        if any(len(key) < SIGNING_KEY_CHARACTERS for key in self.signing_keys):
            raise ValueError(f"MODEL_SIGNING_KEYS has a key of fewer than {SIGNING_KEY_CHARACTERS} characters")
        return self

    @model_validator(mode="after")
    def _production_has_no_embedded_stores(self) -> Self:
        if self.env == "production":
            missing = [name.upper() for name in ("database_url", "redis_url") if not getattr(self, name)]
            if missing:
                raise ValueError(f"ENV=production needs {' and '.join(missing)}: embedded stores are for one machine")
            if not self.erasure_key:
                raise ValueError("ENV=production needs ERASURE_KEY: no secret is made up there")
        return self

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """Those of MODEL_SIGNING_KEYS, the one that signs first."""
        return tuple(key for part in self.model_signing_keys.split(",") if (key := part.strip()))

    @property
    def traces(self) -> bool:
        """Whether traces are sent to a collector."""
        named = self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint
        return bool(named) and self.otel_traces_exporter == "otlp" and not self.otel_sdk_disabled

    @property
    def embedded_redis(self) -> bool:
        """Whether this process starts (or shares) a Redis of its own under LOOKALIKE_HOME."""
        return not self.redis_url

    @property
    def resolved_database_url(self) -> str:
        """DATABASE_URL, or the embedded SQLite file."""
        return self.database_url or f"sqlite:///{self.lookalike_home / 'lookalike.db'}"

    @property
    def resolved_model_store(self) -> str:
        """MODEL_STORE, or its folder under LOOKALIKE_HOME."""
        return self.model_store or str(self.lookalike_home / "models")

    @property
    def resolved_pool_store(self) -> str:
        """POOL_STORE, or its folder under LOOKALIKE_HOME."""
        return self.pool_store or str(self.lookalike_home / "pool")

    @property
    def resolved_audience_store(self) -> str:
        """AUDIENCE_STORE, or its folder under LOOKALIKE_HOME."""
        return self.audience_store or str(self.lookalike_home / "audiences")

    @property
    def resolved_import_root(self) -> str:
        """IMPORT_ROOT, or its folder under LOOKALIKE_HOME."""
        return str(self.import_root or self.lookalike_home / "imports")
