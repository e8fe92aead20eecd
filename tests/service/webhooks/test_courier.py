"""Deliveries to a real receiver: signed, tried again under the same id, given up in the end."""

import base64
import hashlib
import hmac
import itertools
import json
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text

from service.jobs.states import Queue, State
from service.jobs.tables import Job
from service.kit.database import Database
from service.kit.metrics import Metrics
from service.webhooks.courier import Courier, pause_after
from service.webhooks.outbox import DEADLINE_SECONDS, MAX_ATTEMPTS
from service.webhooks.service import add_endpoint, remove_endpoint
from tests.fixtures import job_rows
from tests.fixtures.receiver import Received, Receiver, receiver
from tests.fixtures.waiting import eventually

OUTCOMES = ("ok", "retry", "gave_up", "blocked")


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


@pytest.fixture
def courier(database: Database, metrics: Metrics) -> Iterator[Courier]:
    stopping = threading.Event()
    yield Courier(database, metrics, "worker:1", stopping, production=False, retention_days=1)
    stopping.set()


def announce(database: Database, hook: Receiver, jobs: int = 1) -> tuple[str, str]:
    """An endpoint at the receiver, and jobs whose ends wait to be told there; the endpoint's id and its secret."""
    with database.write() as session:
        endpoint = add_endpoint(session, "acme", hook.url, production=False)
    for _ in range(jobs):
        end_a_job(database, "acme")
    return endpoint.id, endpoint.secret


def end_a_job(database: Database, tenant: str) -> None:
    job_rows.add(database, tenant=tenant)
    claim = job_rows.take(database, queues=[Queue.EXPAND])
    assert claim is not None
    assert job_rows.finish(database, claim, State.SUCCEEDED)


def counted(metrics: Metrics) -> dict[str, int]:
    name = "lookalike_webhook_deliveries_total"
    found = {outcome: metrics.registry.get_sample_value(name, {"outcome": outcome}) for outcome in OUTCOMES}
    return {outcome: int(value) for outcome, value in found.items() if value}


def state_and_attempt(database: Database) -> tuple[str, int]:
    with database.read() as session:
        job = session.scalars(select(Job).where(Job.queue == Queue.DELIVERY)).one()
        return job.state, job.attempt


def make_due(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE jobs SET available_at = created_at"))


def is_signed(received: Received, secret: str) -> bool:
    signed = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}.".encode() + received.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return received.headers["webhook-signature"] == f"v1,{mac}"


def test_the_end_of_a_job_is_posted_once_and_signed(
    courier: Courier, database: Database, metrics: Metrics, hook: Receiver
) -> None:
    _, secret = announce(database, hook)
    assert courier.deliver_next()
    assert not courier.deliver_next()
    (received,) = hook.received
    assert is_signed(received, secret)
    assert not is_signed(received, "whsec_" + base64.b64encode(b"another").decode())
    assert json.loads(received.body)["type"] == "job.succeeded"
    assert received.headers["content-type"] == "application/json"
    assert abs(int(received.headers["webhook-timestamp"]) - time.time()) < 30
    assert state_and_attempt(database) == (State.SUCCEEDED, 1)
    assert counted(metrics) == {"ok": 1}


def test_a_refusal_is_tried_again_later_under_the_same_id(
    courier: Courier, database: Database, metrics: Metrics, hook: Receiver
) -> None:
    _, secret = announce(database, hook)
    hook.statuses = [500, 302, 200]
    for _ in range(2):
        assert courier.deliver_next()
        assert state_and_attempt(database)[0] == State.QUEUED
        assert not courier.deliver_next()  # not yet
        make_due(database)
    assert courier.deliver_next()
    assert len({received.headers["webhook-id"] for received in hook.received}) == 1
    assert len({received.body for received in hook.received}) == 1
    assert all(is_signed(received, secret) for received in hook.received)
    assert state_and_attempt(database) == (State.SUCCEEDED, 3)
    assert counted(metrics) == {"ok": 1, "retry": 2}


def test_a_receiver_that_never_answers_is_given_up(courier: Courier, database: Database, metrics: Metrics) -> None:
    with receiver() as gone:
        announce(database, gone)
    for _ in range(MAX_ATTEMPTS):
        make_due(database)
        assert courier.deliver_next()
    assert state_and_attempt(database) == (State.FAILED, MAX_ATTEMPTS)
    assert counted(metrics) == {"retry": MAX_ATTEMPTS - 1, "gave_up": 1}


def test_attempts_spread_over_most_of_a_day() -> None:
    pauses = [pause_after(attempt) for attempt in range(1, MAX_ATTEMPTS)]
    assert 4 <= pauses[0] <= 6
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses))
    assert 12 * 3600 < sum(pauses) < 24 * 3600 < DEADLINE_SECONDS
    assert pause_after(3) != pause_after(3)


def test_in_production_an_endpoint_of_the_inner_network_is_not_reached(
    database: Database, metrics: Metrics, hook: Receiver
) -> None:
    announce(database, hook)
    courier = Courier(database, metrics, "worker:1", threading.Event(), production=True, retention_days=1)
    assert courier.deliver_next()
    assert not hook.received
    assert state_and_attempt(database) == (State.FAILED, 1)
    assert counted(metrics) == {"blocked": 1}


def test_a_host_that_resolves_to_the_inner_network_is_not_reached(
    database: Database, metrics: Metrics, hook: Receiver
) -> None:
    hook.url = hook.url.replace("http://127.0.0.1", "https://localhost")
    announce(database, hook)
    courier = Courier(database, metrics, "worker:1", threading.Event(), production=True, retention_days=1)
    assert courier.deliver_next()
    assert not hook.received
    assert counted(metrics) == {"blocked": 1}


def test_an_endpoint_that_was_removed_hears_nothing_more(courier: Courier, database: Database, hook: Receiver) -> None:
    endpoint, _ = announce(database, hook)
    with database.write() as session:
        remove_endpoint(session, endpoint)
    assert courier.deliver_next()
    assert not hook.received
    assert state_and_attempt(database)[0] == State.CANCELLED


def test_a_slow_receiver_holds_up_neither_others_nor_more_than_one_thread(
    courier: Courier, database: Database, hook: Receiver
) -> None:
    slow = threading.Event()
    hook.before = lambda: slow.wait(20)
    with receiver() as quick:
        announce(database, hook, jobs=5)
        with database.write() as session:
            add_endpoint(session, "globex", quick.url, production=False)
        end_a_job(database, "globex")
        threads = courier.start()
        assert eventually(lambda: len(quick.received) == 1, 20)
        assert eventually(lambda: len(hook.received) == 1, 20)
        slow.set()
        assert eventually(lambda: len(hook.received) == 5, 20)
        courier.stopping.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()


def test_a_worker_that_dies_in_mid_delivery_is_replaced(courier: Courier, database: Database, hook: Receiver) -> None:
    announce(database, hook)
    claim = job_rows.take(database, queues=[Queue.DELIVERY])
    assert claim is not None
    job_rows.expire_lease(database, claim.job_id)
    job_rows.reclaim(database)
    assert courier.deliver_next()
    assert state_and_attempt(database) == (State.SUCCEEDED, 2)


def test_certificates_are_checked(courier: Courier) -> None:
    assert courier.context.verify_mode == ssl.CERT_REQUIRED
    assert courier.context.check_hostname
