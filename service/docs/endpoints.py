"""OpenAPI, its pages, and a page per problem."""

from functools import cache
from html import escape

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from service.docs.schemas import ProblemPage
from service.kit.auth import require_key
from service.kit.errors import CATALOGUE, Problem
from service.kit.media import JSON, negotiate
from service.kit.pages import Pages

HTML = "text/html"


def docs_router(*, with_key: bool) -> APIRouter:
    """`/openapi.json` and `/docs`, for anybody or for the bearer of any key."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(require_key)] if with_key else [])
    pages = Pages(__package__)

    @cache  # it takes a while, and anybody may ask for it
    def described(app: FastAPI) -> bytes:
        return bytes(JSONResponse(app.openapi()).body)

    @router.get("/openapi.json")
    async def read_openapi(request: Request) -> Response:
        return Response(described(request.app), media_type=JSON)

    @router.get("/docs")
    async def read_docs() -> Response:
        return pages.answer("docs.html")

    @router.get("/docs/{name}")
    async def read_part(name: str) -> Response:
        return pages.answer(name)

    return router


def problems_router() -> APIRouter:
    """`/problems/{slug}`: where the `type` of every problem leads."""
    router = APIRouter(tags=["problems"])

    @router.get("/problems/{slug}", response_model=ProblemPage)
    def read_problem(request: Request, slug: str) -> Response:
        """What a problem means and what to do about it, as HTML or JSON."""
        problem = CATALOGUE.get(slug)
        if problem is None:
            raise Problem("not-found")
        page = ProblemPage(
            type=f"/problems/{slug}", title=problem.title, status=problem.status, explanation=problem.explanation
        )
        if negotiate(request, (JSON, HTML)) == HTML:
            return HTMLResponse(_html(page))
        return Response(page.model_dump_json(), media_type=JSON)

    return router


def _html(page: ProblemPage) -> str:
    title, explanation = escape(page.title), escape(page.explanation)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1><p>HTTP {page.status}, <code>{escape(page.type)}</code></p><p>{explanation}</p></html>"
    )
