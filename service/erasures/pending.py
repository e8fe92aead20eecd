"""Users whose erasure is accepted but not done: audiences may still hold them, and readers pass them over."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from model.store import ObjectStore
from service.audiences.buckets import find_stored
from service.audiences.gaps import NO_GAPS, Gaps
from service.audiences.repository import Published
from service.erasures import repository
from service.erasures.service import unpack
from service.kit.database import Database

MOST_REMEMBERED = 1_000


@dataclass(frozen=True)
class _Known:
    """The users that were pending at a generation, and where in some audiences they are."""

    generation: int
    user_ids: Sequence[str]
    gaps: dict[str, Gaps] = field(default_factory=dict)


class PendingErasures:
    """Whose erasure is pending is read when a generation is first heard of. `objects` is where audiences lie."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects
        self._known = _Known(0, ())

    def gaps(self, audience: Published) -> Gaps:
        """Where in the audience's object there are users whose erasure is pending. Raises StoreError."""
        if audience.pending is None:
            return NO_GAPS
        known = self._known
        if known.generation < audience.pending:
            known = self._known = self._read(audience.pending)
        gaps = known.gaps.get(audience.object_name)
        if gaps is None:
            ranks = find_stored(self._objects, audience, known.user_ids).ranks
            gaps = Gaps.of(ranks[ranks > 0] - 1)
            if len(known.gaps) >= MOST_REMEMBERED:
                known.gaps.clear()
            known.gaps[audience.object_name] = gaps
        return gaps

    def _read(self, generation: int) -> _Known:
        with self._database.read() as session:
            erasures = repository.pending(session)
            packed = [erasure.user_ids for erasure in erasures if erasure.user_ids is not None]
        return _Known(generation, sorted({user_id for ids in packed for user_id in unpack(ids)}))
