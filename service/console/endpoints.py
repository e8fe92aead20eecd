"""The console: a page for people, which speaks to the service as any other caller does. It holds no data itself."""

from fastapi import APIRouter, Response

from service.kit.pages import Pages

INDEX = "index.html"


def console_router() -> APIRouter:
    """`/console` and the files it is made of."""
    router = APIRouter(include_in_schema=False)
    pages = Pages(__package__)

    @router.get("/console")
    async def read_console() -> Response:
        return pages.answer(INDEX)

    @router.get("/console/{name}")
    async def read_part(name: str) -> Response:
        return pages.answer(name)

    return router
