"""Delivers webhooks, beside the worker's own work: a receiver that is slow must not hold up an expansion."""

import http.client
import logging
import random
import ssl
import threading
import time
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from service import __version__
from service.jobs import claims
from service.jobs.claims import Claim
from service.jobs.states import JobError, Kind, Queue, State
from service.jobs.tables import Job
from service.kit import tracing
from service.kit.database import Database
from service.kit.media import JSON
from service.kit.metrics import Metrics
from service.webhooks.addresses import BlockedAddress, parse_url
from service.webhooks.repository import get_endpoint
from service.webhooks.sending import post
from service.webhooks.signing import signed_headers
from service.webhooks.tables import WebhookEndpoint

logger = logging.getLogger(__name__)

THREADS = 4
POLL_SECONDS = 0.5
DATABASE_PAUSE_SECONDS = 2.0
LEASE_SECONDS = 60.0  # longer than any attempt takes, so that nobody need renew it
FIRST_PAUSE_SECONDS = 5.0
PAUSE_GROWTH = 4.0
LONGEST_PAUSE_SECONDS = 43_200.0
JITTER = 0.2
SUCCESS = range(200, 300)


@dataclass(frozen=True)
class Courier:
    """Takes deliveries from the queue, each under a lease like any job, until `stopping` is set."""

    database: Database
    metrics: Metrics
    owner: str
    stopping: threading.Event
    production: bool
    retention_days: int
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def start(self) -> list[threading.Thread]:
        """Deliver from some threads; they end within an attempt's time once `stopping` is set."""
        threads = [
            threading.Thread(target=self._run, name=f"courier-{number}", daemon=True) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                if not self.deliver_next():
                    self.stopping.wait(POLL_SECONDS)
            except SQLAlchemyError as error:
                logger.warning("webhooks wait for the database: %s", type(error).__name__)
                self.stopping.wait(DATABASE_PAUSE_SECONDS)
            except Exception:  # the delivery is tried again when its lease has run out; the thread must live on
                logger.exception("a delivery failed")

    def deliver_next(self) -> bool:
        """Make one attempt at the delivery whose turn it is; False if there is none."""
        with self.database.read() as session:
            if not claims.anything_queued(session, [Queue.DELIVERY]):
                return False
        with self.database.write() as session:
            claim = claims.claim(
                session,
                queues=[Queue.DELIVERY],
                kinds=[Kind.DELIVER_WEBHOOK],
                owner=self.owner,
                lease_seconds=LEASE_SECONDS,
            )
        if claim is None:
            return False
        with self.database.read() as session:
            job = session.get_one(Job, claim.job_id)
            endpoint = get_endpoint(session, job.request["endpoint"])
        with tracing.attempt(job, claim.began_at):
            self._deliver(claim, job, endpoint)
        return True

    def _deliver(self, claim: Claim, job: Job, endpoint: WebhookEndpoint | None) -> None:
        if endpoint is None:  # removed since
            self._end(claim, State.CANCELLED)
            return
        try:
            fault = self._attempt(job, endpoint.url, endpoint.secret)
        except BlockedAddress:
            self._give_up(claim, "blocked", "The endpoint's host has no public address.")
            return
        if fault is None:
            self._end(claim, State.SUCCEEDED)
            self._count("ok")
        elif job.attempt >= job.max_attempts:
            self._give_up(claim, "gave_up", f"{fault} This was attempt {job.attempt} of {job.max_attempts}.")
        else:
            with self.database.write() as session:
                claims.hand_back(session, claim, count_attempt=True, delay_seconds=pause_after(job.attempt))
            tracing.note_outcome(State.QUEUED, "retry")
            self._count("retry")

    def _attempt(self, job: Job, url: str, secret: str) -> str | None:
        """Send it once; what went wrong, if anything did."""
        body = job.request["body"].encode()
        message_id = f"msg_{job.id.removeprefix('job_')}"  # the same at each attempt: receivers know repeats by it
        headers = {
            "Content-Type": JSON,
            "User-Agent": f"lookalike/{__version__}",
            **signed_headers(secret, message_id, int(time.time()), body),
        }
        try:
            parts = parse_url(url, production=self.production)
        except ValueError:  # registered while other rules held
            raise BlockedAddress from None
        try:
            status = post(parts, headers, body, context=self.context, production=self.production)
        except (OSError, http.client.HTTPException) as error:
            return f"The endpoint could not be reached ({type(error).__name__})."
        return None if status in SUCCESS else f"The endpoint answered {status}."

    def _give_up(self, claim: Claim, outcome: str, detail: str) -> None:
        self._end(claim, State.FAILED, outcome, detail)
        self._count(outcome)
        logger.warning("webhook not delivered: %s", detail, extra={"job_id": claim.job_id})

    def _end(self, claim: Claim, state: State, fault: str | None = None, detail: str | None = None) -> None:
        error = None if detail is None else claims.problem_of(JobError.INTERNAL, detail)
        with self.database.write() as session:
            claims.finish(session, claim, state, error=error, expires_in_days=self.retention_days)
        tracing.note_outcome(state, fault)

    def _count(self, outcome: str) -> None:
        self.metrics.webhook_deliveries_total.labels(outcome=outcome).inc()


def pause_after(attempt: int) -> float:
    """Seconds until the next attempt: 5 at first, four times as long each time, and by chance a little more or less."""
    pause = min(FIRST_PAUSE_SECONDS * PAUSE_GROWTH ** (attempt - 1), LONGEST_PAUSE_SECONDS)
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing
