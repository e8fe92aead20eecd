"""Tenants as rows: made once, each with a key of its own, and a lock that the next submission waits for."""

import threading
import time

from service.kit.database import Database
from service.tenants import repository


def test_a_tenant_keeps_its_token_key_and_shares_it_with_nobody(database: Database) -> None:
    for _ in range(2):
        with database.write() as session:
            repository.add_unless_known(session, "acme")
            repository.add_unless_known(session, "globex")
            acme, globex = (repository.token_key(session, name) for name in ("acme", "globex"))
    with database.read() as session:
        assert repository.token_key(session, "acme") == acme != globex
    assert len(acme) == 32


def test_a_tenant_s_second_transaction_waits_for_the_first(database: Database) -> None:
    order: list[str] = []

    def second() -> None:
        with database.write() as session:
            repository.lock(session, "acme")
            order.append("second")

    with database.write() as session:
        repository.lock(session, "acme")
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
