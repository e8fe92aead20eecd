"""Tombstones: keyed hashes that tell the same users again, a key that stays, and publishers that notice new ones."""

import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.errors import StoreError
from service.config import Settings
from service.erasures import repository
from service.erasures.repository import TombstoneReader, demand_generation
from service.erasures.service import every_form, pack, take_up_again, unpack
from service.erasures.tables import Erasure
from service.erasures.tombstones import KEY_FILE, ErasureKey
from service.jobs import claims
from service.jobs.runner import Overtaken
from service.jobs.states import Kind, Queue, State
from service.kit.database import Database

KEY, OTHER = ErasureKey(b"k" * 32), ErasureKey(b"o" * 32)


def bury(database: Database, *user_ids: str, key: ErasureKey = KEY) -> int:
    with database.write() as session:
        generation = repository.advance(session, key)
        repository.add_tombstones(session, key.digests([user_id.encode() for user_id in user_ids]), generation)
    return generation


def test_the_embedded_key_is_made_once_and_its_owner_alone_may_read_it(tmp_path: Path) -> None:
    settings = Settings(lookalike_home=tmp_path / "home")
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: ErasureKey.of(settings), range(16)))
    assert len(keys) == 1
    assert stat.S_IMODE((tmp_path / "home" / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "home").iterdir()] == [KEY_FILE]
    assert ErasureKey.of(Settings(lookalike_home=tmp_path, erasure_key="given")).secret != keys.pop().secret


def test_a_digest_depends_on_key_and_id_and_does_not_hold_the_id() -> None:
    (digest,) = KEY.digests([b"ada@example.com"])
    assert len(digest) == 16
    assert KEY.digests([b"x", b"ada@example.com"])[1] == digest
    assert OTHER.digests([b"ada@example.com"]) != [digest]
    assert KEY.check != OTHER.check


def test_an_id_is_buried_in_every_form_in_which_a_pool_may_have_it() -> None:
    mail = "b4c9a289323b21a01c3e940f150eb9b8c542587f1abfd8f0e1cc1ffc5e475514"  # of user@example.com
    assert every_form([" u1 ", "u1"]) == ["u1"]
    assert every_form([" User@Example.com"]) == ["User@Example.com", mail]
    assert every_form([mail.upper()]) == [mail.upper(), mail]
    assert every_form([" "]) == []


def test_only_those_erased_after_a_generation_are_read(database: Database) -> None:
    reader = TombstoneReader(database, KEY)
    assert (reader.since(0).generation, reader.since(0).digests) == (0, frozenset())
    first = bury(database, "ada", "zoë")
    second = bury(database, "bob", "ada")
    everybody, late = reader.since(0), reader.since(first)
    ids = [user_id.encode() for user_id in ("ada", "bob", "eve", "zoë")]
    assert everybody.erased(ids).tolist() == [True, True, False, True]
    assert late.erased(ids).tolist() == [False, True, False, False]
    assert (everybody.generation, late.generation, reader.since(second).digests) == (second, second, frozenset())


def test_another_key_is_refused_rather_than_finding_nobody(database: Database) -> None:
    bury(database, "ada")
    with pytest.raises(StoreError, match="another ERASURE_KEY"):
        TombstoneReader(database, OTHER).since(0)
    with pytest.raises(StoreError, match="another ERASURE_KEY"):
        bury(database, "bob", key=OTHER)
    assert TombstoneReader(database, KEY).since(0).generation == 1


def test_a_publisher_that_looked_before_an_erasure_is_overtaken(database: Database) -> None:
    seen = TombstoneReader(database, KEY).since(0).generation
    with database.write() as session:
        demand_generation(session, seen)
    bury(database, "ada")
    with database.write() as session, pytest.raises(Overtaken):
        demand_generation(session, seen)


def test_an_erasure_waits_for_the_publisher_that_looked_first(database: Database) -> None:
    order: list[str] = []

    def erase() -> None:
        bury(database, "ada")
        order.append("erased")

    with database.write() as session:
        demand_generation(session, 0)
        waiting = threading.Thread(target=erase)
        waiting.start()
        time.sleep(0.2)
        order.append("published")
    waiting.join()
    assert order == ["published", "erased"]


def test_an_erasure_whose_job_failed_is_taken_up_again(database: Database) -> None:
    with database.write() as session:
        session.add(Erasure(id="erasure_1", tenant="a", job_id="gone", generation=1, users_submitted=1, user_ids=b""))
    for expected in (1, 0):
        with database.write() as session:
            assert take_up_again(session, max_attempts=1) == expected
    with database.write() as session:
        claim = claims.claim(session, queues=list(Queue), kinds=[Kind.ERASE], owner="w", lease_seconds=30)
        assert claim is not None
        claims.finish(session, claim, State.FAILED, expires_in_days=1)
        assert take_up_again(session, max_attempts=1) == 1


def test_ids_are_kept_as_they_were_sent_until_they_are_dropped() -> None:
    user_ids = ["ada", "zoë", '"'] * 1_000
    assert unpack(pack(user_ids)) == user_ids
    assert len(pack(user_ids)) < 500
