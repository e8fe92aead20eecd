"""Statements on published audiences. Those on the way of a reader are built once and are one each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, bindparam, func, select
from sqlalchemy.orm import Session, aliased

from service.audiences.gaps import Gaps
from service.audiences.tables import Audience
from service.campaigns.tables import Campaign
from service.erasures.tables import newest_pending
from service.jobs.tables import Job
from service.kit.database import Database, db_now

CAMPAIGNS_AT_ONCE = 200
AUDIENCES_AT_ONCE = 200


@dataclass(frozen=True)
class Published:
    """What readers need to know of an audience. `size` is that of its object.

    gaps: who was erased from the object is missing there; `pending`: the newest erasure that is not done, whose users
    the object may still hold.
    """

    job_id: str
    tenant: str
    model_version: str
    object_name: str
    size: int
    etag: str
    seal_key: bytes
    token_key: bytes
    gaps: Gaps
    created_at: datetime
    expired: bool
    pending: int | None


_computed: dict[str, ColumnElement[Any]] = {
    "token_key": func.coalesce(Audience.token_key, Audience.seal_key),
    "expired": Audience.expires_at <= db_now(),
    "pending": newest_pending(),
}
_NAMES = [field.name for field in fields(Published)]
_COLUMNS = [_computed[name].label(name) if name in _computed else getattr(Audience, name) for name in _NAMES]
_NEWEST_FIRST = (Audience.job_created_at.desc(), Audience.job_id.desc())

_OF_JOB = (
    select(Job.state, *_COLUMNS)
    .outerjoin(Audience, Audience.job_id == Job.id)
    .where(Job.id == bindparam("job_id"), Job.tenant == bindparam("tenant"))
)
_OF_CAMPAIGN = (
    select(*_COLUMNS)
    .join(Campaign, Campaign.key == Audience.campaign_key)
    .where(Campaign.tenant == bindparam("tenant"), Campaign.campaign_id == bindparam("campaign_id"))
)
_CURRENT = _OF_CAMPAIGN.order_by(*_NEWEST_FIRST).limit(1)
_IN_CAMPAIGN = _OF_CAMPAIGN.where(Audience.job_id == bindparam("job_id"))

_INSIGHTS = select(Audience.insights).where(Audience.job_id == bindparam("job_id"))
_NEXT = select(*_COLUMNS).where(Audience.job_id > bindparam("after")).order_by(Audience.job_id).limit(AUDIENCES_AT_ONCE)

_newer = aliased(Audience)
_CURRENT_OF_EACH = (
    select(Campaign.campaign_id, *_COLUMNS)
    .join(Audience, Audience.campaign_key == Campaign.key)
    .where(
        Campaign.tenant == bindparam("tenant"),
        Campaign.campaign_id > bindparam("after"),
        Audience.job_id
        == select(_newer.job_id)
        .where(_newer.campaign_key == Campaign.key)
        .order_by(_newer.job_created_at.desc(), _newer.job_id.desc())
        .limit(1)
        .scalar_subquery(),
    )
    .order_by(Campaign.campaign_id)
    .limit(CAMPAIGNS_AT_ONCE)
)


def audience_of_job(database: Database, job_id: str, tenant: str) -> tuple[str, Published | None] | None:
    """The state of the tenant's job, and its audience while that is kept."""
    rows = database.look(_OF_JOB, job_id=job_id, tenant=tenant)
    if not rows:
        return None
    return rows[0].state, None if rows[0].job_id is None else _published(rows[0])


def audience_in_campaign(database: Database, job_id: str, campaign_id: str, tenant: str) -> Published | None:
    """The audience of a job, if it is one of this campaign."""
    return _first(database.look(_IN_CAMPAIGN, job_id=job_id, campaign_id=campaign_id, tenant=tenant))


def current_audience(database: Database, campaign_id: str, tenant: str) -> Published | None:
    """The campaign's current audience: that of its newest created succeeded job."""
    return _first(database.look(_CURRENT, campaign_id=campaign_id, tenant=tenant))


def current_audiences(database: Database, tenant: str) -> Iterator[list[tuple[str, Published]]]:
    """The current audience of each campaign of the tenant, by campaign, CAMPAIGNS_AT_ONCE at a time."""
    after = ""
    while rows := database.look(_CURRENT_OF_EACH, tenant=tenant, after=after):
        after = rows[-1].campaign_id
        yield [(row.campaign_id, _published(row)) for row in rows]


def insights_of(database: Database, job_id: str) -> list[Any]:
    """What sets the members of a job's audience apart; nothing for one from before that was computed."""
    rows = database.look(_INSIGHTS, job_id=job_id)
    return (rows[0].insights if rows else None) or []


def every_audience(database: Database) -> Iterator[list[Published]]:
    """All audiences of all tenants, expired ones too, AUDIENCES_AT_ONCE at a time."""
    after = ""
    while rows := database.look(_NEXT, after=after):
        after = rows[-1].job_id
        yield [_published(row) for row in rows]


def expired(session: Session, limit: int = 100) -> Sequence[Audience]:
    """Audiences past their time, the oldest first."""
    return session.scalars(
        select(Audience).where(Audience.expires_at <= db_now()).order_by(Audience.expires_at).limit(limit)
    ).all()


def _first(rows: Sequence[Row[Any]]) -> Published | None:
    return _published(rows[0]) if rows else None


def _published(row: Row[Any]) -> Published:
    values: list[Any] = [Gaps.load(row.gaps) if name == "gaps" else getattr(row, name) for name in _NAMES]
    return Published(*values)
