"""`lookalike webhooks ...`: where tenants are told of the ends of their jobs."""

from typing import Annotated

import typer

from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import CommandError, console, open_database, print_table, read_settings
from service.tenants.repository import exists
from service.webhooks.repository import list_endpoints
from service.webhooks.service import add_endpoint, remove_endpoint

app = typer.Typer(no_args_is_help=True, help="Register, list and remove endpoints for webhooks.")


@app.command()
def add(
    tenant: Annotated[str, typer.Option(help="Whose jobs are told of.")],
    url: Annotated[str, typer.Option(help="Where: https://host/path.")],
) -> None:
    """Register an endpoint; its signing secret alone goes to standard output, and is shown only this once."""
    settings = read_settings()
    with open_database(settings) as database, database.write() as session:
        if not exists(session, tenant):
            raise CommandError(f"there is no tenant {tenant}; make a key for it first")
        try:
            endpoint = add_endpoint(session, tenant, url, production=settings.env == "production")
        except ValueError as error:
            raise CommandError(str(error)) from None
        record(session, "webhook.add", endpoint.id, tenant=tenant, actor=COMMAND_LINE)
    console().print(f"{endpoint.id} is registered; its secret:")
    typer.echo(endpoint.secret)


@app.command("list")
def list_webhooks(tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None) -> None:
    """List endpoints, without their secrets."""
    with open_database(read_settings()) as database, database.read() as session:
        found = list_endpoints(session, None if tenant is None else [tenant])
        rows = [(row.id, row.tenant, row.url, f"{row.created_at:%Y-%m-%d %H:%M}") for row in found]
    print_table(("id", "tenant", "url", "created"), rows)


@app.command()
def remove(endpoint: Annotated[str, typer.Argument(help="An id of `lookalike webhooks list`.")]) -> None:
    """Remove an endpoint; what waits to be delivered there is not."""
    with open_database(read_settings()) as database, database.write() as session:
        try:
            removed = remove_endpoint(session, endpoint)
        except LookupError as error:
            raise CommandError(str(error)) from None
        record(session, "webhook.remove", removed.id, tenant=removed.tenant, actor=COMMAND_LINE)
