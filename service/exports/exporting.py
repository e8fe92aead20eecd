"""The `export` job: write an audience, or a cut of it, as a file under the tenant's export location."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from model.store import ObjectStore
from service.audiences import repository as audiences
from service.audiences.repository import Published
from service.erasures.pending import PendingErasures
from service.exports.cut import Cut
from service.exports.formats import Format
from service.exports.reading import open_export
from service.jobs.lease import Lease
from service.jobs.runner import JobFailed, Outcome
from service.jobs.states import JobError, Stage
from service.jobs.tables import Job
from service.kit.database import Database, JsonObject
from service.tenants import repository as tenants


@dataclass(frozen=True)
class ExportHandler:
    """Handles `export` jobs. `objects` is where audiences lie."""

    database: Database
    objects: ObjectStore

    def __call__(self, job: Job, lease: Lease) -> Outcome:
        """Write the file under a name that no other attempt has: whole or not at all."""
        audience = self._audience(job)
        destination = ObjectStore(self._location(job))
        folder = f"{job.campaign_id}/{job.id}"
        name = f"{folder}/{job.lease_token}"
        file = f"audience.{job.request['format']}"
        for earlier in range(1, job.lease_token):  # what an attempt left that was killed before its end
            destination.delete(f"{folder}/{earlier}")  # and not the folder: a later attempt may be done with its own
        with destination.staging() as scratch:
            made = scratch / "export"
            made.mkdir()
            written = self._write(made / file, job, audience, lease)
            lease.check()
            destination.put_directory(made, name)

        def abandon() -> None:
            destination.delete(name)

        location = f"{destination.url.rstrip('/')}/{name}/{file}"
        return Outcome({"export": {"location": location, **written}}, abandon=abandon)

    def _audience(self, job: Job) -> Published:
        found = audiences.audience_of_job(self.database, job.request["audience_job_id"], job.tenant or "")
        audience = None if found is None else found[1]
        if audience is None or audience.expired:
            raise JobFailed(JobError.INTERNAL, "The audience was deleted before it was exported.")
        return audience

    def _location(self, job: Job) -> str:
        with self.database.read() as session:
            location = tenants.export_location(session, job.tenant or "")
        if location is None:
            raise JobFailed(JobError.INTERNAL, "The tenant has no export location any more.")
        return location

    def _write(self, path: Path, job: Job, audience: Published, lease: Lease) -> JsonObject:
        cut, form = Cut(**job.request["cut"]), Format(job.request["format"])
        gone = PendingErasures(self.database, self.objects).gaps(audience)
        total = len(cut.ranks(audience.size - len(gone)))

        def report(done: int) -> None:
            lease.stage(Stage.PUBLISHING, scored=done, total=total)

        report(0)
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for piece in open_export(self.objects, audience, gone, cut, form, report):
                digest.update(piece)
                file.write(piece)
            size = file.tell()
        return {"bytes": size, "sha256": digest.hexdigest()}
