"""`lookalike verify`: an expansion done once more, to see whether it gives the same audience."""

import time
from typing import Annotated

import typer

from service.commands.kit import CommandError, open_database, read_settings
from service.erasures.repository import TombstoneReader, accepted_since
from service.erasures.tombstones import ErasureKey
from service.jobs.repository import get_payload
from service.jobs.states import JobError, Kind, State
from service.jobs.tables import Job
from service.kit.artifacts import open_artifacts
from service.kit.database import Database, JsonObject

# What a manifest says, causes before their effects.
_PARTS = ("seed_sha256", "model_sha256", "pool_sha256", "random_seed", "audience_sha256")
# What a job that cannot be repeated lacks, in a word.
_LACKS = {
    JobError.MODEL_UNAVAILABLE: "model gone",
    JobError.POOL_UNAVAILABLE: "pool gone",
    JobError.TOO_FEW_MATCHED_SEEDS: "erased-since",  # nothing else takes seeds away
}


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
            found = repeat(database, loader, TombstoneReader(database, ErasureKey.of(settings)), row)
        except JobFailed as failure:
            raise CommandError(f"{_LACKS.get(failure.error, 'not repeatable')}: {failure.detail}") from None
        with database.read() as session:
            erased_since = row.finished_at is not None and accepted_since(session, row.finished_at)
    typer.echo(
        f"repeated {row.id} on model {row.model_version} and pool {row.snapshot_id} "
        f"in {time.monotonic() - started:.1f} s"
    )
    for name in _PARTS:
        typer.echo(f"{name}: {manifest[name]}")
        if found[name] != manifest[name]:
            erased = f"erased-since: users were erased since, and {name} is that without them"
            raise CommandError(erased if erased_since else f"differs: {name} is now {found[name]}")
    typer.echo("equal")


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
    return job, job.result["manifest"]
