"""Which features users and campaigns have, and how campaigns find their people."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from model.schema import Feature, Schema


@dataclass(frozen=True)
class Field:
    """A feature; its number of values is 0 for a numeric one."""

    feature: Feature
    values: int = 0

    @classmethod
    def single(cls, name: str, values: int) -> "Field":
        """One of so many values."""
        return cls(Feature(name, "categorical"), values)

    @classmethod
    def multi(cls, name: str, values: int, most: int) -> "Field":
        """Up to `most` of so many values."""
        return cls(Feature(name, "multi", most), values)


@dataclass(frozen=True)
class Scenario:
    """What kind of world to make up; users and campaigns are the numbers to go by if none are given.

    rows: the fewest and the most labelled users of a campaign, in between evenly by logarithm. positives: the share of
    them that converts. told: which share of what a campaign is after its features tell, 0 to 1. segments: into how many
    kinds of people its appeal differs; with 1 it is linear in a user's taste. strength: of the appeal, in logits.
    """

    user_fields: tuple[Field, ...]
    campaign_fields: tuple[Field, ...]
    users: int
    campaigns: int
    rows: tuple[int, int]
    positives: float
    told: float
    segments: int
    strength: float = 3.0

    @property
    def schema(self) -> Schema:
        """Of the dataset."""
        users, campaigns = (
            tuple(field.feature for field in fields) for fields in (self.user_fields, self.campaign_fields)
        )
        return Schema(users, campaigns)


ORDINARY = Scenario(
    user_fields=(
        Field(Feature("age", "numeric")),
        Field.single("gender", 2),
        Field.single("region", 60),
        Field.single("device", 12),
        Field.multi("interests", 300, 12),
        Field.multi("brands", 4_000, 8),
    ),
    campaign_fields=(Field.single("category", 20), Field.single("advertiser", 60)),
    users=20_000,
    campaigns=150,
    rows=(60, 4_000),
    positives=0.25,
    told=0.5,
    segments=1,
)
# As in the paper: thousands of rows a campaign, whose features tell a good part of whom it is after, and no plain model
# of a user's values can say who they are.
WECHAT = Scenario(
    user_fields=(
        Field(Feature("age", "numeric")),
        Field.single("gender", 3),
        Field.single("city", 300),
        Field.single("education", 8),
        Field.single("device", 6),
        Field.multi("interests", 125, 10),
        Field.multi("apps", 83, 10),
        Field.multi("topics", 10_000, 5),
    ),
    campaign_fields=(
        Field.single("category", 12),
        Field.single("product", 30),
        Field.single("creative", 15),
    ),
    users=60_000,
    campaigns=60,
    rows=(18_000, 24_000),
    positives=0.25,
    told=0.95,
    segments=6,
)
# The shapes of the published data, to measure speed on; see the design's page on performance.
REFERENCE = Scenario(
    user_fields=(
        *(Field.single(f"single{number}", values) for number, values in enumerate((4, 3, 856, 6, 8, 3, 2))),
        *(Field.multi(f"short{number}", values, 10) for number, values in enumerate((125, 83, 13))),
        *(Field.multi(f"long{number}", values, 5) for number, values in enumerate((263_313, 49_781, 10_003, 9_985))),
    ),
    campaign_fields=tuple(
        Field.single(f"campaign{number}", values) for number, values in enumerate((79, 138, 15, 40, 33, 4))
    ),
    users=1_000_000,
    campaigns=100,
    rows=(2_000, 20_000),
    positives=0.2,
    told=0.7,
    segments=3,
)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType({"ordinary": ORDINARY, "wechat": WECHAT, "reference": REFERENCE})
