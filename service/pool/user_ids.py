"""User ids of requests in the normal form that the served pool's kind has, without a statement for each request."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from model.user_ids import IdKind, normal_ids
from service.kit.database import Database
from service.kit.dependencies import of_app
from service.kit.recent import Recent
from service.pool.repository import served_id_kind

KIND_SECONDS = 1.0
_SERVED = "served"


@dataclass(frozen=True)
class ServedIds:
    """Knows the kind for KIND_SECONDS; with no pool yet, ids are text."""

    database: Database
    recent: Recent[str, IdKind] = field(default_factory=lambda: Recent(KIND_SECONDS))

    def normal(self, user_ids: Sequence[str]) -> list[str]:
        """Each id in its normal form, in the order given."""
        return normal_ids(user_ids, self.recent.find(_SERVED, self._ask) or "text")

    def _ask(self) -> IdKind:
        with self.database.read() as session:
            return served_id_kind(session) or "text"  # so that it is remembered as well


AppServedIds = Annotated[ServedIds, of_app("served_ids")]
