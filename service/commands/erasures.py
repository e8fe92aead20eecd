"""`lookalike erasures ...`: carry erasures over to a restored backup."""

from typing import Annotated

import typer

from service.commands.kit import CommandError, console, open_database, read_settings
from service.erasures import replaying
from service.erasures.tombstones import ErasureKey
from service.kit.artifacts import open_artifacts
from service.tenants.repository import exists

app = typer.Typer(no_args_is_help=True, help="Carry erasures over to a restored backup.")


@app.command()
def export() -> None:
    """Print every tombstone: who was erased, as hashes that say nothing without ERASURE_KEY."""
    with open_database(read_settings()) as database, database.read() as session:
        for line in replaying.dump(session):
            typer.echo(line)


@app.command()
def replay(
    file: Annotated[typer.FileText, typer.Argument(help="What `export` printed; - reads standard input.")],
    tenant: Annotated[str, typer.Option(help="Whose operators may read the receipt.")],
) -> None:
    """Erase, from what was restored, the users that were erased after the backup."""
    settings = read_settings()
    exported = replaying.load(file)
    with open_database(settings) as database:
        with database.read() as session:
            if not exists(session, tenant):
                raise CommandError(f"there is no tenant {tenant}; make a key for it first")
        done = replaying.replay(
            database,
            open_artifacts(settings),
            ErasureKey.of(settings),
            exported,
            tenant=tenant,
            max_attempts=settings.job_max_attempts,
        )
    console().print(f"{done.tombstones} tombstones are new; {done.users} erased users were stored again")
    if done.erasure_id is not None:
        typer.echo(done.erasure_id)
