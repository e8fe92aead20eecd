"""Statements on erasures and tombstones. Callers own the transaction; nothing commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from model.errors import StoreError
from service.erasures.tables import Erasure, ErasureClock, Tombstone
from service.erasures.tombstones import ErasureKey, Tombstones
from service.jobs.runner import Overtaken
from service.jobs.states import ACTIVE
from service.jobs.tables import Job
from service.kit.database import Database, db_now, insert_or_ignore

OTHER_KEY = "this process has another ERASURE_KEY than the one that erased users were noted down with"


def advance(session: Session, key: ErasureKey) -> int:
    """Begin a generation; publishers wait until it is committed. Raises StoreError for a key that is not the first
    erasure's."""
    statement = (
        update(ErasureClock)
        .where(ErasureClock.id == 1)
        .values(generation=ErasureClock.generation + 1, key_check=func.coalesce(ErasureClock.key_check, key.check))
        .returning(ErasureClock.generation, ErasureClock.key_check)
    )
    clock = session.execute(statement).one()
    if clock.key_check != key.check:
        raise StoreError(OTHER_KEY)
    return int(clock.generation)


def add_tombstones(session: Session, digests: Sequence[bytes], generation: int) -> None:
    """Note down erased users; those that are noted down already stay as they are."""
    rows = [{"digest": digest, "generation": generation} for digest in digests]
    if rows:
        session.execute(insert_or_ignore(session, Tombstone), rows)


def demand_generation(session: Session, generation: int) -> None:
    """Let what was filtered as of this generation be published. Overtaken if anybody was erased since; nobody is until
    the transaction ends."""
    clock = session.scalars(select(ErasureClock).where(ErasureClock.id == 1).with_for_update(read=True)).one()
    if clock.generation != generation:
        raise Overtaken


@dataclass(frozen=True)
class TombstoneReader:
    """Reads tombstones for publishers."""

    database: Database
    key: ErasureKey

    def since(self, generation: int) -> Tombstones:
        """Who was erased after that generation, as of the present one. Raises StoreError for another key than the one
        that tombstones are made with."""
        with self.database.read() as session:
            # The generation first: tombstones that come in between are then too many, and never too few.
            clock = session.get_one(ErasureClock, 1)
            if clock.generation == generation:
                return Tombstones(self.key, generation, frozenset())
            digests = session.scalars(select(Tombstone.digest).where(Tombstone.generation > generation)).all()
        if clock.key_check not in (None, self.key.check):  # None: a new key was chosen, and nobody erased since
            raise StoreError(OTHER_KEY)
        return Tombstones(self.key, clock.generation, frozenset(digests))


def get_erasure(session: Session, erasure_id: str, tenant: str) -> Erasure | None:
    """An erasure that an operator of the tenant asked for."""
    return session.scalar(select(Erasure).where(Erasure.id == erasure_id, Erasure.tenant == tenant))


def accepted_since(session: Session, moment: datetime) -> bool:
    """Whether any erasure was accepted at or after that moment."""
    return session.scalar(select(select(Erasure.id).where(Erasure.created_at >= moment).exists())) or False


def pending(session: Session) -> Sequence[Erasure]:
    """The erasures that are not done, oldest first."""
    return session.scalars(select(Erasure).where(Erasure.finished_at.is_(None)).order_by(Erasure.generation)).all()


def abandoned(session: Session) -> Sequence[Erasure]:
    """Those whose job has ended and that are not done for all that."""
    active = select(Job.id).where(Job.id == Erasure.job_id, Job.state.in_(ACTIVE)).exists()
    return session.scalars(select(Erasure).where(Erasure.finished_at.is_(None), ~active)).all()


def finish(session: Session, ids: Sequence[str]) -> None:
    """Note that these erasures are done, and drop their users' ids."""
    session.execute(update(Erasure).where(Erasure.id.in_(ids)).values(finished_at=db_now(), user_ids=None))


def oldest_pending_at(session: Session) -> tuple[datetime, datetime] | None:
    """When the oldest erasure that is not done was accepted, and the database's time now; None when all are done."""
    row = session.execute(select(func.min(Erasure.created_at), db_now()).where(Erasure.finished_at.is_(None))).one()
    return None if row[0] is None else (row[0], row[1])
