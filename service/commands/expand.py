"""`lookalike expand`: an expansion from the command line."""

import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from service.audit.repository import COMMAND_LINE, record
from service.campaigns.inputs import ExpansionInputs
from service.campaigns.quotas import Limits
from service.campaigns.request import ExpansionRequest
from service.campaigns.seed_files import SeedFile, read_csv, read_ndjson
from service.campaigns.service import submit
from service.commands.kit import CommandError, console, open_database, progress_bar, read_settings
from service.jobs.repository import get_job
from service.jobs.states import FINISHED, State
from service.kit.database import Database
from service.kit.errors import Problem
from service.kit.names import CampaignName

POLL_SECONDS = 0.25
CAMPAIGN_NAME: TypeAdapter[str] = TypeAdapter(CampaignName)
READERS = {".csv": read_csv, ".ndjson": read_ndjson, ".jsonl": read_ndjson}


def _campaign_name(text: str) -> str:
    try:
        return CAMPAIGN_NAME.validate_python(text)
    except ValidationError:
        raise typer.BadParameter("it has up to 64 letters, digits, - and _, and no - or _ first") from None


def expand(
    campaign: Annotated[str, typer.Argument(help="The campaign's id.", callback=_campaign_name)],
    seeds: Annotated[
        Path, typer.Option(help="A user id a line; or CSV or NDJSON, by its name.", exists=True, dir_okay=False)
    ],
    size: Annotated[int | None, typer.Option(min=1, help="Audience size; 1 % of the pool, if absent.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose campaign it is.")] = "default",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the audience.")] = False,  # noqa: FBT002
) -> None:
    """Submit an expansion; the job's id goes to standard output. A worker must be running to do it."""
    found = _read_seeds(seeds)
    settings = read_settings()
    inputs = ExpansionInputs.of(found.user_ids, found.weights)
    request = ExpansionRequest(inputs, submitted=len(found.user_ids), audience_size=size)
    limits = Limits.of(settings)
    with open_database(settings) as database:
        with database.write() as session:
            try:
                job = submit(session, tenant, campaign, request, idempotency=None, limits=limits).job
            except Problem as problem:
                raise CommandError(problem.detail) from None
            record(
                session,
                "campaign.expand",
                job.id,
                tenant=tenant,
                actor=COMMAND_LINE,
                seeds=len(request.inputs.seeds),
            )
        typer.echo(job.id)
        if wait:
            _wait(database, job.id, tenant)


def _read_seeds(path: Path) -> SeedFile:
    """As the api reads such a file, where its name says that it is one."""
    reader = READERS.get(path.suffix.lower())
    if reader is not None:
        try:
            return reader(path.read_bytes())
        except Problem as problem:
            raise CommandError(f"{path}: {problem.detail}") from None
    user_ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not user_ids:
        raise CommandError(f"{path} holds no user id")
    return SeedFile(user_ids, None)


def _wait(database: Database, job_id: str, tenant: str) -> None:
    with progress_bar() as bar:
        task = bar.add_task("queued", total=None)
        while True:
            with database.read() as session:
                job = get_job(session, job_id, tenant)
            if job is None:
                raise CommandError("the job was deleted")
            bar.update(task, description=job.stage or job.state, completed=job.scored_users, total=job.total_users)
            if job.state in FINISHED:
                break
            time.sleep(POLL_SECONDS)
    if job.state != State.SUCCEEDED:
        raise CommandError(job.error["detail"] if job.error else f"the job was {job.state}")
    if job.result is not None:
        console().print(f"{job.result['audience']['size']:,} users: {job.result['audience']['href']}")
