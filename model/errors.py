"""What model/ raises on purpose; `str()` of each is a sentence for a person."""

from typing import Literal

LoadFault = Literal["missing", "sha", "format", "schema", "non_finite", "canary", "io"]
"""Why a checkpoint does not load: a file is not there, bytes have changed, what is written there cannot be read or does
not fit together, numbers are not finite, the model scores otherwise than when it was saved, the machine failed."""


class ModelError(Exception):
    """The base of them all."""


class DataError(ModelError):
    """Data that cannot be used: says which file, column and row (counted from 0, without a header)."""

    def __init__(
        self, reason: str, *, file: str | None = None, column: str | None = None, row: int | None = None
    ) -> None:
        place = [
            part
            for part in (
                file,
                None if column is None else f"column {column!r}",
                None if row is None else f"row {row}",
            )
            if part is not None
        ]
        super().__init__(f"{', '.join(place)}: {reason}" if place else reason)
        self.reason = reason
        self.file = file
        self.column = column
        self.row = row


class PoolError(ModelError):
    """A user pool that cannot be made or opened."""


class CheckpointError(ModelError):
    """A checkpoint that cannot be trusted or read, and the kind of fault."""

    def __init__(self, reason: str, fault: LoadFault = "format") -> None:
        super().__init__(reason)
        self.fault: LoadFault = fault


class AdaptationError(ModelError):
    """Seeds and negatives from which no campaign head can be made; `fault` says in a word why."""

    def __init__(self, detail: str, fault: Literal["diverged", "non_finite"] = "diverged") -> None:
        super().__init__(detail)
        self.fault = fault


class StoreError(ModelError):
    """A store of objects that cannot be used."""


class ObjectExists(StoreError):
    """There is an object of this name already, and objects are never overwritten."""


class ObjectMissing(StoreError):
    """There is no object of this name."""


class ScoreError(ModelError):
    """An adapted model gives a score that is not a number."""
