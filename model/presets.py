"""The two recipes of the training command, as frozen configurations that travel inside the checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar

from model.errors import ModelError


@dataclass(frozen=True)
class ConvexConfig:
    """Recipe `default`: a frozen representation and, per campaign, a convex head with a learned prior."""

    name: ClassVar[str] = "default"
    uses_campaign_features: ClassVar[bool] = False

    embedding: int = 32
    hidden: tuple[int, ...] = (256,)
    representation: int = 64
    dropout: float = 0.1
    length_power: float = 0.5
    value_dropout: float = 0.3
    min_count: int = 5
    numeric_bins: int = 32

    campaigns_per_step: int = 12
    values_per_step: int = 4
    users_per_task: int = 256
    support_share: tuple[float, float] = (0.03, 0.9)
    unlabelled_share: float = 0.3
    unlabelled_users: int = 256
    newton_steps: int = 5
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    max_steps: int = 3000


@dataclass(frozen=True)
class MetaHeacConfig:
    """Recipe `metaheac`: hybrid experts and critics, meta-trained through its inner steps (KDD 2021).

    The paper's inner rate is 2e-4 on a sum over 512 support rows. Here the inner loss is a mean, so that a step does
    not grow with the number of rows, and the same step is 2e-4 x 512, about 0.1.
    """

    name: ClassVar[str] = "metaheac"
    uses_campaign_features: ClassVar[bool] = True

    embedding: int = 64
    experts: int = 8
    critics: int = 5
    hidden: tuple[int, int] = (64, 64)
    min_count: int = 5
    numeric_bins: int = 32

    tasks_per_step: int = 5
    support_rows: int = 512
    query_rows: int = 512
    inner_steps: int = 1
    inner_rate: float = 0.1
    first_order: bool = False
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_steps: int = 3000


PresetConfig = ConvexConfig | MetaHeacConfig

PRESETS: Mapping[str, PresetConfig] = MappingProxyType({"default": ConvexConfig(), "metaheac": MetaHeacConfig()})


def preset_document(preset: PresetConfig) -> dict[str, Any]:
    """The configuration as JSON: its name beside its fields."""
    return {"name": preset.name, **asdict(preset)}


def parse_preset(document: Mapping[str, Any]) -> PresetConfig:
    """Read back what `preset_document` wrote. Raises ModelError for an unknown preset or unknown or missing fields."""
    name = document.get("name")
    if not isinstance(name, str) or name not in PRESETS:
        raise ModelError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    kind = type(PRESETS[name])
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    del values["name"]
    expected = {field.name for field in fields(kind)}
    if values.keys() != expected:
        odd = sorted(values.keys() ^ expected)
        raise ModelError(f"preset {name!r} has unknown or missing settings: {', '.join(odd)}")
    for field in fields(kind):
        default = getattr(PRESETS[name], field.name)
        if type(values[field.name]) is not type(default):
            raise ModelError(f"preset {name!r}: setting {field.name!r} must be a {type(default).__name__}")
    return kind(**values)
