"""The current pool snapshot, and the body of an import."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from model.user_ids import IdKind
from service.kit.bodies import Given

LONGEST_LOCATION = 1_024


def _object_or_location(value: Any) -> Any:
    if isinstance(value, dict) or (isinstance(value, str) and 0 < len(value) <= LONGEST_LOCATION):
        return value
    raise PydanticCustomError("object_or_location", "", {"max_length": LONGEST_LOCATION})


SchemaOrLocation = Annotated[dict[str, Any] | str, BeforeValidator(_object_or_location)]


class PoolView(BaseModel):
    """The served snapshot; `pending` is one that waits for its representation under the model."""

    snapshot_id: str
    size: int
    sha256: str
    as_of: datetime
    features: list[dict[str, Any]]
    id_kind: IdKind
    pending: str | None


class ImportForm(BaseModel):
    """What POST /pool/imports reads. `users`: a Parquet file under IMPORT_ROOT; `schema`: as in a dataset's, or the
    JSON file under IMPORT_ROOT that holds it; if it is given to upsert or delete, the pool's own."""

    users: Annotated[str, Field(min_length=1, max_length=LONGEST_LOCATION)]
    features: Given[SchemaOrLocation] = Field(default=None, alias="schema")
    mode: Literal["replace", "upsert", "delete"] = "replace"
