"""What endpoints ask for that read audiences."""

from typing import Annotated

from fastapi import Depends, Request

from service.audiences.cache import AudienceCache
from service.audiences.service import AudienceReader


async def _audiences(request: Request) -> AudienceReader:
    state = request.app.state
    cache = AudienceCache(state.cache, state.settings.audience_retention_days)
    return AudienceReader(
        state.database,
        cache,
        state.artifacts.audiences,
        state.recent_audiences,
        state.metrics,
        state.pending_erasures,
    )


Audiences = Annotated[AudienceReader, Depends(_audiences)]
