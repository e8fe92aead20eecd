"""What routes say of themselves for the OpenAPI document."""

from typing import Any

from service.kit.errors import CATALOGUE

PROBLEMS = "x-problems"


def problems(*slugs: str) -> dict[str, Any]:
    """For `openapi_extra`: what a route can end in beside what every route of its kind can."""
    unknown = set(slugs) - CATALOGUE.keys()
    if unknown:
        raise ValueError(f"not in the catalogue of problems: {', '.join(sorted(unknown))}")
    return {PROBLEMS: list(slugs)}
