"""`lookalike verify`: an expansion done once more, to see whether it gives the same audience."""

import time
from typing import Annotated

import typer

from service.campaigns.inputs import ExpansionInputs
from service.commands.kit import CommandError, open_database, read_settings
from service.jobs.repository import get_payload
from service.jobs.states import JobError, Kind, State
from service.jobs.tables import Job
from service.kit.artifacts import open_artifacts
from service.kit.database import Database, JsonObject

# What a manifest says, causes before their effects.
_PARTS = ("seed_sha256", "model_sha256", "pool_sha256", "random_seed", "audience_sha256")
# What a job that cannot be repeated lacks, in a word.
_LACKS = {JobError.MODEL_UNAVAILABLE: "model gone", JobError.POOL_UNAVAILABLE: "pool gone"}


def verify(job: Annotated[str, typer.Argument(help="The id of a succeeded expansion.")]) -> None:
    """Repeat an expansion on the same model and pool; exit 0 if its audience is the same to the byte, else 1."""
    from service.expansion.repeating import repeat  # noqa: PLC0415 - torch is loaded only by who needs it
    from service.jobs.runner import JobFailed  # noqa: PLC0415
    from service.serving.loader import Loader, choose_device  # noqa: PLC0415

    settings = read_settings()
    with open_database(settings) as database:
        row, manifest = _expansion(database, job)
        loader = Loader(open_artifacts(settings), choose_device(settings.device))
        started = time.monotonic()
        try:
            found = repeat(database, loader, row)
        except JobFailed as failure:
            raise CommandError(f"{_LACKS.get(failure.error, 'not repeatable')}: {failure.detail}") from None
    typer.echo(
        f"repeated {row.id} on model {row.model_version} and pool {row.snapshot_id} "
        f"in {time.monotonic() - started:.1f} s"
    )
    for name in _PARTS:
        typer.echo(f"{name}: {manifest[name]}")
        if found[name] != manifest[name]:
            raise CommandError(_difference(name, found))
    typer.echo("equal")


def _difference(name: str, found: JsonObject) -> str:
    if name == "pool_sha256":  # a snapshot never changes, but for another in its place
        return "erased-since: users were erased since, and the pool is without them"
    return f"differs: {name} is now {found[name]}"


def _expansion(database: Database, job_id: str) -> tuple[Job, JsonObject]:
    """The job and its manifest, if all that it was given is still there. Raises CommandError."""
    with database.read() as session:
        job = session.get(Job, job_id)
        payload = get_payload(session, job_id)
    if job is None:
        raise CommandError("there is no such job")
    if job.kind != Kind.EXPAND or job.state != State.SUCCEEDED or job.result is None:
        raise CommandError(f"only a succeeded expansion can be repeated; this is a job of kind {job.kind}, {job.state}")
    if payload is None:
        raise CommandError("seeds expired: they were deleted after SEED_RETENTION_DAYS")
    manifest: JsonObject = job.result["manifest"]
    # Seeds never change, but that erased users are taken out of them.
    if ExpansionInputs.decode(payload).seed_sha256() != manifest["seed_sha256"]:
        raise CommandError("erased-since: users were erased since, and the seeds are without them")
    return job, manifest
