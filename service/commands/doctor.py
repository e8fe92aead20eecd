"""`lookalike doctor`: what of this installation works, and what does not."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

import redis as redis_client
import typer
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from model.errors import ModelError, StoreError
from model.pool import open_pool
from model.store import ObjectStore
from service.commands.kit import CommandError, read_settings, redis_of
from service.config import Settings
from service.kit import tenancy
from service.kit.artifacts import Artifacts, open_artifacts, snapshot_prefix
from service.kit.database import Database, db_now, reason_of
from service.kit.errors import Problem
from service.kit.ids import new_id
from service.kit.processes import ChildError
from service.kit.redis import connect
from service.models.repository import get_version
from service.models.service import require_whole
from service.pool.repository import get_snapshot
from service.schema import is_current, revision
from service.serving.tables import Serving

MOST_SKEW_SECONDS = 2.0
LEAST_FREE_BYTES = 1 << 30
PROBE = "doctor"

Check = Callable[[], str]
"""Says what it found; raises Unwell, or what the thing itself raises."""


class Unwell(Exception):
    """A check failed; the sentence says how."""


def doctor() -> None:
    """Check the database, Redis, the stores, the served model and pool, the clocks and the disks; a line for each."""
    settings = read_settings()
    failed = []
    for name, check in _checks(settings):
        try:
            found = check()
        except (Unwell, Problem, ModelError, ChildError, OSError, ValueError) as error:
            failed.append(name)
            typer.echo(f"FAIL  {name}: {' '.join(str(error).split())}")
        except (SQLAlchemyError, redis_client.RedisError) as error:
            failed.append(name)
            typer.echo(f"FAIL  {name}: {reason_of(error)}")
        else:
            typer.echo(f"ok    {name}: {found}")
    if failed:
        raise CommandError(f"not well: {', '.join(failed)}")


def _checks(settings: Settings) -> Iterator[tuple[str, Check]]:
    database = Database(settings.resolved_database_url)
    artifacts = open_artifacts(settings)
    try:
        yield "database", lambda: _database(database)
        yield "clock", lambda: _clock(database)
        yield "redis", lambda: _redis(settings)
        for name, store in (
            ("model store", artifacts.models),
            ("pool store", artifacts.pools),
            ("audience store", artifacts.audiences),
        ):
            yield name, lambda store=store: _store(store)  # type: ignore[misc]
        yield "model", lambda: _model(database, artifacts, settings)
        yield "pool", lambda: _pool(database, artifacts)
        yield "disk", lambda: _disk(settings)
    finally:
        database.dispose()


def _database(database: Database) -> str:
    database.ping()
    found = revision(database)
    if not is_current(database):
        raise Unwell(f"its schema is at {found or 'no revision'}; run `lookalike migrate`")
    return f"{database.engine.dialect.name}, schema {found}, {_wall(database)}"


def _wall(database: Database) -> str:
    """Of an api with this database."""
    if database.is_sqlite:
        return "no row-level security"
    with database.engine.connect() as connection:
        if not tenancy.stands(connection):
            raise Unwell("PostgreSQL lets DATABASE_URL's role past row-level security: it needs an ordinary one")
    return "row-level security holds"


def _clock(database: Database) -> str:
    before = datetime.now(UTC)
    ((there,),) = database.look(select(db_now()))
    after = datetime.now(UTC)
    skew = max((before - there).total_seconds(), (there - after).total_seconds(), 0.0)
    if skew > MOST_SKEW_SECONDS:
        raise Unwell(f"it differs from the database's by {skew:.1f} s; at most {MOST_SKEW_SECONDS:g} s are sound")
    return f"within {skew:.1f} s of the database's"


def _redis(settings: Settings) -> str:
    with redis_of(settings) as (url, _keep):
        client = connect(url)
        try:
            client.ping()
        finally:
            client.close()
    return "embedded" if settings.embedded_redis else "answers"


def _store(store: ObjectStore) -> str:
    name = new_id(PROBE)
    try:
        store.put(name, b"written by lookalike doctor")
        store.delete(name)
    except StoreError as error:
        raise Unwell(f"{store.url} cannot be written: {error}") from error
    return f"{store.url} can be written"


def _model(database: Database, artifacts: Artifacts, settings: Settings) -> str:
    served = _served(database)
    if served is None or served.model_version is None:
        waits = served and served.desired_model_version
        raise Unwell(
            f"none is served; {waits} waits for a pool, or for the representation of one"
            if waits
            else "none is served; `lookalike train` makes one"
        )
    with database.read() as session:
        row = get_version(session, served.model_version)
    if row is None:
        raise Unwell(f"{served.model_version} is served and has no row")
    require_whole(artifacts, row)
    if importlib.util.find_spec("torch") is None:
        return f"{row.version} is whole (to load it takes torch, which is not installed here)"
    from service.serving.loader import Loader, choose_device  # noqa: PLC0415 - torch is loaded only by who needs it

    Loader(artifacts, choose_device(settings.device)).model(row.version)
    return f"{row.version} loads"


def _pool(database: Database, artifacts: Artifacts) -> str:
    served = _served(database)
    if served is None or served.snapshot_id is None:
        raise Unwell("none is served; `lookalike pool import` makes one")
    with database.read() as session:
        row = get_snapshot(session, served.snapshot_id)
    pool = open_pool(artifacts.pools.local(snapshot_prefix(served.snapshot_id)), verify=True)
    if row is None or row.sha256 != pool.sha256:
        raise Unwell(f"{served.snapshot_id} is not the pool that was imported")
    return f"{row.id} is as it was imported, {pool.size:,} users"


def _served(database: Database) -> Serving | None:
    with database.read() as session:
        return session.get(Serving, 1)


def _disk(settings: Settings) -> str:
    home = settings.lookalike_home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise Unwell(f"LOOKALIKE_HOME, {home}, cannot be written: {error.strerror}") from error
    stores = (settings.resolved_model_store, settings.resolved_pool_store, settings.resolved_audience_store)
    folders = {home, *(Path(store) for store in stores if "://" not in store)}
    free = {folder: shutil.disk_usage(_existing(folder)).free for folder in folders}
    folder, least = min(free.items(), key=lambda item: item[1])
    if least < LEAST_FREE_BYTES:
        raise Unwell(f"only {least / (1 << 30):.1f} GiB are free under {folder}")
    return f"{least / (1 << 30):.0f} GiB free"


def _existing(folder: Path) -> Path:
    """The folder, or the one that it will be made in."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
