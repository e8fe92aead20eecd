"""What the service itself knows of past campaigns: the seeds of an expansion converted, its known negatives did not."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from model.dataset import Dataset
from model.recorded import Joined, RecordedCampaign, join_recorded
from model.user_ids import IdKind
from service.campaigns.inputs import ExpansionInputs
from service.campaigns.tables import Campaign
from service.erasures.repository import TombstoneReader
from service.jobs.repository import get_payload
from service.jobs.states import Kind, State
from service.jobs.tables import Job, JobInput
from service.kit.database import Database, JsonObject
from service.tenants.tables import Tenant


@dataclass(frozen=True)
class Outcomes:
    """What was recorded at a moment, and is still stored, of campaigns of tenants that let their expansions train.

    min_seeds: how many seeds of a campaign a data set must have for it to take part.
    """

    database: Database
    tombstones: TombstoneReader
    min_seeds: int
    until: datetime

    def join(self, dataset: Dataset, seed: int) -> Joined:
        """The data set with the recorded campaigns; erased users take no part in these. Raises StoreError for another
        ERASURE_KEY than the one that tombstones are made with."""
        kind = dataset.schema.id_kind
        with self.database.read() as session:
            campaigns = list(recorded_campaigns(session, self.until, kind))
        return join_recorded(dataset, campaigns, self._erased, fewest=self.min_seeds, seed=seed)

    def _erased(self, user_ids: pa.LargeStringArray) -> NDArray[np.bool_]:
        tombstones = self.tombstones.since(0)
        if not tombstones.digests:
            return np.zeros(len(user_ids), np.bool_)
        return tombstones.erased(user_ids.cast(pa.large_binary()).to_pylist())


def recorded_campaigns(session: Session, until: datetime, kind: IdKind) -> Iterator[RecordedCampaign]:
    """One for each campaign, by key, as its newest expansion that had succeeded by then tells it, with ids in the
    normal form of the kind.

    Attributes are those of the job, which has the campaign's too: they do not change under a training that is resumed.
    """
    for job_id, key, request in session.execute(_newest_jobs(until)).all():
        payload = get_payload(session, job_id)
        if payload is not None:  # else past its retention meanwhile
            yield _campaign(key, request, ExpansionInputs.decode(payload).normal(kind))


def _newest_jobs(until: datetime) -> Select[str, int, JsonObject]:
    place = func.row_number().over(partition_by=Job.campaign_key, order_by=(Job.created_at.desc(), Job.id.desc()))
    ranked = (
        select(Job.id, place.label("place"))
        .join(Tenant, Tenant.name == Job.tenant)
        .join(JobInput, JobInput.job_id == Job.id)
        .where(
            Tenant.train_on_expansions,
            Job.kind == Kind.EXPAND,
            Job.state == State.SUCCEEDED,
            Job.finished_at <= until,
        )
        .subquery()
    )
    newest = select(ranked.c.id).where(ranked.c.place == 1)
    return (
        select(Job.id, Campaign.key, Job.request)
        .join(Campaign, Campaign.key == Job.campaign_key)
        .where(Job.id.in_(newest))
        .order_by(Campaign.key)
    )


def _campaign(key: int, request: JsonObject, inputs: ExpansionInputs) -> RecordedCampaign:
    seeds, negatives, excluded = (
        pa.array(user_ids, pa.large_string()) for user_ids in (inputs.seeds, inputs.negatives, inputs.excluded)
    )
    weights = None if inputs.weights is None else np.asarray(inputs.weights)
    return RecordedCampaign(key, request["attributes"], seeds, weights, negatives, excluded)
