"""The event stream of a job over HTTP: server-sent events, until the job is done."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse

from service.jobs import service
from service.jobs.documents import describe_one
from service.jobs.events import Event, Told, anything_new, events_since
from service.jobs.renewing import PROGRESS_SECONDS
from service.kit.auth import Principal, require
from service.kit.bell import WakeUps
from service.kit.database import Database
from service.kit.dependencies import AppDatabase, AppDraining, AppEnded, of_app
from service.kit.describing import problems
from service.kit.errors import Problem, unavailable
from service.kit.limits import Standing, quota_exceeded
from service.kit.media import negotiate
from service.kit.names import JobName
from service.kit.places import Places

logger = logging.getLogger(__name__)
router = APIRouter(tags=["jobs"])

EVENT_STREAM = "text/event-stream"
LOOK_SECONDS = PROGRESS_SECONDS  # a worker writes no more often
HEARTBEAT_SECONDS = 15.0
LONGEST_SECONDS = 900.0  # then the caller comes again, with a key that must still be valid
STREAMS_PER_TENANT = 50  # each costs a look at the database twice a second
STREAMS_PER_PROCESS = 200
RETRY_SECONDS = 10
HEARTBEAT = b": still here\n\n"
# Of each event; `data` is JSON.
EVENT_SCHEMA = {
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"enum": ["state", "progress", "done"]},
        "id": {"type": "string"},
        "data": {"type": "string"},
    },
}

Reader = Annotated[Principal, Depends(require("jobs:read"))]


async def _accept_events(request: Request, _principal: Reader) -> None:
    negotiate(request, (EVENT_STREAM,))


async def _place(principal: Reader, streams: Annotated[Places, of_app("streams")]) -> AsyncIterator[None]:
    """Hold a place. Problem: quota-exceeded; dependency-unavailable when other tenants have them all."""
    used = streams.of(principal.tenant)
    if used >= STREAMS_PER_TENANT:
        standing = Standing("EVENT_STREAMS", STREAMS_PER_TENANT, used, unit="concurrent-requests")
        raise quota_exceeded(standing, RETRY_SECONDS, unit="event streams at a time")
    if streams.total() >= STREAMS_PER_PROCESS:
        raise unavailable("No more event streams can be served just now.", retry_after=RETRY_SECONDS)
    with streams.hold(principal.tenant):
        yield  # until the answer has ended


@router.get(
    "/jobs/{job_id}/events",
    dependencies=[Depends(_accept_events), Depends(_place)],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events `state` (state, stage, attempt), `progress` (as in a Job) and, at the end, `done` "
            "(the Job); comments in between keep proxies awake.",
            "content": {EVENT_STREAM: {"schema": EVENT_SCHEMA}},
        },
        204: {"description": "`Last-Event-ID` is that of `done`: there is nothing to come, and no need to ask again."},
    },
    openapi_extra=problems("quota-exceeded"),
)
async def read_events(
    principal: Reader,
    database: AppDatabase,
    ended: AppEnded,
    draining: AppDraining,
    job_id: Annotated[JobName, Path()],
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """What becomes of a job, as server-sent events. `Last-Event-ID` goes on after that event.

    A stream lasts 15 minutes at most, and ends when the service is shut down: come again with the last id.
    """
    told = Told.parse(last_event_id)
    first = await run_in_threadpool(_look, database, job_id, principal.tenant, told)
    if told.done:
        return Response(status_code=204)
    stream = _tell(database, ended, draining, job_id, principal.tenant, told, first)
    return StreamingResponse(stream, media_type=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})


async def _tell(
    database: Database,
    ended: WakeUps,
    draining: threading.Event,
    job_id: str,
    tenant: str,
    told: Told,
    events: Sequence[Event],
) -> AsyncIterator[bytes]:
    started = spoken = time.monotonic()
    with ended.expect(job_id) as rung:
        while True:
            for event in events:
                yield event.encode()
                told = event.told
            now = time.monotonic()
            if told.done or now - started >= LONGEST_SECONDS or draining.is_set():
                return
            if events:
                spoken = now
            elif now - spoken >= HEARTBEAT_SECONDS:
                yield HEARTBEAT
                spoken = now
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), LOOK_SECONDS)
            rung.clear()
            try:
                events = await run_in_threadpool(_look, database, job_id, tenant, told)
            except SQLAlchemyError as error:  # the next look may find it well again
                logger.warning("a stream waits for the database: %s", type(error).__name__)
                events = ()
            except Problem:  # deleted
                return


def _look(database: Database, job_id: str, tenant: str, told: Told) -> list[Event]:
    if not anything_new(database, job_id, tenant, told):
        return []
    with database.read() as session:
        job = service.get(session, job_id, tenant)
        return list(events_since(told, job, lambda: describe_one(session, job)))
