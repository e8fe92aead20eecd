"""The console: a page for people, which speaks to the service as any other caller does. It holds no data itself."""

from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.kit.errors import Problem

MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
INDEX = "index.html"
# The page runs nothing and asks nobody but this service, and nobody may frame it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def console_router() -> APIRouter:
    """`/console` and the files it is made of, read once."""
    router = APIRouter(include_in_schema=False)
    parts = {part.name: part.read_bytes() for part in files(__package__).joinpath("static").iterdir()}

    @router.get("/console")
    async def read_console() -> Response:
        return _answer(INDEX)

    @router.get("/console/{name}")
    async def read_part(name: Annotated[str, Path()]) -> Response:
        return _answer(name)

    def _answer(name: str) -> Response:
        if name not in parts:
            raise Problem("not-found")
        media_type = MEDIA_TYPES["." + name.rsplit(".", maxsplit=1)[-1]]
        return Response(parts[name], media_type=media_type, headers=HEADERS)

    return router
