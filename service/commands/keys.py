"""`lookalike keys ...`: API keys."""

from datetime import timedelta
from typing import Annotated

import typer

from service.audit.repository import COMMAND_LINE, record
from service.commands.kit import CommandError, open_database, print_table, read_settings
from service.keys import repository
from service.keys.service import create_key, revoke_key, rotate_key
from service.kit.auth import TENANT_SCOPES

app = typer.Typer(no_args_is_help=True, help="Make, list, revoke and rotate API keys.")


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="The tenant the key speaks for.")],
    scopes: Annotated[str, typer.Option(help="Comma-separated scopes, or `all`.")],
    operator: Annotated[bool, typer.Option("--operator", help="Allow operator scopes.")] = False,  # noqa: FBT002
    days: Annotated[int | None, typer.Option(min=1, help="Days until the key expires; never, if absent.")] = None,
) -> None:
    """Make a key; it alone goes to standard output, and is shown only this once."""
    asked = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with open_database(read_settings()) as database, database.write() as session:
        lifetime = None if days is None else timedelta(days=days)
        try:
            created = create_key(session, tenant, asked, operator=operator, lifetime=lifetime)
        except ValueError as error:
            raise CommandError(str(error)) from None
        record(session, "key.create", created.row.id, tenant=tenant, actor=COMMAND_LINE)
    typer.echo(created.text)


@app.command("list")
def list_keys() -> None:
    """List keys, without their secrets."""
    rows = []
    with open_database(read_settings()) as database, database.read() as session:
        for key in repository.list_keys(session):
            times = (key.created_at, key.expires_at, key.revoked_at)
            shown = (f"{time:%Y-%m-%d %H:%M}" if time else "" for time in times)
            rows.append([key.prefix, key.tenant, _in_words(key.scopes), "yes" if key.operator else "", *shown])
    print_table(("prefix", "tenant", "scopes", "operator", "created", "expires", "revoked"), rows)


def _in_words(scopes: list[str]) -> str:
    if set(scopes) >= TENANT_SCOPES:
        return ", ".join(["all", *sorted(set(scopes) - TENANT_SCOPES)])
    return ", ".join(scopes)


@app.command()
def revoke(prefix: Annotated[str, typer.Argument(help="The 8 characters after `lk_`.")]) -> None:
    """End a key at once."""
    with open_database(read_settings()) as database, database.write() as session:
        try:
            key = revoke_key(session, prefix)
        except LookupError as error:
            raise CommandError(str(error)) from None
        record(session, "key.revoke", key.id, tenant=key.tenant, actor=COMMAND_LINE)


@app.command()
def rotate(prefix: Annotated[str, typer.Argument(help="The 8 characters after `lk_`.")]) -> None:
    """Make a key like this one, which itself ends a day later; the new key goes to standard output."""
    with open_database(read_settings()) as database, database.write() as session:
        try:
            created = rotate_key(session, prefix)
        except LookupError as error:
            raise CommandError(str(error)) from None
        key = created.row
        record(session, "key.rotate", key.id, tenant=key.tenant, actor=COMMAND_LINE, reason=f"in the place of {prefix}")
    typer.echo(created.text)
