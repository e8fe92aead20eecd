"""`lookalike tenants ...`: what belongs to a tenant as a whole."""

from typing import Annotated

import typer

from service import __version__
from service.audiences.cache import AudienceCache
from service.audiences.retention import discard
from service.commands.kit import CommandError, console, open_database, read_settings, redis_of
from service.kit.artifacts import open_artifacts
from service.kit.metrics import Metrics
from service.kit.redis import Cache
from service.tenants.deletion import delete_tenant

app = typer.Typer(no_args_is_help=True, help="Tenants, and what is theirs.")


@app.callback()
def _tenants() -> None:
    """Tenants, and what is theirs."""


@app.command("delete")
def delete(tenant: Annotated[str, typer.Argument(help="The tenant's name.")]) -> None:
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
        cache = Cache(redis_url, Metrics(version=__version__))
        discard(artifacts.audiences, AudienceCache(cache, settings.audience_retention_days), gone.audiences)
        cache.close()
    counts = f"{gone.keys} keys, {gone.campaigns} campaigns, {gone.jobs} jobs and {len(gone.audiences)} audiences"
    console().print(f"{tenant} is deleted, with {counts}")
