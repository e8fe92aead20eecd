"""Accepts imports of user pools."""

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from model.errors import DataError, PoolError
from model.schema import Schema
from service.jobs.repository import NewJob, add_job
from service.jobs.states import Kind
from service.jobs.tables import Job
from service.kit.errors import FieldError, Problem, validation_failed
from service.pool.importing import resolve_import
from service.pool.repository import get_snapshot
from service.pool.tables import Snapshot
from service.serving.repository import get_serving

DEADLINE_SECONDS = 86_400.0


def current(session: Session) -> tuple[Snapshot, str | None]:
    """The served snapshot, and the id of the desired one where that is another. Problem not-found."""
    row = get_serving(session)
    snapshot = get_snapshot(session, row.snapshot_id) if row.snapshot_id else None
    if snapshot is None:
        raise Problem("not-found", "No pool is served yet.")
    return snapshot, None if row.desired_snapshot_id == snapshot.id else row.desired_snapshot_id


def submit_import(
    session: Session, tenant: str, *, root: Path, users: str, schema: dict[str, Any], mode: str, max_attempts: int
) -> Job:
    """Make the job that imports the file. Problem validation-failed names the field at fault."""
    if mode != "replace":
        raise validation_failed(FieldError("/mode", "not-supported", "only replace is supported yet"))
    try:
        Schema.parse(schema, "schema")
    except DataError as error:
        raise validation_failed(FieldError("/schema", "not-a-schema", str(error))) from None
    try:
        resolve_import(root, users)
    except PoolError as error:
        raise validation_failed(FieldError("/users", "not-importable", str(error))) from None
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
