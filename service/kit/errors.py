"""The one error of the service: a slug of a closed catalogue, turned into RFC 9457 problem+json."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

MEDIA_TYPE: Final = "application/problem+json"
MAX_ERRORS: Final = 20
_MAX_POINTER = 200
_MAX_DETAIL = 2_000


@dataclass(frozen=True)
class ProblemType:
    """What every occurrence of a problem has in common."""

    status: int
    title: str
    explanation: str


@dataclass(frozen=True)
class FieldError:
    """One fault of a request: where it is (a JSON pointer, or a parameter's name) and what it is, without the value."""

    pointer: str
    code: str
    detail: str

    def as_document(self) -> dict[str, str]:
        """The member of `errors`; lengths are bounded because names in a pointer are the caller's."""
        return {"pointer": self.pointer[:_MAX_POINTER], "code": self.code, "detail": self.detail[:_MAX_DETAIL]}


CATALOGUE: Final[Mapping[str, ProblemType]] = MappingProxyType(
    {
        "malformed-request": ProblemType(
            400, "Malformed request", "The body could not be read as what its Content-Type says. Send well-formed data."
        ),
        "invalid-page-token": ProblemType(
            400,
            "Invalid page token",
            "A page token is opaque and belongs to the listing it was given by. Start again without one.",
        ),
        "invalid-parameter": ProblemType(
            400, "Invalid parameter", "A path, query or header parameter has a value that is not allowed."
        ),
        "unauthenticated": ProblemType(
            401, "Authentication required", "Send a valid API key as `Authorization: Bearer <key>`."
        ),
        "insufficient-scope": ProblemType(
            403, "Insufficient scope", "The API key is valid but was made without the scope that this request needs."
        ),
        "not-found": ProblemType(
            404, "Not found", "There is nothing here, or nothing that this API key may know about."
        ),
        "method-not-allowed": ProblemType(
            405, "Method not allowed", "The path exists, the method does not. The Allow header lists those that do."
        ),
        "not-acceptable": ProblemType(
            406, "Not acceptable", "The service cannot answer in any media type of the Accept header."
        ),
        "request-timeout": ProblemType(
            408, "Request time-out", "The request was not received completely in time. Send it again."
        ),
        "job-not-finished": ProblemType(
            409, "Job not finished", "The job has no audience yet. Poll the job until its state is `succeeded`."
        ),
        "job-active": ProblemType(409, "Job active", "The job is still queued or running. Cancel it first."),
        "job-already-finished": ProblemType(409, "Job already finished", "A finished job can no longer be cancelled."),
        "campaign-busy": ProblemType(
            409, "Campaign busy", "A job of this campaign is active, and the request asked to be refused in that case."
        ),
        "model-changed": ProblemType(
            409, "Model changed", "The served model is not, or cannot become, the one that the request expects."
        ),
        "audience-expired": ProblemType(
            410, "Audience expired", "The audience was deleted when its retention time ended. Expand again."
        ),
        "payload-too-large": ProblemType(413, "Payload too large", "The body is longer than this service accepts."),
        "uri-too-long": ProblemType(414, "URI too long", "The request target is longer than this service accepts."),
        "unsupported-media-type": ProblemType(
            415,
            "Unsupported media type",
            "The Content-Type is not one that this path reads, or the body has a Content-Encoding.",
        ),
        "validation-failed": ProblemType(
            422, "Validation failed", "The body is well-formed, but its contents break the rules listed in `errors`."
        ),
        "idempotency-key-reused": ProblemType(
            422,
            "Idempotency key reused",
            "The Idempotency-Key was used before for a different request. Make a new key.",
        ),
        "quota-exceeded": ProblemType(
            429, "Quota exceeded", "A limit of the tenant is reached. Wait as long as Retry-After says."
        ),
        "headers-too-large": ProblemType(
            431, "Headers too large", "The request's header fields are longer than this service accepts."
        ),
        "internal": ProblemType(
            500, "Internal error", "Something failed that should not. The request_id finds it in the service's log."
        ),
        "dependency-unavailable": ProblemType(
            503, "Dependency unavailable", "Something that the service needs is away or busy. Try again soon."
        ),
        # What ends a job, seen in a Job's `error`.
        "too-few-matched-seeds": ProblemType(
            422, "Too few matched seeds", "Fewer distinct seed users than required are in the pool."
        ),
        "attempts-exhausted": ProblemType(
            500, "Attempts exhausted", "The job was started as often as allowed and no attempt came to an end."
        ),
        "deadline-exceeded": ProblemType(
            504, "Deadline exceeded", "The job was not finished by its deadline. See `deadline_seconds`."
        ),
        "model-unavailable": ProblemType(
            503, "Model unavailable", "The model of the job is missing or cannot be loaded."
        ),
        "pool-unavailable": ProblemType(
            503, "Pool unavailable", "The user pool of the job is missing or cannot be read."
        ),
        "out-of-memory": ProblemType(500, "Out of memory", "The job needed more memory than the worker has."),
    }
)


class Problem(Exception):
    """A failure with a slug of the catalogue: `raise Problem("campaign-busy", detail="...")`.

    `detail` is for the caller's eyes: it names limits and fields, never other people's data nor the input's values.
    """

    def __init__(
        self,
        slug: str,
        detail: str | None = None,
        *,
        errors: tuple[FieldError, ...] = (),
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        problem = CATALOGUE[slug]
        super().__init__(detail or problem.explanation)
        self.slug = slug
        self.status = problem.status
        self.title = problem.title
        self.detail = (detail or problem.explanation)[:_MAX_DETAIL]
        self.errors = errors
        self.headers = headers

    def as_document(self, request_id: str | None = None) -> dict[str, Any]:
        """The problem+json object; a stored job error has no request of its own, so `request_id` may be absent."""
        document: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if request_id is not None:
            document["request_id"] = request_id
        if self.errors:
            document["errors"] = [error.as_document() for error in self.errors[:MAX_ERRORS]]
        return document


def validation_failed(*errors: FieldError) -> Problem:
    """The 422 for contents that break a rule; the first fault is its detail, so that a log line says enough."""
    return Problem("validation-failed", f"{errors[0].pointer or 'The body'}: {errors[0].detail}", errors=errors)


def unavailable(detail: str, *, retry_after: int = 5) -> Problem:
    """The 503 for a store that is away, with the Retry-After that it must carry."""
    return Problem("dependency-unavailable", detail, headers={"Retry-After": str(retry_after)})
