"""An expansion as it was asked for, whatever form that came in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from service.campaigns.inputs import ExpansionInputs

DEFAULT_FRACTION = 0.01


@dataclass(frozen=True)
class ExpansionRequest:
    """A request whose form is right; whether its names exist is decided against the served model and pool."""

    inputs: ExpansionInputs
    submitted: int
    audience_size: int | None = None
    audience_fraction: float | None = None
    min_score: float | None = None
    include_seed_users: bool = False
    eligibility: Sequence[Mapping[str, Any]] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    deny_features: Sequence[str] = ()
    model_version: str | None = None
    deadline_seconds: int = 3600
    on_active: Literal["queue", "reject", "supersede"] = "queue"
    labels: Mapping[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """What the worker needs of it, beside the ids."""
        by_size = self.audience_size is not None
        return {
            "submitted": self.submitted,
            "unique": len(self.inputs.seeds),
            "audience_size": self.audience_size,
            "audience_fraction": None if by_size else self.audience_fraction or DEFAULT_FRACTION,
            "min_score": self.min_score,
            "include_seed_users": self.include_seed_users,
            "eligibility": [dict(rule) for rule in self.eligibility],
            "attributes": dict(self.attributes),
            "deny_features": sorted(set(self.deny_features)),
            "model_version": self.model_version,
            "labels": dict(self.labels),
        }
