"""Users whose erasure is accepted but not done: audiences may still hold them, and readers pass them over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.audiences.gaps import NO_GAPS, Gaps
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
    """One for a process. Whose erasure is pending is read when a generation is first heard of."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known = _Known(0, ())

    def gaps(self, generation: int | None, object_name: str, find: Callable[[Sequence[str]], Gaps]) -> Gaps:
        """Where in an audience there are users whose erasure is pending, the newest at this generation; None is none.

        find: looks users up in the audience.
        """
        if generation is None:
            return NO_GAPS
        known = self._known
        if known.generation < generation:
            known = self._known = self._read(generation)
        gaps = known.gaps.get(object_name)
        if gaps is None:
            gaps = find(known.user_ids)
            if len(known.gaps) >= MOST_REMEMBERED:
                known.gaps.clear()
            known.gaps[object_name] = gaps
        return gaps

    def _read(self, generation: int) -> _Known:
        with self._database.read() as session:
            erasures = repository.pending(session)
            packed = [erasure.user_ids for erasure in erasures if erasure.user_ids is not None]
        return _Known(generation, sorted({user_id for ids in packed for user_id in unpack(ids)}))
