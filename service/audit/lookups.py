"""Look-ups in the audit log: at bid time there are hundreds a second, so they are counted and written now and then."""

import logging
import threading
from collections import Counter

from sqlalchemy.exc import SQLAlchemyError

from service.audit.repository import record
from service.kit.auth import Principal
from service.kit.database import Database

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 10.0
ALL_CAMPAIGNS = "*"


class LookupLedger:
    """Counts look-ups by tenant, key and campaign, until `flush` writes an entry for each.

    A process that is killed takes what it counted in the last FLUSH_SECONDS with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._users: Counter[tuple[str, str, str]] = Counter()

    def note(self, principal: Principal, campaign_id: str, users: int) -> None:
        """Count one request that asked for so many users."""
        by = (principal.tenant, principal.key_id, campaign_id)
        with self._lock:
            self._requests[by] += 1
            self._users[by] += users

    def flush(self, database: Database) -> None:
        """Write what was counted since the last time; what cannot be written now is kept for the next."""
        with self._lock:
            requests, self._requests = self._requests, Counter()
            users, self._users = self._users, Counter()
        if not requests:
            return
        try:
            with database.write() as session:
                for (tenant, key_id, campaign_id), count in requests.items():
                    by = (tenant, key_id, campaign_id)
                    record(
                        session,
                        "audience.lookup",
                        campaign_id,
                        tenant=tenant,
                        actor=key_id,
                        requests=count,
                        users=users[by],
                    )
        except SQLAlchemyError as error:
            logger.warning("look-ups not yet in the audit log: %s", type(error).__name__)
            with self._lock:
                self._requests.update(requests)
                self._users.update(users)
