"""Bodies of expansions and campaigns, field by field. Whether names exist is decided against what is served."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.campaigns.inputs import ExpansionInputs
from service.campaigns.request import ExpansionRequest
from service.jobs.schemas import JobWarning, SeedCounts
from service.kit.bodies import Given, json_pointer
from service.kit.errors import MAX_ERRORS, FieldError, validation_failed
from service.kit.names import UserId, VersionName

MAX_IDS = 500_000
MAX_VALUES = 1_000
MAX_TEXT = 1_000

# fail_fast: half a million wrong elements are one error, not half a million.
UserIds = Annotated[list[UserId], Field(max_length=MAX_IDS, fail_fast=True)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FeatureName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Value = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Values = Annotated[list[Value], Field(max_length=MAX_VALUES, fail_fast=True)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Attributes = Annotated[dict[FeatureName, Any], Field(max_length=MAX_VALUES)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
LabelValue = Annotated[str, StringConstraints(max_length=256)]
Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=16)]

CHOICES = ("in", "any_of", "not_in")


class Rule(BaseModel):
    """Who may be in the audience by one feature: a list of values, or a range of a numeric one."""

    model_config = ConfigDict(populate_by_name=False)

    feature: FeatureName
    in_: Given[Values] = Field(default=None, alias="in")
    any_of: Given[Values] = None
    not_in: Given[Values] = None
    min: Given[Number] = None
    max: Given[Number] = None

    def members(self) -> dict[str, Any]:
        """Those that were sent, by the names they were sent under."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class Eligibility(BaseModel):
    """Every rule must let a user in."""

    all: Annotated[list[Rule], Field(max_length=100, fail_fast=True)]


class ExpansionForm(BaseModel):
    """What POST /campaigns/{campaign_id}/expand reads."""

    seed_user_ids: Annotated[UserIds, Field(min_length=1)]
    seed_weights: Given[Annotated[list[Weight], Field(max_length=MAX_IDS, fail_fast=True)]] = None
    negative_user_ids: Given[UserIds] = None
    exclude_user_ids: Given[UserIds] = None
    audience_size: Given[Annotated[int, Field(ge=1, lt=1 << 53)]] = None
    audience_fraction: Given[Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)]] = None
    min_score: Given[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]] = None
    include_seed_users: bool = False
    eligibility: Given[Eligibility] = None
    campaign: Attributes = Field(default_factory=dict)
    model_version: Given[VersionName] = None
    deadline_seconds: Annotated[int, Field(ge=10, le=86_400)] = 3_600
    on_active: Literal["queue", "reject", "supersede"] = "queue"
    labels: Labels = Field(default_factory=dict)
    deny_features: Annotated[list[FeatureName], Field(max_length=MAX_VALUES, fail_fast=True)] = Field(
        default_factory=list
    )

    def request(self) -> ExpansionRequest:
        """The request, if its fields fit together. Problem validation-failed."""
        faults = tuple(islice(self._faults(), MAX_ERRORS))
        if faults:
            raise validation_failed(*faults)
        return ExpansionRequest(
            inputs=ExpansionInputs.of(
                self.seed_user_ids, self.seed_weights, self.negative_user_ids, self.exclude_user_ids
            ),
            submitted=len(self.seed_user_ids),
            audience_size=self.audience_size,
            audience_fraction=self.audience_fraction,
            min_score=self.min_score,
            include_seed_users=self.include_seed_users,
            eligibility=[rule.members() for rule in self.eligibility.all] if self.eligibility else (),
            attributes=self.campaign,
            deny_features=self.deny_features,
            model_version=self.model_version,
            deadline_seconds=self.deadline_seconds,
            on_active=self.on_active,
            labels=self.labels,
        )

    def _faults(self) -> Iterator[FieldError]:
        if self.audience_size is not None and self.audience_fraction is not None:
            for name in ("audience_size", "audience_fraction"):
                yield FieldError(f"/{name}", "exclusive", "audience_size and audience_fraction exclude each other")
        if self.seed_weights is not None and len(self.seed_weights) != len(self.seed_user_ids):
            yield FieldError("/seed_weights", "wrong-length", "must have as many items as seed_user_ids")
        seeds = frozenset(self.seed_user_ids)
        for index, user_id in enumerate(self.negative_user_ids or ()):
            if user_id in seeds:
                yield FieldError(f"/negative_user_ids/{index}", "also-seed", "must not be a seed too")
        for index, rule in enumerate(self.eligibility.all if self.eligibility else ()):
            fault = _rule_fault(rule)
            if fault is not None:
                yield FieldError(f"/eligibility/all/{index}", *fault)
        yield from _attribute_faults(self.campaign, "campaign")


class PreflightPool(BaseModel):
    """The served pool; `eligible`: users passing the rules, before seeds and exclusions."""

    size: int
    eligible: int


class PreflightRule(BaseModel):
    """A rule that the expansion would have to keep: its limit, and what it is held against where that may be told."""

    rule: str
    limit: int
    value: int | None
    ok: bool


class PreflightDocument(BaseModel):
    """What an expansion would find; `ok`: whether it would keep every rule. `eta_seconds` is null before the first."""

    ok: bool
    seed: SeedCounts
    pool: PreflightPool
    rules: list[PreflightRule]
    eta_seconds: float | None
    warnings: list[JobWarning]


class CampaignForm(BaseModel):
    """What PUT /campaigns/{campaign_id} reads: attributes by name of the model's campaign features, and labels."""

    attributes: Attributes = Field(default_factory=dict)
    labels: Labels = Field(default_factory=dict)

    def check(self) -> None:
        """Problem validation-failed for an attribute of no possible type."""
        faults = tuple(islice(_attribute_faults(self.attributes, "attributes"), MAX_ERRORS))
        if faults:
            raise validation_failed(*faults)


class CampaignDocument(BaseModel):
    """A campaign, with the attributes that its expansions use where they bring none of their own."""

    campaign_id: str
    attributes: dict[str, Any]
    labels: dict[str, str]
    created_at: datetime
    updated_at: datetime


class CampaignList(BaseModel):
    """A page of campaigns, by id."""

    campaigns: list[CampaignDocument]
    next_page_token: str


def _rule_fault(rule: Rule) -> tuple[str, str] | None:
    members = rule.members()
    chosen = [name for name in CHOICES if name in members]
    if len(chosen) + (rule.min is not None or rule.max is not None) != 1:
        return "one-condition", "needs exactly one of in, any_of, not_in, or a range of min and max"
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        return "empty-range", "min must not be above max"
    return None


def _attribute_faults(attributes: Mapping[str, Any], member: str) -> Iterator[FieldError]:
    for name, value in attributes.items():
        items = value if isinstance(value, list) else [value]
        texts = all(isinstance(item, str) for item in items)
        numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in items)
        pointer = json_pointer((member, name))
        if not (texts or numbers):
            yield FieldError(pointer, "wrong-type", "must be a string, a number, or an array of either")
        elif len(items) > MAX_VALUES:
            yield FieldError(pointer, "too-long", f"must have at most {MAX_VALUES} item(s)")
        elif texts and any(len(item) > MAX_TEXT for item in items):
            yield FieldError(pointer, "too-long", f"must have at most {MAX_TEXT} character(s) in a string")
