"""`lookalike tenants ...`: what belongs to a tenant as a whole."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model.store import ObjectStore
from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import open_database, read_settings
from service.tenants import repository

app = typer.Typer(no_args_is_help=True, help="List tenants, and set what is theirs.")


@app.command("set")
def set_tenant(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    export_location: Annotated[
        str,
        typer.Option(help="Folder, file:// or s3:// address under which exports are written; an empty one ends them."),
    ],
) -> None:
    """Say where a tenant's exports go. Workers must be able to write there."""
    location = _absolute(export_location) if export_location else None
    with open_database(read_settings()) as database, database.write() as session:
        repository.set_export_location(session, tenant, location)
        record(session, "tenant.set", tenant, tenant=tenant, actor=COMMAND_LINE)


@app.command("list")
def list_tenants() -> None:
    """List tenants."""
    table = Table("tenant", "created", "export location")
    with open_database(read_settings()) as database, database.read() as session:
        for row in repository.list_tenants(session):
            table.add_row(row.name, f"{row.created_at:%Y-%m-%d %H:%M}", row.export_location or "")
    Console().print(table)


def _absolute(location: str) -> str:
    """A folder as seen from anywhere, an address as it is. Raises StoreError for what is neither."""
    url = ObjectStore(location).url
    return url if "://" in url else str(Path(url).absolute())
