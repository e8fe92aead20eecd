"""Model versions, and what promoting one takes and tells."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.kit.bodies import Given
from service.kit.names import VersionName


class VersionView(BaseModel):
    """A published version of the general model."""

    version: str
    name: str
    sha256: str
    trained_at: datetime
    created_at: datetime
    metrics: dict[str, float]
    gate: dict[str, Any]
    campaign_features: list[dict[str, Any]]


class VersionList(BaseModel):
    """A page of versions, newest first."""

    models: list[VersionView]
    next_page_token: str


class CurrentModel(BaseModel):
    """The served version (null while there is none), and the one that will be once its representation is made."""

    version: str | None
    pending: str | None
    model: VersionView | None


class Switch(BaseModel):
    """Why, and which version the caller believes is the current one."""

    reason: Annotated[str, Field(max_length=1_000)] = ""
    expected_current: Given[VersionName] = None


class Switched(BaseModel):
    """What is served now and what will be."""

    current: str | None
    pending: str | None
