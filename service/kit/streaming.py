"""Long answers made piece by piece in worker threads, no faster than the caller reads them."""

from collections.abc import Generator, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class PiecewiseResponse(StreamingResponse):
    """Bytes of a generator: the next piece is made once the one before is on its way. When the caller has gone, the
    generator is closed where it stands."""

    def __init__(self, pieces: Generator[bytes, None, None], headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(pieces, headers=headers)
        self.headers["Content-Type"] = media_type
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pieces.close()
