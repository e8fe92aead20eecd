"""What endpoints ask for that read audiences, or delete jobs that have some."""

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import BackgroundTasks, Depends, Request
from sqlalchemy.orm import Session

from service.audiences.cache import AudienceCache
from service.audiences.retention import discard
from service.audiences.service import AudienceReader, RecentAudiences
from service.kit.dependencies import after_commit, of_app

AppRecentAudiences = Annotated[RecentAudiences, of_app("recent_audiences")]
# The session that deletes jobs, and the job and the size of each of their audiences.
Discarding = Callable[[Session, Sequence[tuple[str, int]]], None]


async def _audiences(request: Request) -> AudienceReader:
    state = request.app.state
    return AudienceReader(
        state.database,
        _cache(request),
        state.artifacts.audiences,
        state.recent_audiences,
        state.metrics,
        state.pending_erasures,
    )


async def _discarding(request: Request, background: BackgroundTasks) -> Discarding:
    """After the commit nobody is shown these audiences any more, and after the answer they are deleted."""

    def discard_soon(session: Session, gone: Sequence[tuple[str, int]]) -> None:
        after_commit(session, request.app.state.recent_audiences.forget)
        background.add_task(discard, request.app.state.artifacts.audiences, _cache(request), gone)

    return discard_soon


def _cache(request: Request) -> AudienceCache:
    return AudienceCache(request.app.state.cache, request.app.state.settings.audience_retention_days)


Audiences = Annotated[AudienceReader, Depends(_audiences)]
Discard = Annotated[Discarding, Depends(_discarding)]
