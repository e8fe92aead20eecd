"""What callers hold open for long, counted by tenant, so that none takes it all."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Places:
    """The places held in a process. Used on the event loop only."""

    def __init__(self) -> None:
        self._by_tenant: Counter[str] = Counter()

    def of(self, tenant: str) -> int:
        """How many the tenant holds."""
        return self._by_tenant[tenant]

    def total(self) -> int:
        """How many all tenants hold."""
        return self._by_tenant.total()

    @contextmanager
    def hold(self, tenant: str) -> Iterator[None]:
        """Hold one, in the block."""
        self._by_tenant[tenant] += 1
        try:
            yield
        finally:
            self._by_tenant[tenant] -= 1
            if not self._by_tenant[tenant]:
                del self._by_tenant[tenant]
