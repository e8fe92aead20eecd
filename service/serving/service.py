"""Moves what is served: a promotion or an import sets the desired pair, a `represent` job makes it servable.

Until that job has moved the triple, expansions go on with the old one; running jobs never change theirs.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.audit.repository import record
from service.jobs.repository import NewJob, add_unique_job, newest_under_key
from service.jobs.states import Kind, State
from service.kit.durations import DAY
from service.kit.errors import Problem
from service.serving import repository
from service.serving.tables import Serving

REPRESENT_DEADLINE_SECONDS = DAY
WORKER = "worker"
_REASON_CHARACTERS = 1000


@dataclass(frozen=True)
class Served:
    """The model being served, and the one that will be once the pool's representation under it is made."""

    current: str | None
    pending: str | None


def served(session: Session) -> Served:
    """What `/models/current` shows."""
    return _view(repository.get_serving(session))


def promote(
    session: Session, version: str, *, actor: str, reason: str, max_attempts: int, expected_current: str | None = None
) -> Served:
    """Make `version` the desired model; `model-changed` when the desired one is not `expected_current`, if given."""
    row = repository.lock_serving(session)
    _check_expectation(row, expected_current)
    return _switch(session, row, "promote", version, actor=actor, reason=reason, max_attempts=max_attempts)


def rollback(
    session: Session, *, actor: str, reason: str, max_attempts: int, expected_current: str | None = None
) -> Served:
    """Go back to the model that the newest promotion replaced. Problem model-changed when there is none."""
    row = repository.lock_serving(session)
    _check_expectation(row, expected_current)
    current = row.desired_model_version
    target = None if current is None else repository.previous_version(session, current)
    if target is None:
        raise Problem("model-changed", detail="There is no earlier model to go back to.")
    return _switch(session, row, "rollback", target, actor=actor, reason=reason, max_attempts=max_attempts)


def end_failed_promotion(session: Session, *, max_attempts: int) -> str | None:
    """Go back to the served model if the pool's representation under the desired one could not be made, for the reason
    that its job gives; the version whose promotion failed, or None.

    Before anything is served there is nothing to go back to: the next import or promotion tries again.
    """
    row = repository.lock_serving(session)
    failed, kept = row.desired_model_version, row.model_version
    if failed is None or kept in (None, failed):
        return None
    job = newest_under_key(session, _represent_key(failed, row.desired_snapshot_id))
    if job is None or job.state != State.FAILED:
        return None
    reason = str((job.error or {}).get("detail", ""))[:_REASON_CHARACTERS]
    repository.add_promotion(
        session, action=repository.FAILED, from_version=failed, to_version=kept, actor=WORKER, reason=reason
    )
    record(session, "model.promotion_failed", failed, tenant=None, actor=WORKER, reason=reason)
    row.desired_model_version = kept
    _reach_for(session, row, max_attempts)
    return failed


def desire_snapshot(session: Session, snapshot_id: str, *, max_attempts: int) -> None:
    """Make an imported snapshot the desired pool."""
    row = repository.lock_serving(session)
    row.desired_snapshot_id = snapshot_id
    _reach_for(session, row, max_attempts)


def replace_snapshot(session: Session, old: str, new: str, *, max_attempts: int) -> None:
    """Let a snapshot take the place of one that users were erased from, wherever that is served or desired. LookupError
    if it has no representation yet under the served model."""
    row = repository.lock_serving(session)
    if row.desired_snapshot_id == old:
        row.desired_snapshot_id = new
    if row.snapshot_id == old and row.model_version is not None:
        made = repository.find_representation(session, row.model_version, new)
        if made is None:
            raise LookupError(f"{new} is not represented under {row.model_version}")
        row.snapshot_id, row.representation_id = new, made.id
    _reach_for(session, row, max_attempts)


def _check_expectation(row: Serving, expected_current: str | None) -> None:
    if expected_current is not None and row.desired_model_version != expected_current:
        raise Problem("model-changed", detail="Another promotion came first; look at /models/current and decide again.")


def _switch(
    session: Session, row: Serving, action: str, version: str, *, actor: str, reason: str, max_attempts: int
) -> Served:
    if row.desired_model_version != version:
        repository.add_promotion(
            session,
            action=action,
            from_version=row.desired_model_version,
            to_version=version,
            actor=actor,
            reason=reason,
        )
        record(session, f"model.{action}", version, tenant=None, actor=actor, reason=reason)
        row.desired_model_version = version
    _reach_for(session, row, max_attempts)
    return _view(row)


def _reach_for(session: Session, row: Serving, max_attempts: int) -> None:
    """Serve the desired pair at once where its representation exists, else have it made."""
    session.flush()
    if row.desired_model_version is None or row.desired_snapshot_id is None:
        return
    pair = (row.desired_model_version, row.desired_snapshot_id)
    if pair == (row.model_version, row.snapshot_id):
        return
    made = repository.find_representation(session, *pair)
    if made is not None:
        repository.move_triple(session, made)
        session.refresh(row)
        return
    add_unique_job(
        session,
        NewJob(
            kind=Kind.REPRESENT,
            request={"model_version": pair[0], "snapshot_id": pair[1], "base": row.snapshot_id},
            unique_key=_represent_key(*pair),
            deadline_seconds=REPRESENT_DEADLINE_SECONDS,
            max_attempts=max_attempts,
        ),
    )


def _represent_key(model_version: str, snapshot_id: str | None) -> str:
    return f"represent:{model_version}:{snapshot_id}"


def _view(row: Serving) -> Served:
    # With no pool yet nothing can be served, but the model that will be is the one to show.
    if row.desired_snapshot_id is None:
        return Served(row.desired_model_version, None)
    pending = row.desired_model_version if row.desired_model_version != row.model_version else None
    return Served(row.model_version, pending)
