"""`lookalike api | worker | scheduler | migrate`: the service's processes."""

from enum import StrEnum
from typing import Annotated

import typer

from service.commands.kit import read_settings, redis_of, stop_on_signals
from service.jobs.states import Queue
from service.kit.database import Database
from service.kit.logging import configure_logging
from service.kit.tracing import exporting
from service.schema import migrate as run_migrations
from service.schema import wait_until_current


class QueueChoice(StrEnum):
    """Which jobs a worker takes."""

    EXPAND = "expand"
    TRAINING = "training"
    ALL = "all"


def api() -> None:
    """Serve the HTTP api."""
    settings = read_settings()
    configure_logging(settings.env)
    from service.app import serve  # noqa: PLC0415 - each process loads its own half only

    with redis_of(settings) as (redis_url, keep_redis), exporting(settings, "api"):
        serve(settings, redis_url, keep_redis)


def worker(
    queue: Annotated[QueueChoice, typer.Option(help="Which jobs to take.")] = QueueChoice.ALL,
) -> None:
    """Run jobs: expansions, representations, imports, training. One that expands also delivers webhooks."""
    # First: to load the rest takes seconds, and meanwhile process 1 of a container would not hear SIGTERM at all.
    stopping = stop_on_signals()
    from service.worker import build_worker  # noqa: PLC0415 - torch is loaded here and not in the api

    settings = read_settings()
    configure_logging(settings.env)
    queues = [Queue.EXPAND, Queue.TRAINING] if queue is QueueChoice.ALL else [Queue(queue)]
    with redis_of(settings) as (redis_url, keep_redis), exporting(settings, "worker"):
        built = build_worker(settings, queues, stopping, keep_redis, redis_url)
        wait_until_current(built.database, stopping)
        built.run()


def scheduler() -> None:
    """Make training jobs when TRAIN_CRON says so, and delete what is past its retention."""
    stopping = stop_on_signals()
    from service.scheduler import build_scheduler  # noqa: PLC0415 - each process loads its own half only

    settings = read_settings()
    configure_logging(settings.env)
    built = build_scheduler(settings, stopping)
    wait_until_current(built.database, stopping)
    built.run()


def migrate() -> None:
    """Bring the database's schema up to date; safe to run by several machines at once."""
    database = Database(read_settings().resolved_database_url)
    try:
        run_migrations(database)
    finally:
        database.dispose()
