"""Which cut of an audience a caller wants, as query parameters and as a body."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from service.exports.cut import Cut
from service.kit.bodies import Given
from service.kit.errors import FieldError, Problem, validation_failed

MAX_RANK = 1 << 53

Rank = Annotated[int, Field(ge=1, lt=MAX_RANK)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

_BACKWARDS = "to_rank must not be below from_rank"


class ExportForm(BaseModel):
    """What POST /campaigns/{campaign_id}/audience/exports reads; without ranks and a score it is the whole audience."""

    format: Literal["csv", "ndjson", "parquet", "arrow"] = "csv"
    from_rank: Given[Rank] = None
    to_rank: Given[Rank] = None
    min_score: Given[Score] = None

    def cut(self) -> Cut:
        """What to export. Problem validation-failed."""
        cut = Cut(self.from_rank or 1, self.to_rank, self.min_score)
        if cut.is_backwards:
            raise validation_failed(FieldError("/to_rank", "empty-range", _BACKWARDS))
        return cut


async def query_cut(
    from_rank: Annotated[int, Query(ge=1, lt=MAX_RANK)] = 1,
    to_rank: Annotated[int | None, Query(ge=1, lt=MAX_RANK)] = None,
    min_score: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
) -> Cut:
    """A dependency that reads the cut from the query. Problem invalid-parameter."""
    cut = Cut(from_rank, to_rank, min_score)
    if cut.is_backwards:
        raise Problem("invalid-parameter", f"{_BACKWARDS}.")
    return cut
