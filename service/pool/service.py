"""Accepts imports of user pools."""

from typing import Any

from sqlalchemy.orm import Session

from model.errors import DataError, PoolError
from model.schema import Schema
from service.jobs.repository import NewJob, add_job
from service.jobs.states import Kind
from service.jobs.tables import Job
from service.kit.durations import DAY
from service.kit.errors import FieldError, Problem, validation_failed
from service.pool.importing import Mode
from service.pool.locations import ImportRoot
from service.pool.repository import get_snapshot
from service.pool.tables import Snapshot
from service.serving.repository import get_serving

DEADLINE_SECONDS = DAY


def current(session: Session) -> tuple[Snapshot, str | None]:
    """The served snapshot, and the id of the desired one where that is another. Problem not-found."""
    row = get_serving(session)
    snapshot = get_snapshot(session, row.snapshot_id) if row.snapshot_id else None
    if snapshot is None:
        raise Problem("not-found", "No pool is served yet.")
    return snapshot, None if row.desired_snapshot_id == snapshot.id else row.desired_snapshot_id


def submit_import(
    session: Session,
    tenant: str,
    *,
    root: ImportRoot,
    users: str,
    schema: dict[str, Any] | str | None,
    mode: Mode,
    max_attempts: int,
) -> Job:
    """Make the job that imports the file. schema: itself, or the location of its file, which the job reads.

    Problem validation-failed names the field at fault.
    """
    if schema is None and mode == "replace":
        raise validation_failed(FieldError("/schema", "missing", "is required to replace the pool"))
    try:
        if isinstance(schema, dict):
            Schema.parse(schema, "schema")
    except DataError as error:
        raise validation_failed(FieldError("/schema", "not-a-schema", str(error))) from None
    for pointer, location in (("/users", users), ("/schema", schema)):
        if isinstance(location, str):
            _check_location(root, location, pointer)
    job = add_job(
        session,
        NewJob(
            kind=Kind.IMPORT_POOL,
            tenant=tenant,
            request={"users": users, "schema": schema, "mode": mode},
            deadline_seconds=DEADLINE_SECONDS,
            max_attempts=max_attempts,
        ),
    )
    session.refresh(job)
    return job


def _check_location(root: ImportRoot, location: str, pointer: str) -> None:
    try:
        root.check(location)
    except PoolError as error:
        raise validation_failed(FieldError(pointer, "not-importable", str(error))) from None
