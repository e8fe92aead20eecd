"""Tables of the model registry."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from service.kit.database import Base, JsonObject, db_now


class ScoreReference(Base):
    """How the scores of a model's first jobs are spread: the sum of their shares by bin, and how many they are."""

    __tablename__ = "score_references"

    model_version: Mapped[str] = mapped_column(String(128), primary_key=True)
    jobs: Mapped[int]
    shares: Mapped[list[Any]]


class ModelVersion(Base):
    """A published, immutable version of the general model. What the api validates against stands in this row."""

    __tablename__ = "model_versions"

    version: Mapped[str] = mapped_column(String(128), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    campaign_features: Mapped[list[Any]] = mapped_column()
    metrics: Mapped[JsonObject]
    gate: Mapped[JsonObject]
    trained_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=db_now())
