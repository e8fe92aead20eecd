"""`lookalike audit ...`: who did what."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from service.audit.repository import entries
from service.commands.kit import open_database, read_settings

app = typer.Typer(no_args_is_help=True, help="Show who did what.")


@app.callback()
def _audit() -> None:
    """Show who did what."""


@app.command("list")
def list_entries(
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="From this time on (UTC).")
    ] = None,
) -> None:
    """Print the audit log, oldest first, one JSON object a line."""
    start = None if since is None else since.replace(tzinfo=UTC)
    with open_database(read_settings()) as database, database.read() as session:
        for entry in entries(session, tenant=tenant, since=start):
            document = {
                "at": entry.at.isoformat().replace("+00:00", "Z"),
                "tenant": entry.tenant,
                "actor": entry.actor,
                "action": entry.action,
                "subject": entry.subject,
                "reason": entry.reason,
                **entry.counts,
                "request_id": entry.request_id,
            }
            typer.echo(json.dumps(document, ensure_ascii=False))
