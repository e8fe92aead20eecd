"""The current pool snapshot, and the body of an import."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from model.user_ids import IdKind
from service.kit.bodies import Given


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
    """What POST /pool/imports reads. `users`: a Parquet file under IMPORT_ROOT; `schema`: as in a dataset's, and if it
    is given to upsert or delete, the pool's own."""

    users: Annotated[str, Field(min_length=1, max_length=1_024)]
    features: Given[dict[str, Any]] = Field(default=None, alias="schema")
    mode: Literal["replace", "upsert", "delete"] = "replace"
