"""`lookalike tenants ...`: what belongs to a tenant as a whole."""

from pathlib import Path
from typing import Annotated

import typer

from model.store import ObjectStore
from service import __version__
from service.audiences.cache import AudienceCache
from service.audiences.retention import discard
from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import CommandError, console, open_database, print_table, read_settings, redis_of
from service.kit.artifacts import open_artifacts
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from service.tenants import repository
from service.tenants.deletion import delete_tenant

app = typer.Typer(no_args_is_help=True, help="List tenants, set what is theirs, and delete them.")


@app.command("set")
def set_tenant(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    export_location: Annotated[
        str | None,
        typer.Option(help="Folder, file:// or s3:// address under which exports are written; an empty one ends them."),
    ] = None,
    train_on_expansions: Annotated[
        bool | None,
        typer.Option(help="Whether the models, which serve all tenants, learn from this one's seeds and negatives."),
    ] = None,
) -> None:
    """Say where a tenant's exports go, which workers must be able to write to, and whether models learn from it."""
    if export_location is None and train_on_expansions is None:
        raise CommandError("nothing is to be set: --export-location or --train-on-expansions says what")
    location = _absolute(export_location) if export_location else None
    with open_database(read_settings()) as database, database.write() as session:
        if export_location is not None:
            repository.set_export_location(session, tenant, location)
            record(session, "tenant.set", tenant, tenant=tenant, actor=COMMAND_LINE)
        if train_on_expansions is not None:
            repository.set_train_on_expansions(session, tenant, allowed=train_on_expansions)
            allowed = int(train_on_expansions)
            record(session, "tenant.set", tenant, tenant=tenant, actor=COMMAND_LINE, train_on_expansions=allowed)


@app.command("list")
def list_tenants() -> None:
    """List tenants."""
    with open_database(read_settings()) as database, database.read() as session:
        found = repository.list_tenants(session)
        rows = [
            (
                row.name,
                f"{row.created_at:%Y-%m-%d %H:%M}",
                row.export_location or "",
                "yes" if row.train_on_expansions else "",
            )
            for row in found
        ]
    print_table(("tenant", "created", "export location", "train on expansions"), rows)


@app.command("delete")
def delete_all(tenant: Annotated[str, typer.Argument(help="The tenant's name.")]) -> None:
    """Delete a tenant with its keys, campaigns, jobs, seeds, audiences and what Redis has of them. There is no way
    back."""
    settings = read_settings()
    artifacts = open_artifacts(settings)
    with redis_of(settings) as (redis_url, _), open_database(settings) as database:
        with database.write() as session:
            try:
                gone = delete_tenant(session, tenant)
            except LookupError as error:
                raise CommandError(str(error)) from None
            record(session, "tenant.delete", tenant, tenant=tenant, actor=COMMAND_LINE, jobs=gone.jobs)
        cache = Cache(redis_url, Metrics(version=__version__))
        discard(artifacts.audiences, AudienceCache(cache, settings.audience_retention_days), gone.audiences)
        cache.close()
    counts = f"{gone.keys} keys, {gone.campaigns} campaigns, {gone.jobs} jobs and {len(gone.audiences)} audiences"
    console().print(f"{tenant} is deleted, with {counts}")


def _absolute(location: str) -> str:
    """A folder as seen from anywhere, an address as it is. Raises StoreError for what is neither."""
    url = ObjectStore(location).url
    return url if "://" in url else str(Path(url).absolute())
