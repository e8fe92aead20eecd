"""The two recipes of the training command, as frozen configurations that travel inside the checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from model.errors import ModelError


@dataclass(frozen=True)
class HeadPart:
    """One penalised logistic regression: on φ, with its learned prior, or not; and on the bag of feature values with
    the penalty sparse_ridge (0: not on them), scaled as in HeadSetting."""

    phi: bool
    sparse_ridge: float = 0.0
    length_power: float = 0.0
    rarity_power: float = 0.0


_ON_PHI = HeadPart(phi=True)


@dataclass(frozen=True)
class HeadSetting:
    """How the head of a campaign with at most `most_seeds` positives is solved (0: with any number of them).

    Two heads are mixed: one on φ and, where sparse_ridge > 0, on the bag of feature values; and one on that bag alone,
    of penalty plain_ridge, with plain_share of the logits. In the bag a feature value counts (its rarity)^rarity_power
    / (the user's values in its field)^length_power. match_activity: whether users sampled as negatives are weighed to
    be as active as the seeds. slope: what the logits are multiplied by in the end, so that the chances mean what they
    say.
    """

    most_seeds: int = 0
    sparse_ridge: float = 0.0
    plain_ridge: float = 0.0
    plain_share: float = 0.0
    length_power: float = 0.0
    rarity_power: float = 0.5
    match_activity: bool = False
    slope: float = 1.0

    def parts(self) -> list[tuple[float, HeadPart]]:
        """The heads that have a share of the logits, with that share."""
        on_values = partial(HeadPart, length_power=self.length_power, rarity_power=self.rarity_power)
        heads = (
            (
                1 - self.plain_share,
                on_values(phi=True, sparse_ridge=self.sparse_ridge) if self.sparse_ridge else _ON_PHI,
            ),
            (self.plain_share, on_values(phi=False, sparse_ridge=self.plain_ridge)),
        )
        return [(share, part) for share, part in heads if share > 0]

    @property
    def reads_values(self) -> bool:
        """Whether any part is on feature values."""
        return any(part.sparse_ridge > 0 for _, part in self.parts())


@dataclass(frozen=True)
class ConvexConfig:
    """Recipe `default`: a frozen representation and, per campaign, a convex head with a learned prior."""

    name: ClassVar[str] = "default"
    uses_campaign_features: ClassVar[bool] = False

    embedding: int = 32
    hidden: tuple[int, ...] = (256,)
    representation: int = 64
    dropout: float = 0.1
    length_power: float = 0.25
    value_dropout: float = 0.3
    min_count: int = 5
    numeric_bins: int = 32

    campaigns_per_step: int = 12
    values_per_step: int = 4
    users_per_task: int = 256
    support_share: tuple[float, float] = (0.03, 0.9)
    unlabelled_share: float = 0.3
    unlabelled_users: int = 256
    newton_steps: int = 12
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    max_steps: int = 1000

    # Chosen at the end of the training, on validation campaigns; by rising most_seeds, the last one for all others.
    heads: tuple[HeadSetting, ...] = (HeadSetting(),)
    # The same where users sampled from the pool stand for negatives.
    sampled_heads: tuple[HeadSetting, ...] = (HeadSetting(),)

    def head(self, seeds: int, *, sampled: bool) -> HeadSetting:
        """The setting for a campaign with so many positives, and with users sampled as negatives or without."""
        return _for_seeds(self.sampled_heads if sampled else self.heads, seeds)


@dataclass(frozen=True)
class OnlineStage:
    """How `metaheac` adapts to a campaign with at most `most_seeds` positives (0: with any number of them): `passes`
    over its rows at a learning rate, each an inner step as in meta-training or, with adam, an epoch of Adam over
    shuffled rows."""

    most_seeds: int = 0
    adam: bool = False
    rate: float = 0.1
    passes: int = 1


# The published script: Adam over everything, two epochs.
PUBLISHED_STAGE = OnlineStage(adam=True, rate=1e-3, passes=2)


@dataclass(frozen=True)
class MetaHeacConfig:
    """Recipe `metaheac`: hybrid experts and critics, meta-trained through its inner steps (KDD 2021).

    A field is the sum of its values' embeddings / number of values ^ length_power; at 1, as published, a long list has
    hardly anything to say. The paper's inner rate is 2e-4 on a sum over 512 support rows. Here the inner loss is a
    mean, so that a step does not grow with the number of rows, and the same step is 2e-4 x 512, about 0.1.

    frozen_embeddings: adapting, in training too, leaves users' embeddings and the experts' first layer as they are.
    Then what these make of a user is the same for every campaign, and is stored once.
    """

    name: ClassVar[str] = "metaheac"
    uses_campaign_features: ClassVar[bool] = True

    embedding: int = 64
    experts: int = 8
    critics: int = 5
    hidden: tuple[int, int] = (64, 64)
    length_power: float = 0.5
    min_count: int = 5
    numeric_bins: int = 32

    tasks_per_step: int = 5
    support_rows: int = 512
    query_rows: int = 512
    inner_steps: int = 1
    inner_rate: float = 0.1
    frozen_embeddings: bool = False
    first_order: bool = False
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    max_steps: int = 3000

    online_batch_rows: int = 512
    # An epoch of Adam ends after so many rows (0: after all of them), for it was chosen on campaigns with no more.
    online_epoch_rows: int = 1000
    # Whether the online stage is chosen at the end of the training, on validation campaigns; by rising most_seeds.
    tune_online: bool = True
    online: tuple[OnlineStage, ...] = (OnlineStage(),)

    def stage(self, seeds: int) -> OnlineStage:
        """The online stage of a campaign with so many positives."""
        return _for_seeds(self.online, seeds)


BySeeds = TypeVar("BySeeds", HeadSetting, OnlineStage)


def _for_seeds(settings: tuple[BySeeds, ...], seeds: int) -> BySeeds:
    return next((setting for setting in settings[:-1] if seeds <= setting.most_seeds), settings[-1])


PresetConfig = ConvexConfig | MetaHeacConfig

PRESETS: Mapping[str, PresetConfig] = MappingProxyType({"default": ConvexConfig(), "metaheac": MetaHeacConfig()})
# Settings younger than checkpoints that are still to be read: with these values they are not written down, so that a
# model from before keeps its hash.
_LATER: Mapping[str, Mapping[str, Any]] = MappingProxyType({"metaheac": {"frozen_embeddings": False}})
# In place of a preset's name: train them all, and keep the one that is best on validation campaigns.
AUTO = "auto"


def preset_document(preset: PresetConfig) -> dict[str, Any]:
    """The configuration as JSON: its name beside its fields."""
    later = _LATER.get(preset.name, {}).items()
    return {"name": preset.name, **{key: value for key, value in asdict(preset).items() if (key, value) not in later}}


def parse_preset(document: Mapping[str, Any]) -> PresetConfig:
    """Read back what `preset_document` wrote. Raises ModelError for an unknown preset or unknown or missing fields."""
    name = document.get("name")
    if not isinstance(name, str) or name not in PRESETS:
        raise ModelError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    values = {**_LATER.get(name, {}), **{key: value for key, value in document.items() if key != "name"}}
    for key in _BY_SEEDS.keys() & values.keys():
        values[key] = _parse_by_seeds(f"preset {name!r}", key, values[key])
    return _parse(f"preset {name!r}", PRESETS[name], values)


_BY_SEEDS: Mapping[str, HeadSetting | OnlineStage] = MappingProxyType(
    {"heads": HeadSetting(), "sampled_heads": HeadSetting(), "online": OnlineStage()}
)


def _parse_by_seeds(where: str, key: str, documents: object) -> tuple[HeadSetting | OnlineStage, ...]:
    if not isinstance(documents, list | tuple) or not documents or not all(isinstance(d, Mapping) for d in documents):
        raise ModelError(f"{where}: setting {key!r} must be a list of settings by number of seeds")
    default = _BY_SEEDS[key]
    return tuple(_parse(f"{where}, {key} {number}", default, found) for number, found in enumerate(documents))


Settings = TypeVar("Settings", bound=ConvexConfig | MetaHeacConfig | HeadSetting | OnlineStage)


def _parse(where: str, default: Settings, document: Mapping[str, Any]) -> Settings:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
    }
    expected = {field.name for field in fields(default)}
    if values.keys() != expected:
        odd = sorted(values.keys() ^ expected)
        raise ModelError(f"{where} has unknown or missing settings: {', '.join(odd)}")
    for name in expected:
        kind = type(getattr(default, name))
        if type(values[name]) is not kind:
            raise ModelError(f"{where}: setting {name!r} must be a {kind.__name__}")
    return type(default)(**values)
