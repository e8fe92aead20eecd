"""What a caller is told of a job, event by event. It all follows from the job's row, so that any process can go on
where another one stopped."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import Row, bindparam, select

from service.jobs.schemas import JobDocument, StateChange
from service.jobs.states import FINISHED, State
from service.jobs.tables import Job
from service.kit.database import Database

NO_STAGE = "-"
_PARTS = 6
_LONGEST_ID = 200


@dataclass(frozen=True)
class Told:
    """All that a caller has been told of a job. As text it is the id of the last event: a caller who sends it back is
    told what is new since then, and nothing twice."""

    token: int = -1
    state: str = ""
    stage: str = NO_STAGE
    scored: int = 0
    total: int = 0
    done: int = 0

    def __str__(self) -> str:
        return f"{self.token}.{self.state}.{self.stage}.{self.scored}.{self.total}.{self.done}"

    @classmethod
    def parse(cls, text: str) -> "Told":
        """Of an event's id; of any other text that nothing was told yet."""
        parts = text.split(".")
        if len(parts) != _PARTS or len(text) > _LONGEST_ID:
            return cls()
        token, state, stage, *numbers = parts
        if not all(number.isascii() and number.isdigit() for number in (token, *numbers)):
            return cls()
        return cls(int(token), state, stage, *map(int, numbers))


@dataclass(frozen=True)
class Event:
    """One server-sent event; `told` is its id."""

    name: Literal["state", "progress", "done"]
    told: Told
    data: BaseModel

    def encode(self) -> bytes:
        """As the stream carries it."""
        return f"event: {self.name}\nid: {self.told}\ndata: {self.data.model_dump_json()}\n\n".encode()


_STANDING = select(Job.lease_token, Job.state, Job.stage, Job.scored_users, Job.total_users).where(
    Job.id == bindparam("job_id"), Job.tenant == bindparam("tenant")
)


def anything_new(database: Database, job_id: str, tenant: str, told: Told) -> bool:
    """Whether a look at the whole job is worth while: one cheap statement. A job that is gone is news too."""
    rows = database.look(_STANDING, job_id=job_id, tenant=tenant)
    return not rows or rows[0].state in FINISHED or told != _standing(rows[0])


def events_since(told: Told, job: Job, describe: Callable[[], JobDocument]) -> Iterator[Event]:
    """What a caller who knows `told` has yet to hear. `describe` is asked only when there is something.

    States that came and went between two looks are not told, but for `running`: every job that ran is seen to run.
    """
    now = _standing(job)
    if told.done or (told == now and job.state not in FINISHED):
        return
    document = describe()
    if told.state == State.QUEUED and job.state in FINISHED and job.started_at is not None:
        told = Told(job.lease_token, State.RUNNING)
        yield Event("state", told, _change(document).model_copy(update={"state": State.RUNNING.value}))
    if told.token != now.token:
        told = replace(told, scored=0, total=0)
    if (told.token, told.state, told.stage) != (now.token, now.state, now.stage):
        told = replace(told, token=now.token, state=now.state, stage=now.stage)
        yield Event("state", told, _change(document))
    progress = document.progress
    if progress.total_users and (told.scored, told.total) != (progress.scored_users, progress.total_users):
        told = replace(told, scored=progress.scored_users, total=progress.total_users)
        yield Event("progress", told, progress)
    if document.done:
        yield Event("done", replace(told, done=1), document)


def _standing(job: Job | Row[Any]) -> Told:
    """Where a job stands, told from its row or the columns of _STANDING."""
    stage = NO_STAGE if job.stage is None or job.state in FINISHED else job.stage
    return Told(job.lease_token, job.state, stage, job.scored_users, job.total_users)


def _change(document: JobDocument) -> StateChange:
    return StateChange.model_validate(document, from_attributes=True)
